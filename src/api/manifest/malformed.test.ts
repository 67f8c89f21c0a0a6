// Every way in which a manifest can be wrong, each with the one place and sentence that the person who wrote it gets.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatManifestError } from './manifest-error.ts';
import { type ReadOptions, readManifests } from './read.ts';

const HEAD = `apiVersion: bulkhead.dev/v1alpha1
kind: Sandbox
metadata:
  name: agent
`;

/** A Sandbox whose `spec` has these lines below `image`, which stands on line 6. */
function withSpec(lines: string): string {
  return `${HEAD}spec:\n  image: busybox\n${lines}`;
}

/** Another good document after a bad one: it must come through. */
const GOOD = `---
apiVersion: bulkhead.dev/v1alpha1
kind: Sandbox
metadata: {name: bystander}
spec: {image: busybox}
`;

interface Malformed {
  name: string;
  yaml: string | Uint8Array;
  /** Beginning of each error, in order, without the file name. */
  errors: (string | RegExp)[];
  options?: ReadOptions;
}

function check({ name, yaml, errors, options }: Malformed): void {
  test(name, () => {
    const bytes = typeof yaml === 'string' ? Buffer.from(yaml) : yaml;
    const result = readManifests(bytes, 'bad.yaml', options);
    assert.deepEqual(result.objects, [], 'a malformed document gave an object');
    assertErrors(result.errors.map(formatManifestError), errors);

    const isolated = readManifests(Buffer.concat([bytes, Buffer.from(`\n${GOOD}`)]), 'bad.yaml', options);
    assert.deepEqual(
      isolated.objects.map((each) => each.manifest.metadata.name),
      ['bystander'],
      'the mistake cost the other document of the file',
    );
    assertErrors(isolated.errors.map(formatManifestError), errors);
  });
}

function assertErrors(actual: readonly string[], expected: readonly (string | RegExp)[]): void {
  assert.equal(actual.length, expected.length, `errors:\n${actual.join('\n')}`);
  for (const [index, each] of expected.entries()) {
    const text = actual[index] ?? '';
    if (typeof each === 'string') assert.equal(text, `bad.yaml:${each}`);
    else assert.match(text, each);
  }
}

describe('unknown fields are named with the nearest valid one', () => {
  check({
    name: 'a misspelt field of the spec',
    yaml: withSpec('  restartPolcy: Always\n'),
    errors: ['7:3: document 1: spec.restartPolcy: unknown field, did you mean restartPolicy?'],
  });
  check({
    name: 'a misspelt field in a nested mapping',
    yaml: withSpec('  resources:\n    memroy: 1Gi\n'),
    errors: ['8:5: document 1: spec.resources.memroy: unknown field, did you mean memory?'],
  });
  check({
    name: 'a misspelt field in a list item',
    yaml: withSpec('  env:\n    - name: A\n      vlaue: b\n'),
    errors: ['9:7: document 1: spec.env[0].vlaue: unknown field, did you mean value?'],
  });
  check({
    name: 'a field of the wrong case',
    yaml: withSpec('  workingdir: /srv\n'),
    errors: ['7:3: document 1: spec.workingdir: unknown field, did you mean workingDir?'],
  });
  check({
    name: 'a field that is like no other lists the valid ones',
    yaml: withSpec('  resources: {gpu: 1}\n'),
    errors: ['7:15: document 1: spec.resources.gpu: unknown field, expected one of cpus, memory, disk'],
  });
  check({
    name: 'a misspelt field of the metadata',
    yaml: 'apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {name: a, lables: {x: "y"}}\nspec: {image: b}\n',
    errors: ['3:21: document 1: metadata.lables: unknown field, did you mean labels?'],
  });
  check({
    name: 'a field beside spec',
    yaml: `${withSpec('')}specs: {}\n`,
    errors: ['7:1: document 1: specs: unknown field, did you mean spec?'],
  });
  check({
    name: 'a field of a Pod that a Sandbox does not have',
    yaml: withSpec('  containers: []\n'),
    errors: [/spec\.containers: unknown field, expected one of image, /],
  });
  check({
    name: 'a key with control characters is escaped, not printed',
    yaml: withSpec('  "\\u001b[31mred": 1\n'),
    errors: [/spec\["\\u001b\[31mred"\]: unknown field/],
  });
});

describe('what an object is must be said, and known', () => {
  check({
    name: 'no apiVersion',
    yaml: 'kind: Sandbox\nmetadata: {name: a}\nspec: {image: b}\n',
    errors: ['1:1: document 1: apiVersion: missing, expected "bulkhead.dev/v1alpha1"'],
  });
  check({
    name: 'another apiVersion',
    yaml: 'apiVersion: bulkhead.dev/v1\nkind: Sandbox\nmetadata: {name: a}\nspec: {image: b}\n',
    errors: ['1:13: document 1: apiVersion: found "bulkhead.dev/v1", expected "bulkhead.dev/v1alpha1"'],
  });
  check({
    name: "Kubernetes' own NetworkPolicy",
    yaml: 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec: {}\n',
    errors: ['1:13: document 1: apiVersion: found "networking.k8s.io/v1", expected "bulkhead.dev/v1alpha1"'],
  });
  check({
    name: 'an apiVersion that is a number',
    yaml: 'apiVersion: 1\nkind: Sandbox\nmetadata: {name: a}\nspec: {image: b}\n',
    errors: ['1:13: document 1: apiVersion: found 1 (a number), expected "bulkhead.dev/v1alpha1"'],
  });
  check({
    name: 'no kind',
    yaml: 'apiVersion: bulkhead.dev/v1alpha1\nmetadata: {name: a}\nspec: {image: b}\n',
    errors: [
      '1:1: document 1: kind: missing, expected one of Secret, ConfigMap, NetworkPolicy, Volume, Sandbox',
    ],
  });
  check({
    name: 'a misspelt kind',
    yaml: 'apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbx\nmetadata: {name: a}\nspec: {image: b}\n',
    errors: [/^bad\.yaml:2:7: document 1: kind: found "Sandbx", expected one of .*; did you mean Sandbox\?$/],
  });
  check({
    name: 'a kind of Kubernetes that means nothing here',
    yaml: 'apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {}\n',
    errors: [/kind: found "Pod", expected one of Secret, ConfigMap/],
  });
  check({
    name: 'a plain string in place of an object',
    yaml: 'just some text\n',
    errors: [
      /^bad\.yaml:1:1: document 1: found "just some text" \(a string\), expected a mapping with apiVersion/,
    ],
  });
  check({
    name: 'a list in place of an object',
    yaml: '- image: busybox\n',
    errors: [/document 1: found a list, expected a mapping with apiVersion/],
  });
  check({
    name: 'no metadata',
    yaml: 'apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nspec: {image: b}\n',
    errors: ['1:1: document 1: metadata: missing, expected a mapping'],
  });
  check({
    name: 'no name',
    yaml: 'apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {}\nspec: {image: b}\n',
    errors: [/^bad\.yaml:3:11: document 1: metadata\.name: missing, expected a name of lower-case letters/],
  });
  check({
    name: 'generateName, which a folder cannot honour',
    yaml: 'apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {generateName: a-}\nspec: {image: b}\n',
    errors: [/metadata\.name: missing/, /metadata\.generateName: unknown field/],
  });
  check({
    name: 'no spec',
    yaml: HEAD,
    errors: ['1:1: document 1: spec: missing, expected a mapping'],
  });
  check({
    name: 'a spec with nothing below it',
    yaml: `${HEAD}spec:\n`,
    errors: ['5:1: document 1: spec: missing, expected a mapping'],
  });
  check({
    name: 'no image',
    yaml: `${HEAD}spec:\n  driver: Auto\n`,
    errors: [
      '6:3: document 1: spec.image: missing, expected an image reference, such as "docker.io/library/python:3.13"',
    ],
  });
});

describe('names are safe as paths, host names and labels', () => {
  const named = (name: string) =>
    `apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {name: ${name}}\nspec: {image: b}\n`;
  for (const [what, name] of [
    ['upper case', 'Agent'],
    ['a slash', '"a/b"'],
    ['two dots', '".."'],
    ['an underscore', 'my_agent'],
    ['a leading dash', '"-a"'],
    ['a trailing dot', '"a."'],
    ['nothing', '""'],
    ['a space', '"a b"'],
    ['a line break', '"a\\nb"'],
    ['254 characters', 'a'.repeat(254)],
  ] as const) {
    check({
      name: `a name with ${what}`,
      yaml: named(name),
      errors: [
        /^bad\.yaml:3:18: document 1: metadata\.name: found .*, expected a name of lower-case letters/,
      ],
    });
  }
  check({
    name: 'a name that YAML reads as a number',
    yaml: named('123'),
    errors: [/metadata\.name: found 123 \(a number\), expected a name .*; put it in quotes$/],
  });
  check({
    name: 'a name that YAML reads as a boolean',
    yaml: named('on'),
    errors: [/metadata\.name: found true \(a boolean\), .*; put it in quotes$/],
  });
  check({
    name: 'a namespace with dots',
    yaml: 'apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {name: a, namespace: a.b}\nspec: {image: b}\n',
    errors: [/metadata\.namespace: found "a\.b", expected a namespace of lower-case/],
  });
  check({
    name: 'a label value that is too long',
    yaml: `apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {name: a, labels: {x: ${'y'.repeat(64)}}}\nspec: {image: b}\n`,
    errors: [/metadata\.labels\.x: found 64 characters, expected a label value: at most 63/],
  });
  check({
    name: 'a label key that is none',
    yaml: 'apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {name: a, labels: {"a b": c}}\nspec: {image: b}\n',
    errors: [/^bad\.yaml:3:\d+: document 1: metadata\.labels\["a b"\]: found the key "a b", expected a key/],
  });
  check({
    name: 'annotations beyond 256 KiB',
    yaml: `apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {name: a, annotations: {a: ${'x'.repeat(200_000)}, b: ${'x'.repeat(70_000)}}}\nspec: {image: b}\n`,
    errors: [/metadata\.annotations: found 270002 bytes, expected at most 262144 bytes in all/],
  });
  check({
    name: 'a host name with dots',
    yaml: withSpec('  hostname: a.b\n'),
    errors: [/spec\.hostname: found "a\.b", expected a host name of lower-case/],
  });
});

describe('wrong types say what was found and what was expected', () => {
  check({
    name: 'text for an integer',
    yaml: withSpec('  resources: {cpus: two}\n'),
    errors: [
      '7:21: document 1: spec.resources.cpus: found "two" (a string), expected an integer from 1 to 32',
    ],
  });
  check({
    name: 'a fraction for an integer',
    yaml: withSpec('  resources: {cpus: 1.5}\n'),
    errors: [/spec\.resources\.cpus: found 1\.5 \(a number\), expected an integer from 1 to 32/],
  });
  check({
    name: 'infinity for an integer',
    yaml: withSpec('  terminationGracePeriodSeconds: .inf\n'),
    errors: [/spec\.terminationGracePeriodSeconds: found Infinity/],
  });
  check({
    name: 'a bare number for a quantity',
    yaml: withSpec('  resources: {memory: 512}\n'),
    errors: [/spec\.resources\.memory: found 512 \(a number\), expected a quantity .*; put it in quotes$/],
  });
  check({
    name: 'a bare number for a user',
    yaml: withSpec('  user: 1000\n'),
    errors: [/spec\.user: found 1000 \(a number\), expected a user in quotes/],
  });
  check({
    name: 'a boolean for an environment variable',
    yaml: withSpec('  env: [{name: A, value: yes}]\n'),
    errors: [/spec\.env\[0\]\.value: found true \(a boolean\), expected .*; put it in quotes$/],
  });
  check({
    name: 'a mapping for a list',
    yaml: withSpec('  env:\n    MODE: test\n'),
    errors: ['8:5: document 1: spec.env: found a mapping, expected a list of at most 256 items'],
  });
  check({
    name: 'a list for a mapping',
    yaml: withSpec('  resources: [1]\n'),
    errors: ['7:14: document 1: spec.resources: found a list, expected a mapping'],
  });
  check({
    name: 'a string for a list of arguments',
    yaml: withSpec('  main: {args: --verbose}\n'),
    errors: [/spec\.main\.args: found "--verbose" \(a string\), expected a list/],
  });
  check({
    name: 'a number among arguments',
    yaml: withSpec('  main: {args: [-p, 8000]}\n'),
    errors: [
      /^bad\.yaml:7:21: document 1: spec\.main\.args\[1\]: found 8000 \(a number\).*put it in quotes$/,
    ],
  });
  check({
    name: 'an empty list item',
    yaml: withSpec('  main:\n    args:\n      -\n'),
    errors: [/spec\.main\.args\[0\]: found nothing, expected a string/],
  });
  check({
    name: 'a string for a boolean',
    yaml: withSpec(
      '  volumes: [{name: d, volume: {name: d}}]\n  volumeMounts: [{name: d, mountPath: /d, readOnly: "true"}]\n',
    ),
    errors: [/spec\.volumeMounts\[0\]\.readOnly: found "true" \(a string\), expected true or false/],
  });
});

describe('values out of bounds', () => {
  for (const [name, lines, error] of [
    ['no cpu', 'resources: {cpus: 0}', /cpus: found 0, expected an integer from 1 to 32/],
    ['too many cpus', 'resources: {cpus: 33}', /cpus: found 33, expected an integer from 1 to 32/],
    ['too little memory', 'resources: {memory: 1Mi}', /memory: memory must be between 64Mi and 1Ti/],
    ['too much disk', 'resources: {disk: 1Ei}', /disk: disk must be between 64Mi and 16Ti/],
    ['negative memory', 'resources: {memory: "-1Gi"}', /memory: found "-1Gi", expected a quantity/],
    ['an unknown unit', 'resources: {memory: 512MB}', /memory: found "512MB", expected a quantity/],
    [
      'an endless quantity',
      `resources: {memory: "${'9'.repeat(33)}"}`,
      /memory: found 33 characters, expected/,
    ],
    [
      'a negative grace period',
      'terminationGracePeriodSeconds: -1',
      /Seconds: found -1, expected an integer from 0/,
    ],
    ['a deadline of no time', 'activeDeadlineSeconds: 0', /found 0, expected an integer from 1/],
    [
      'a value beyond its words',
      'restartPolicy: Sometimes',
      /found "Sometimes", expected one of Always, OnFailure, Never$/,
    ],
    [
      'a word of the wrong case',
      'driver: software',
      /found "software", expected one of .*; did you mean Software\?$/,
    ],
    ['an image with a space', 'user: a b', /spec\.user: found "a b"/],
    ['a relative working directory', 'workingDir: srv', /workingDir: found "srv", expected an absolute path/],
    [
      'a working directory that climbs',
      'workingDir: /srv/../etc',
      /workingDir: path must not contain "\.\."/,
    ],
    ['a time without a zone', 'shutdownTime: 2026-12-01T00:00:00', /shutdownTime: found .*, expected a time/],
    ['the 30th of February', 'shutdownTime: 2026-02-30T00:00:00Z', /shutdownTime: found .*, expected a time/],
    [
      'a port of 0',
      'ports: [{name: web, port: 0}]',
      /ports\[0\]\.port: found 0, expected an integer from 1 to 65535/,
    ],
    ['a port of 65536', 'ports: [{name: web, port: 65536}]', /ports\[0\]\.port: found 65536/],
    [
      'a host address that is a name',
      'ports: [{name: web, port: 1, hostIP: localhost}]',
      /hostIP: hostIP must be an IP address/,
    ],
    [
      'a variable name with =',
      'env: [{name: "A=B"}]',
      /env\[0\]\.name: found "A=B", expected a variable name/,
    ],
    ['a NUL in an argument', 'main: {args: ["a\\0b"]}', /args\[0\]: found "a\\u0000b", expected/],
    [
      'a value of 40,000 characters',
      `env: [{name: A, value: ${'x'.repeat(40_000)}}]`,
      /value: found 40000 characters/,
    ],
    [
      '257 arguments',
      `main: {args: [${'a,'.repeat(257)}]}`,
      /args: found 257 items, expected a list of at most 256 items/,
    ],
    [
      '257 variables',
      `env: [${Array.from({ length: 257 }, (_, i) => `{name: V${i}}`).join(',')}]`,
      /env: found 257 items/,
    ],
  ] as const) {
    check({ name, yaml: withSpec(`  ${lines}\n`), errors: [error] });
  }
  check({
    name: 'an image reference with a space',
    yaml: `${HEAD}spec: {image: "busy box"}\n`,
    errors: [/spec\.image: found "busy box", expected an image reference/],
  });
  check({
    name: 'an image reference that is an option',
    yaml: `${HEAD}spec: {image: "--help"}\n`,
    errors: [/spec\.image: found "--help", expected an image reference/],
  });
});

describe('fields that contradict each other', () => {
  for (const [name, lines, error] of [
    [
      'a variable twice',
      'env: [{name: A}, {name: A}]',
      /env\[1\]: found name "A" again \(first in item 0\); remove or rename one$/,
    ],
    [
      'a port name twice',
      'ports: [{name: a, port: 1}, {name: a, port: 2}]',
      /ports\[1\]: found name "a" again/,
    ],
    [
      'a host port twice',
      'ports: [{name: a, port: 1, hostPort: 80}, {name: b, port: 2, hostPort: 80}]',
      /spec\.ports: ports must not publish the same hostIP, hostPort and protocol twice/,
    ],
    [
      'a variable with value and valueFrom',
      'env: [{name: A, value: b, valueFrom: {secretKeyRef: {name: s, key: k}}}]',
      /env\[0\]: env must not have both/,
    ],
    [
      'a valueFrom without a source',
      'env: [{name: A, valueFrom: {}}]',
      /valueFrom: valueFrom must have exactly one of secretKeyRef, configMapKeyRef/,
    ],
    ['a volume without a source', 'volumes: [{name: a}]', /volumes\[0\]: a volume must have exactly one of/],
    [
      'a volume with two sources',
      'volumes: [{name: a, volume: {name: b}, tmpfs: {size: 1Mi}}]',
      /volumes\[0\]: a volume must have exactly one of/,
    ],
    [
      'a mount of no volume',
      'volumeMounts: [{name: a, mountPath: /a}]',
      /spec\.volumeMounts: volumeMounts must name an entry of volumes/,
    ],
    [
      'a mount over the root',
      'volumes: [{name: a, volume: {name: b}}]\n  volumeMounts: [{name: a, mountPath: /}]',
      /mountPath: mountPath must not be \/, \/proc/,
    ],
    [
      'a patch of two kinds',
      'patches: [{mkdir: {path: /a}, remove: {path: /b}}]',
      /patches\[0\]: a patch must have exactly one of/,
    ],
    ['a patch that climbs', 'patches: [{remove: {path: /a/../..}}]', /path: path must not contain "\.\."/],
    [
      'a copy from outside the folder',
      'patches: [{copy: {from: ../secrets, path: /a}}]',
      /from: from must not contain "\.\."/,
    ],
    [
      'a copy from an absolute path',
      'patches: [{copy: {from: /etc/shadow, path: /a}}]',
      /from: found "\/etc\/shadow", expected a path relative to the manifest/,
    ],
    [
      'permission bits without quotes',
      'patches: [{mkdir: {path: /a, mode: 0755}}]',
      /mode: found 493 \(a number\), expected octal permission bits in quotes/,
    ],
    [
      'a secret without hosts',
      'secrets: [{env: A, valueFrom: {secretKeyRef: {name: s, key: k}}, allowHosts: []}]',
      /allowHosts: found \d|allowHosts: found a list, expected a list of 1 to 64 items/,
    ],
    [
      'a secret and a variable of one name',
      'env: [{name: A}]\n  secrets: [{env: A, valueFrom: {secretKeyRef: {name: s, key: k}}, allowHosts: [a.b]}]',
      /spec\.secrets: secrets must not set a variable that env sets too/,
    ],
  ] as const) {
    check({ name, yaml: withSpec(`  ${lines}\n`), errors: [error] });
  }
});

describe('broken YAML', () => {
  for (const [name, yaml, error] of [
    ['an unclosed bracket', `${HEAD}spec: {image: b\n`, /document 1: not YAML: /],
    ['an unclosed quote', `${HEAD}spec: {image: "b}\n`, /document 1: not YAML: /],
    ['a tab for indentation', `${HEAD}spec:\n\timage: b\n`, /^bad\.yaml:6:\d+: document 1: not YAML: /],
    [
      'wrong indentation',
      `${HEAD}spec:\n  image: b\n driver: Auto\n`,
      /^bad\.yaml:7:\d+: document 1: not YAML: /,
    ],
    [
      'a key twice',
      withSpec('  user: a\n  user: b\n'),
      /^bad\.yaml:8:3: document 1: found the key "user" twice/,
    ],
    ['a key twice in one line', withSpec('  resources: {cpus: 1, cpus: 2}\n'), /found the key "cpus" twice/],
    ['a list as a key', withSpec('  ? [a]\n  : b\n'), /found a list or mapping as a key/],
    ['an empty key', withSpec('  : b\n'), /found an empty key/],
    ['the key __proto__', withSpec('  __proto__: {}\n'), /found the key "__proto__"/],
    [
      'an alias without an anchor',
      withSpec('  user: *nobody\n'),
      /found an alias without its anchor, "nobody"/,
    ],
    [
      'an alias of what it stands in',
      withSpec('  main: &m {args: [*m]}\n'),
      /found an alias of what it stands in, "m"/,
    ],
    ['a merge key without a mapping', withSpec('  resources: {<<: 1}\n'), /found a merge key/],
    [
      'a tag that makes objects',
      withSpec('  user: !!js/function x\n'),
      /found the tag "!!js\/function", expected none/,
    ],
    ['a binary tag', withSpec('  user: !!binary eA==\n'), /found the tag "!!binary", expected none/],
    ['a tag of an application', withSpec('  user: !Ref x\n'), /found the tag "!Ref", expected none/],
    ['an int tag on text', withSpec('  user: !!int x\n'), /found the tag "!!int"/],
    ['lists nested a thousand deep', `a: ${'['.repeat(1000)}${']'.repeat(1000)}\n`, /nested deeper than 32/],
    [
      'mappings nested a thousand deep',
      `${'{a: '.repeat(1000)}1${'}'.repeat(1000)}\n`,
      /nested deeper than 32/,
    ],
    ['a Unicode control character', withSpec('  user: "\u0008"\n'), /not YAML: |spec\.user: found/],
  ] as const) {
    check({ name, yaml, errors: [error] });
  }

  check({
    name: 'an alias bomb costs nothing and is refused',
    yaml: bomb(9, 9),
    errors: [/document 1: found aliases that stand for more than 10000 values/],
  });
  check({
    name: 'an alias bomb of merge keys is refused',
    yaml: mergeBomb(),
    errors: [/document 1: found aliases that stand for more than 10000 values/],
  });
  check({
    name: 'more values than a document may have',
    yaml: `a: [${'1,'.repeat(250_000)}]\n`,
    errors: [/document 1: found more than 200000 values/],
  });
});

function bomb(width: number, depth: number): string {
  const lines = [`a0: &a0 [${'x,'.repeat(width)}]`];
  for (let level = 1; level <= depth; level += 1) {
    lines.push(`a${level}: &a${level} [${`*a${level - 1},`.repeat(width)}]`);
  }
  return `${lines.join('\n')}\n`;
}

function mergeBomb(): string {
  const fields = Array.from({ length: 100 }, (_, index) => `k${index}: 1`).join(', ');
  const merges = Array.from({ length: 200 }, (_, index) => `m${index}: {<<: [*base]}`).join('\n');
  return `base: &base {${fields}}\n${merges}\n`;
}

describe('bytes that are no text', () => {
  check({
    name: 'a NUL byte',
    yaml: withSpec('  user: "a\0b"\n'),
    errors: ['7:11: document 1: found a NUL character, expected text; remove it'],
  });
  check({
    name: 'a byte that is not UTF-8',
    yaml: Buffer.concat([Buffer.from(withSpec('  user: ')), Buffer.from([0xff, 0x0a])]),
    errors: ['7:9: document 1: found bytes that are not UTF-8, expected UTF-8; save the file as UTF-8'],
  });
  check({
    name: 'an overlong UTF-8 sequence',
    yaml: Buffer.concat([Buffer.from(withSpec('  user: ')), Buffer.from([0xc0, 0xaf, 0x0a])]),
    errors: [/^bad\.yaml:7:9: document 1: found bytes that are not UTF-8/],
  });
  check({
    name: 'a surrogate in UTF-8',
    yaml: Buffer.concat([Buffer.from(withSpec('  user: ')), Buffer.from([0xed, 0xa0, 0x80, 0x0a])]),
    errors: [/^bad\.yaml:7:9: document 1: found bytes that are not UTF-8/],
  });
  check({
    name: 'Latin-1',
    yaml: Buffer.from(withSpec('  user: é\n'), 'latin1'),
    errors: [/^bad\.yaml:7:9: document 1: found bytes that are not UTF-8/],
  });

  test('UTF-16 is named as such', () => {
    const bytes = Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(withSpec(''), 'utf16le')]);
    const [error] = readManifests(bytes, 'bad.yaml').errors;
    assert.equal(
      error === undefined ? '' : formatManifestError(error),
      'bad.yaml:1:1: document 1: found UTF-16, expected UTF-8; save the file as UTF-8',
    );
  });

  test('random bytes give errors and never an object or a throw', () => {
    let seed = 7;
    const next = () => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return seed;
    };
    for (let round = 0; round < 300; round += 1) {
      const bytes = Buffer.from(Array.from({ length: 200 }, () => next() % 256));
      assert.deepEqual(readManifests(bytes, 'random').objects, []);
    }
  });

  test('a good document with any one byte changed never throws', () => {
    const good = Buffer.from(
      withSpec('  env: [{name: A, value: "b"}]\n  resources: {cpus: 2, memory: 1Gi}\n'),
    );
    for (let position = 0; position < good.length; position += 1) {
      for (const byte of [0x00, 0x09, 0x0a, 0x22, 0x26, 0x2a, 0x3a, 0x5b, 0x7b, 0xff]) {
        const bytes = Buffer.from(good);
        bytes[position] = byte;
        const { objects, errors } = readManifests(bytes, 'mutant');
        assert.equal(
          objects.length === 0 && errors.length === 0 && byte !== 0x0a,
          false,
          `position ${position}`,
        );
      }
    }
  });
});

describe('too much of it', () => {
  check({
    name: 'a document beyond 1 MiB',
    yaml: `# ${'x'.repeat(1 << 20)}\n${withSpec('')}`,
    errors: [/^bad\.yaml:1:1: document 1: found a document of \d+ bytes, expected at most 1048576$/],
  });

  test('a megabyte in one string costs no pattern more than its length, wherever it stands', () => {
    const long = 'a.'.repeat(500_000);
    for (const yaml of [
      `${HEAD.replace('agent', long)}spec: {image: x}\n`,
      withSpec(`  workingDir: "${'/..a'.repeat(250_000)}"\n`),
      withSpec(`  resources: {memory: "${'1'.repeat(1_000_000)}"}\n`),
      withSpec(`  activeDeadlineSeconds: ${'1'.repeat(1_000_000)}\n`),
      withSpec(
        `  secrets: [{env: A, valueFrom: {secretKeyRef: {name: s, key: k}}, allowHosts: ["${long}"]}]\n`,
      ),
      `apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {name: a, labels: {"${long}": b}}\nspec: {image: x}\n`,
    ]) {
      const { objects, errors } = readManifests(Buffer.from(yaml), 'bad.yaml');
      assert.deepEqual(objects, []);
      assert.equal(errors.length, 1);
      assert.ok((errors[0]?.message.length ?? 0) < 400, 'the message repeats the string');
    }
  });

  test('a source beyond its limit is refused as a whole', () => {
    const { objects, errors } = readManifests(Buffer.from(withSpec('')), 'bad.yaml', { maxBytes: 50 });
    assert.deepEqual(objects, []);
    assert.deepEqual(errors.map(formatManifestError), [
      `bad.yaml: found ${withSpec('').length} bytes, expected at most 50; split the file`,
    ]);
  });

  test('more documents than allowed are refused, the first ones are kept', () => {
    const { objects, errors } = readManifests(Buffer.from(GOOD.repeat(5)), 'bad.yaml', { maxDocuments: 3 });
    assert.equal(objects.length, 3);
    assert.deepEqual(errors.map(formatManifestError), [
      'bad.yaml: found more than 3 documents, expected fewer; use several files',
    ]);
  });

  test('a document with ten thousand mistakes reports the first hundred and the count', () => {
    const fields = Array.from({ length: 10_000 }, (_, index) => `  wrong${index}: 1\n`).join('');
    const { errors } = readManifests(Buffer.from(withSpec(fields)), 'bad.yaml');
    assert.equal(errors.length, 101);
    assert.match(errors.map(formatManifestError).join('\n'), /9900 more mistakes are not shown/);
  });

  test('a list with sixty thousand bad items is refused in time that grows with its length only', () => {
    const { errors } = readManifests(Buffer.from(withSpec(`  env: [${'{},'.repeat(60_000)}]\n`)), 'bad.yaml');
    assert.equal(errors.length, 101);
  });
});

describe('core documents', () => {
  const secret = (lines: string) => `apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n${lines}`;
  for (const [name, yaml, error] of [
    [
      'a Secret whose data is no base64',
      secret('data: {token: hunter2!}\n'),
      /data\.token: found a string that is no base64, expected base64; plain text goes into stringData/,
    ],
    [
      'a Secret with a number',
      secret('stringData: {pin: 4711}\n'),
      /stringData\.pin: found a number, expected a string/,
    ],
    [
      'a Secret key that is a path',
      secret('stringData: {"../x": a}\n'),
      /found the key "\.\.\/x", expected a key/,
    ],
    ['a Secret key of two dots', secret('stringData: {"..": a}\n'), /found the key "\.\.", expected a key/],
    [
      'a ConfigMap with a list',
      'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: [1]}\n',
      /data\.a: found a list, expected a string/,
    ],
  ] as const) {
    check({ name, yaml, errors: [error] });
  }

  test('no message about a Secret holds what stands in it', () => {
    const yaml = secret('stringData: {pin: 4711, "a b": hunter2}\ndata: {c: hunter2!}\ntype: [hunter2]\n');
    const text = JSON.stringify(readManifests(Buffer.from(yaml), 's.yaml').errors);
    assert.doesNotMatch(text, /4711|hunter2/);
  });
});

describe('lists', () => {
  check({
    name: 'a List item of an unknown kind',
    yaml: 'apiVersion: v1\nkind: List\nitems:\n  - {apiVersion: v1, kind: Pod, metadata: {name: a}}\n',
    errors: [/^bad\.yaml:4:28: document 1: items\[0\]\.kind: found "Pod"/],
  });
  check({
    name: 'a List in a List',
    yaml: 'apiVersion: v1\nkind: List\nitems:\n  - {apiVersion: v1, kind: List, items: []}\n',
    errors: [/items\[0\]\.kind: found "List"/],
  });
  check({
    name: 'a List whose items are no list',
    yaml: 'apiVersion: v1\nkind: List\nitems: {}\n',
    errors: ['3:8: document 1: items: found a mapping, expected a list of objects'],
  });
  check({
    name: 'a List of another version',
    yaml: 'apiVersion: v2\nkind: List\nitems: []\n',
    errors: ['1:13: document 1: apiVersion: found "v2" (a string), expected "v1"'],
  });
  check({
    name: 'a List with a field too many',
    yaml: 'apiVersion: v1\nkind: List\nitems: []\nitem: []\n',
    errors: ['4:1: document 1: item: unknown field, expected one of apiVersion, kind, metadata, items'],
  });
  check({
    name: 'a list of a kind that is not ours',
    yaml: 'apiVersion: v1\nkind: PodList\nitems: []\n',
    errors: [/kind: found "PodList"/],
  });
});
