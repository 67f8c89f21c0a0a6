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
    errors: ['7:3: document 1: spec.restartPolcy: unknown field (did you mean restartPolicy?)'],
  });
  check({
    name: 'a misspelt field in a nested mapping',
    yaml: withSpec('  resources:\n    memroy: 1Gi\n'),
    errors: ['8:5: document 1: spec.resources.memroy: unknown field (did you mean memory?)'],
  });
  check({
    name: 'a misspelt field in a list item',
    yaml: withSpec('  env:\n    - name: A\n      vlaue: b\n'),
    errors: ['9:7: document 1: spec.env[0].vlaue: unknown field (did you mean value?)'],
  });
  check({
    name: 'a field of the wrong case',
    yaml: withSpec('  workingdir: /srv\n'),
    errors: ['7:3: document 1: spec.workingdir: unknown field (did you mean workingDir?)'],
  });
  check({
    name: 'a field that is like no other lists the valid ones',
    yaml: withSpec('  resources: {gpu: 1}\n'),
    errors: ['7:15: document 1: spec.resources.gpu: unknown field (expected one of cpus, memory, disk)'],
  });
  check({
    name: 'a misspelt field of the metadata',
    yaml: 'apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {name: a, lables: {x: "y"}}\nspec: {image: b}\n',
    errors: ['3:21: document 1: metadata.lables: unknown field (did you mean labels?)'],
  });
  check({
    name: 'a field beside spec',
    yaml: `${withSpec('')}specs: {}\n`,
    errors: ['7:1: document 1: specs: unknown field (did you mean spec?)'],
  });
  check({
    name: 'a field of a Pod that a Sandbox does not have',
    yaml: withSpec('  containers: []\n'),
    errors: [
      '7:3: document 1: spec.containers: unknown field (expected one of image, imagePullPolicy, imagePullSecrets, operatingMode, driver, resources, main, env, workingDir, user, hostname, restartPolicy, ...)',
    ],
  });
  check({
    name: 'a key with control characters is escaped, not printed',
    yaml: withSpec('  "\\u001b[31mred": 1\n'),
    errors: [
      '7:3: document 1: spec["\\x1b[31mred"]: unknown field (expected one of image, imagePullPolicy, imagePullSecrets, operatingMode, driver, resources, main, env, workingDir, user, hostname, restartPolicy, ...)',
    ],
  });
});

describe('what an object is must be said, and known', () => {
  check({
    name: 'no apiVersion',
    yaml: 'kind: Sandbox\nmetadata: {name: a}\nspec: {image: b}\n',
    errors: ['1:1: document 1: apiVersion: Required value (expected "bulkhead.dev/v1alpha1")'],
  });
  check({
    name: 'another apiVersion',
    yaml: 'apiVersion: bulkhead.dev/v1\nkind: Sandbox\nmetadata: {name: a}\nspec: {image: b}\n',
    errors: [
      '1:13: document 1: apiVersion: Unsupported value: "bulkhead.dev/v1": supported values: "bulkhead.dev/v1alpha1"',
    ],
  });
  check({
    name: "Kubernetes' own NetworkPolicy",
    yaml: 'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec: {}\n',
    errors: [
      '1:13: document 1: apiVersion: Unsupported value: "networking.k8s.io/v1": supported values: "bulkhead.dev/v1alpha1"',
    ],
  });
  check({
    name: 'an apiVersion that is a number',
    yaml: 'apiVersion: 1\nkind: Sandbox\nmetadata: {name: a}\nspec: {image: b}\n',
    errors: ['1:13: document 1: apiVersion: Unsupported value: 1: supported values: "bulkhead.dev/v1alpha1"'],
  });
  check({
    name: 'no kind',
    yaml: 'apiVersion: bulkhead.dev/v1alpha1\nmetadata: {name: a}\nspec: {image: b}\n',
    errors: [
      '1:1: document 1: kind: Required value (expected one of Secret, ConfigMap, NetworkPolicy, Volume, Sandbox)',
    ],
  });
  check({
    name: 'a misspelt kind',
    yaml: 'apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbx\nmetadata: {name: a}\nspec: {image: b}\n',
    errors: [
      '2:7: document 1: kind: Unsupported value: "Sandbx": supported values: "Secret", "ConfigMap", "NetworkPolicy", "Volume", "Sandbox" (did you mean Sandbox?)',
    ],
  });
  check({
    name: 'a kind of Kubernetes that means nothing here',
    yaml: 'apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {}\n',
    errors: [
      '2:7: document 1: kind: Unsupported value: "Pod": supported values: "Secret", "ConfigMap", "NetworkPolicy", "Volume", "Sandbox"',
    ],
  });
  check({
    name: 'a plain string in place of an object',
    yaml: 'just some text\n',
    errors: [
      '1:1: document 1: Invalid value: "string": document in body must be of type object: "string" (found "just some text" (a string), expected a mapping with apiVersion, kind, metadata and spec)',
    ],
  });
  check({
    name: 'a list in place of an object',
    yaml: '- image: busybox\n',
    errors: [
      '1:1: document 1: Invalid value: "array": document in body must be of type object: "array" (found a list, expected a mapping with apiVersion, kind, metadata and spec)',
    ],
  });
  check({
    name: 'no metadata',
    yaml: 'apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nspec: {image: b}\n',
    errors: ['1:1: document 1: metadata.name: Required value: name or generateName is required'],
  });
  check({
    name: 'no name',
    yaml: 'apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {}\nspec: {image: b}\n',
    errors: ['3:11: document 1: metadata.name: Required value: name or generateName is required'],
  });
  check({
    name: 'generateName, which a folder cannot honour',
    yaml: 'apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {generateName: a-}\nspec: {image: b}\n',
    errors: [
      '3:11: document 1: metadata.name: Required value: name or generateName is required',
      /metadata\.generateName: unknown field/,
    ],
  });
  check({
    name: 'no spec',
    yaml: HEAD,
    errors: ['1:1: document 1: spec: Required value (expected a mapping)'],
  });
  check({
    name: 'a spec with nothing below it',
    yaml: `${HEAD}spec:\n`,
    errors: ['5:1: document 1: spec: Required value (expected a mapping)'],
  });
  check({
    name: 'no image',
    yaml: `${HEAD}spec:\n  driver: Auto\n`,
    errors: [
      '6:3: document 1: spec.image: Required value (expected an image reference, such as "docker.io/library/python:3.13")',
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
        /^bad\.yaml:3:18: document 1: metadata\.name: (Required value: name or generateName is required|Invalid value: ".*": (a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters.*|must be no more than 253 characters))$/,
      ],
    });
  }
  check({
    name: 'a name that YAML reads as a number',
    yaml: named('123'),
    errors: [
      '3:18: document 1: metadata.name: Invalid value: "integer": metadata.name in body must be of type string: "integer" (found 123 (a number), expected a string; put it in quotes)',
    ],
  });
  check({
    name: 'a name that YAML reads as a boolean',
    yaml: named('on'),
    errors: [
      '3:18: document 1: metadata.name: Invalid value: "boolean": metadata.name in body must be of type string: "boolean" (found true (a boolean), expected a string; put it in quotes)',
    ],
  });
  check({
    name: 'a namespace with dots',
    yaml: 'apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {name: a, namespace: a.b}\nspec: {image: b}\n',
    errors: ['3:32: document 1: metadata.namespace: Invalid value: "a.b": must not contain dots'],
  });
  check({
    name: 'a label value that is too long',
    yaml: `apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {name: a, labels: {x: ${'y'.repeat(64)}}}\nspec: {image: b}\n`,
    errors: [
      '3:29: document 1: metadata.labels: Invalid value: "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy": must be no more than 63 bytes',
    ],
  });
  check({
    name: 'a label key that is none',
    yaml: 'apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {name: a, labels: {"a b": c}}\nspec: {image: b}\n',
    errors: [
      "3:29: document 1: metadata.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
    ],
  });
  check({
    name: 'annotations beyond 256 KiB',
    yaml: `apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {name: a, annotations: {a: ${'x'.repeat(200_000)}, b: ${'x'.repeat(70_000)}}}\nspec: {image: b}\n`,
    errors: ['3:34: document 1: metadata.annotations: Too long: may not be more than 262144 bytes'],
  });
  check({
    name: 'a host name with dots',
    yaml: withSpec('  hostname: a.b\n'),
    errors: [
      '7:13: document 1: spec.hostname: Invalid value: "a.b": spec.hostname in body should match \'^[a-z0-9]([-a-z0-9]*[a-z0-9])?$\' (expected a host name of lower-case letters, digits and "-", at most 63 characters)',
    ],
  });
});

describe('wrong types say what was found and what was expected', () => {
  check({
    name: 'text for an integer',
    yaml: withSpec('  resources: {cpus: two}\n'),
    errors: [
      '7:21: document 1: spec.resources.cpus: Invalid value: "string": spec.resources.cpus in body must be of type integer: "string" (found "two" (a string), expected an integer from 1 to 32)',
    ],
  });
  check({
    name: 'a fraction for an integer',
    yaml: withSpec('  resources: {cpus: 1.5}\n'),
    errors: [
      '7:21: document 1: spec.resources.cpus: Invalid value: "number": spec.resources.cpus in body must be of type integer: "number" (found 1.5 (a number), expected an integer from 1 to 32)',
    ],
  });
  check({
    name: 'infinity for an integer',
    yaml: withSpec('  terminationGracePeriodSeconds: .inf\n'),
    errors: [/spec\.terminationGracePeriodSeconds: .* must be of type integer: "number" \(found Infinity/],
  });
  check({
    name: 'a bare number for a quantity',
    yaml: withSpec('  resources: {memory: 512}\n'),
    errors: [
      '7:23: document 1: spec.resources.memory: Invalid value: "integer": spec.resources.memory in body must be of type string: "integer" (found 512 (a number), expected a quantity such as "512Mi" or "4Gi"; put it in quotes)',
    ],
  });
  check({
    name: 'a bare number for a user',
    yaml: withSpec('  user: 1000\n'),
    errors: [
      '7:9: document 1: spec.user: Invalid value: "integer": spec.user in body must be of type string: "integer" (found 1000 (a number), expected a user in quotes, such as "app", "1000" or "1000:1000"; put it in quotes)',
    ],
  });
  check({
    name: 'a boolean for an environment variable',
    yaml: withSpec('  env: [{name: A, value: yes}]\n'),
    errors: [
      '7:26: document 1: spec.env[0].value: Invalid value: "boolean": spec.env[0].value in body must be of type string: "boolean" (found true (a boolean), expected a string of at most 32768 characters, without NUL; put it in quotes)',
    ],
  });
  check({
    name: 'a mapping for a list',
    yaml: withSpec('  env:\n    MODE: test\n'),
    errors: [
      '8:5: document 1: spec.env: Invalid value: "object": spec.env in body must be of type array: "object" (found a mapping, expected a list of at most 256 items)',
    ],
  });
  check({
    name: 'a list for a mapping',
    yaml: withSpec('  resources: [1]\n'),
    errors: [
      '7:14: document 1: spec.resources: Invalid value: "array": spec.resources in body must be of type object: "array" (found a list, expected a mapping)',
    ],
  });
  check({
    name: 'a string for a list of arguments',
    yaml: withSpec('  main: {args: --verbose}\n'),
    errors: [
      '7:16: document 1: spec.main.args: Invalid value: "string": spec.main.args in body must be of type array: "string" (found "--verbose" (a string), expected a list of at most 256 items)',
    ],
  });
  check({
    name: 'a number among arguments',
    yaml: withSpec('  main: {args: [-p, 8000]}\n'),
    errors: [
      '7:21: document 1: spec.main.args[1]: Invalid value: "integer": spec.main.args[1] in body must be of type string: "integer" (found 8000 (a number), expected a string of at most 32768 characters, without NUL; put it in quotes)',
    ],
  });
  check({
    name: 'an empty list item',
    yaml: withSpec('  main:\n    args:\n      -\n'),
    errors: [
      '9:7: document 1: spec.main.args[0]: Invalid value: "null": spec.main.args[0] in body must be of type string: "null" (found nothing, expected a string of at most 32768 characters, without NUL)',
    ],
  });
  check({
    name: 'a string for a boolean',
    yaml: withSpec(
      '  volumes: [{name: d, volume: {name: d}}]\n  volumeMounts: [{name: d, mountPath: /d, readOnly: "true"}]\n',
    ),
    errors: [
      '8:53: document 1: spec.volumeMounts[0].readOnly: Invalid value: "string": spec.volumeMounts[0].readOnly in body must be of type boolean: "string" (found "true" (a string), expected true or false)',
    ],
  });
});

describe('a field that is wrong in two ways says both, as a cluster does', () => {
  check({
    name: 'negative memory',
    yaml: withSpec('  resources: {memory: "-1Gi"}\n'),
    errors: [
      /memory: Invalid value: "-1Gi": .* should match .* \(expected a quantity such as "512Mi" or "4Gi"\)$/,
      /memory: Invalid value: "-1Gi": memory must be between 64Mi and 1Ti$/,
    ],
  });
});

describe('values out of bounds', () => {
  for (const [name, lines, error] of [
    [
      'no cpu',
      'resources: {cpus: 0}',
      '7:21: document 1: spec.resources.cpus: Invalid value: 0: spec.resources.cpus in body should be greater than or equal to 1',
    ],
    [
      'too many cpus',
      'resources: {cpus: 33}',
      '7:21: document 1: spec.resources.cpus: Invalid value: 33: spec.resources.cpus in body should be less than or equal to 32',
    ],
    [
      'too little memory',
      'resources: {memory: 1Mi}',
      '7:23: document 1: spec.resources.memory: Invalid value: "1Mi": memory must be between 64Mi and 1Ti',
    ],
    [
      'too much disk',
      'resources: {disk: 1Ei}',
      '7:21: document 1: spec.resources.disk: Invalid value: "1Ei": disk must be between 64Mi and 16Ti',
    ],
    [
      'an unknown unit',
      'resources: {memory: 512MB}',
      '7:23: document 1: spec.resources.memory: Invalid value: "512MB": spec.resources.memory in body should match \'^[0-9]+(\\.[0-9]{1,9})?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$\' (expected a quantity such as "512Mi" or "4Gi")',
    ],
    [
      'an endless quantity',
      `resources: {memory: "${'9'.repeat(33)}"}`,
      '7:23: document 1: spec.resources.memory: Too long: may not be more than 32 bytes',
    ],
    [
      'a negative grace period',
      'terminationGracePeriodSeconds: -1',
      '7:34: document 1: spec.terminationGracePeriodSeconds: Invalid value: -1: spec.terminationGracePeriodSeconds in body should be greater than or equal to 0',
    ],
    [
      'a deadline of no time',
      'activeDeadlineSeconds: 0',
      '7:26: document 1: spec.activeDeadlineSeconds: Invalid value: 0: spec.activeDeadlineSeconds in body should be greater than or equal to 1',
    ],
    [
      'a value beyond its words',
      'restartPolicy: Sometimes',
      '7:18: document 1: spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"',
    ],
    [
      'a word of the wrong case',
      'driver: software',
      '7:11: document 1: spec.driver: Unsupported value: "software": supported values: "Auto", "Libkrun", "Software" (did you mean Software?)',
    ],
    [
      'an image with a space',
      'user: a b',
      '7:9: document 1: spec.user: Invalid value: "a b": spec.user in body should match \'^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$\' (expected a user in quotes, such as "app", "1000" or "1000:1000")',
    ],
    [
      'a relative working directory',
      'workingDir: srv',
      '7:15: document 1: spec.workingDir: Invalid value: "srv": spec.workingDir in body should match \'^/[^\\x00]*$\' (expected an absolute path, such as "/srv/data")',
    ],
    [
      'a working directory that climbs',
      'workingDir: /srv/../etc',
      '7:15: document 1: spec.workingDir: Invalid value: "/srv/../etc": path must not contain ".."; write the path that is meant',
    ],
    [
      'a time without a zone',
      'shutdownTime: 2026-12-01T00:00:00',
      /shutdownTime: Invalid value: "2026-12-01T00:00:00": .* \(expected a time in quotes/,
    ],
    [
      'the 30th of February',
      'shutdownTime: 2026-02-30T00:00:00Z',
      /shutdownTime: Invalid value: "2026-02-30T00:00:00Z": .* \(expected a time in quotes/,
    ],
    [
      'a port of 0',
      'ports: [{name: web, port: 0}]',
      '7:29: document 1: spec.ports[0].port: Invalid value: 0: spec.ports[0].port in body should be greater than or equal to 1',
    ],
    [
      'a port of 65536',
      'ports: [{name: web, port: 65536}]',
      '7:29: document 1: spec.ports[0].port: Invalid value: 65536: spec.ports[0].port in body should be less than or equal to 65535',
    ],
    [
      'a host address that is a name',
      'ports: [{name: web, port: 1, hostIP: localhost}]',
      '7:40: document 1: spec.ports[0].hostIP: Invalid value: "localhost": hostIP must be an IP address, such as 127.0.0.1',
    ],
    [
      'a variable name with =',
      'env: [{name: "A=B"}]',
      '7:16: document 1: spec.env[0].name: Invalid value: "A=B": spec.env[0].name in body should match \'^[A-Za-z_][A-Za-z0-9_.-]*$\' (expected a variable name of letters, digits, "_", "." and "-" that does not begin with a digit)',
    ],
    [
      'a NUL in an argument',
      'main: {args: ["a\\0b"]}',
      '7:17: document 1: spec.main.args[0]: Invalid value: "a\\x00b": spec.main.args[0] in body should match \'^[^\\x00]*$\' (expected a string of at most 32768 characters, without NUL)',
    ],
    [
      'a value of 40,000 characters',
      `env: [{name: A, value: ${'x'.repeat(40_000)}}]`,
      '7:26: document 1: spec.env[0].value: Too long: may not be more than 32768 bytes',
    ],
    [
      '257 arguments',
      `main: {args: [${'a,'.repeat(257)}]}`,
      '7:16: document 1: spec.main.args: Too many: 257: must have at most 256 items',
    ],
    [
      '257 variables',
      `env: [${Array.from({ length: 257 }, (_, i) => `{name: V${i}}`).join(',')}]`,
      '7:8: document 1: spec.env: Too many: 257: must have at most 256 items',
    ],
  ] as const) {
    check({ name, yaml: withSpec(`  ${lines}\n`), errors: [error] });
  }
  check({
    name: 'an image reference with a space',
    yaml: `${HEAD}spec: {image: "busy box"}\n`,
    errors: [
      '5:15: document 1: spec.image: Invalid value: "busy box": spec.image in body should match \'^[A-Za-z0-9[][A-Za-z0-9._:/@[\\]+-]*$\' (expected an image reference, such as "docker.io/library/python:3.13")',
    ],
  });
  check({
    name: 'an image reference that is an option',
    yaml: `${HEAD}spec: {image: "--help"}\n`,
    errors: [
      '5:15: document 1: spec.image: Invalid value: "--help": spec.image in body should match \'^[A-Za-z0-9[][A-Za-z0-9._:/@[\\]+-]*$\' (expected an image reference, such as "docker.io/library/python:3.13")',
    ],
  });
});

describe('fields that contradict each other', () => {
  for (const [name, lines, error] of [
    [
      'a variable twice',
      'env: [{name: A}, {name: A}]',
      '7:20: document 1: spec.env[1]: Duplicate value: {"name":"A"} (the same as item 0; remove or rename one)',
    ],
    [
      'a port name twice',
      'ports: [{name: a, port: 1}, {name: a, port: 2}]',
      '7:31: document 1: spec.ports[1]: Duplicate value: {"name":"a"} (the same as item 0; remove or rename one)',
    ],
    [
      'a host port twice',
      'ports: [{name: a, port: 1, hostPort: 80}, {name: b, port: 2, hostPort: 80}]',
      '7:10: document 1: spec.ports: Invalid value: ports must not publish the same hostIP, hostPort and protocol twice; choose another hostPort',
    ],
    [
      'a variable with value and valueFrom',
      'env: [{name: A, value: b, valueFrom: {secretKeyRef: {name: s, key: k}}}]',
      '7:9: document 1: spec.env[0]: Invalid value: env must not have both value and valueFrom; remove one of them',
    ],
    [
      'a valueFrom without a source',
      'env: [{name: A, valueFrom: {}}]',
      '7:30: document 1: spec.env[0].valueFrom: Invalid value: valueFrom must have exactly one of secretKeyRef, configMapKeyRef; keep one and remove the others',
    ],
    [
      'a volume without a source',
      'volumes: [{name: a}]',
      '7:13: document 1: spec.volumes[0]: Invalid value: a volume must have exactly one of volume, hostPath, tmpfs, configMap, secret; keep one and remove the others',
    ],
    [
      'a volume with two sources',
      'volumes: [{name: a, volume: {name: b}, tmpfs: {size: 1Mi}}]',
      '7:13: document 1: spec.volumes[0]: Invalid value: a volume must have exactly one of volume, hostPath, tmpfs, configMap, secret; keep one and remove the others',
    ],
    [
      'a mount of no volume',
      'volumeMounts: [{name: a, mountPath: /a}]',
      '7:17: document 1: spec.volumeMounts: Invalid value: volumeMounts must name an entry of volumes; correct the name, or add the volume',
    ],
    [
      'a mount over the root',
      'volumes: [{name: a, volume: {name: b}}]\n  volumeMounts: [{name: a, mountPath: /}]',
      '8:39: document 1: spec.volumeMounts[0].mountPath: Invalid value: "/": mountPath must not be /, /proc, /sys or /dev, which belong to the guest; mount it somewhere else',
    ],
    [
      'a patch of two kinds',
      'patches: [{mkdir: {path: /a}, remove: {path: /b}}]',
      '7:13: document 1: spec.patches[0]: Invalid value: a patch must have exactly one of text, mkdir, copy, append, symlink, remove; keep one and remove the others',
    ],
    [
      'a patch that climbs',
      'patches: [{remove: {path: /a/../..}}]',
      '7:29: document 1: spec.patches[0].remove.path: Invalid value: "/a/../..": path must not contain ".."; write the path that is meant',
    ],
    [
      'a copy from outside the folder',
      'patches: [{copy: {from: ../secrets, path: /a}}]',
      '7:27: document 1: spec.patches[0].copy.from: Invalid value: "../secrets": from must not contain ".."; put the files beside or below the manifest',
    ],
    [
      'a copy from an absolute path',
      'patches: [{copy: {from: /etc/shadow, path: /a}}]',
      '7:27: document 1: spec.patches[0].copy.from: Invalid value: "/etc/shadow": spec.patches[0].copy.from in body should match \'^[^/\\x00][^\\x00]*$\' (expected a path relative to the manifest, such as "./scripts")',
    ],
    [
      'permission bits without quotes',
      'patches: [{mkdir: {path: /a, mode: 0755}}]',
      '7:38: document 1: spec.patches[0].mkdir.mode: Invalid value: "integer": spec.patches[0].mkdir.mode in body must be of type string: "integer" (found 493 (a number), expected octal permission bits in quotes, such as "0644"; put it in quotes)',
    ],
    [
      'a secret without hosts',
      'secrets: [{env: A, valueFrom: {secretKeyRef: {name: s, key: k}}, allowHosts: []}]',
      '7:80: document 1: spec.secrets[0].allowHosts: Invalid value: 0: spec.secrets[0].allowHosts in body should have at least 1 items',
    ],
    [
      'a secret and a variable of one name',
      'env: [{name: A}]\n  secrets: [{env: A, valueFrom: {secretKeyRef: {name: s, key: k}}, allowHosts: [a.b]}]',
      '8:12: document 1: spec.secrets: Invalid value: secrets must not set a variable that env sets too; remove one of them',
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
      '4:15: document 1: data.token: Invalid value: "string": must be base64 (expected base64; plain text goes into stringData)',
    ],
    [
      'a Secret with a number',
      secret('stringData: {pin: 4711}\n'),
      '4:19: document 1: stringData.pin: Invalid value: "integer": stringData.pin in body must be of type string: "integer" (found a number, expected a string of at most 1048576 characters; put it in quotes)',
    ],
    [
      'a Secret key that is a path',
      secret('stringData: {"../x": a}\n'),
      '4:22: document 1: stringData.../x: Invalid value: "../x": a key must be a key of letters, digits, "-", "_" and ".", other than "." and ".."',
    ],
    [
      'a Secret key of two dots',
      secret('stringData: {"..": a}\n'),
      '4:20: document 1: stringData...: Invalid value: "..": a key must be a key of letters, digits, "-", "_" and ".", other than "." and ".."',
    ],
    [
      'a ConfigMap with a list',
      'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: [1]}\n',
      '4:11: document 1: data.a: Invalid value: "array": data.a in body must be of type string: "array" (found a list, expected a string of at most 1048576 characters)',
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
    errors: [
      '4:28: document 1: items[0].kind: Unsupported value: "Pod": supported values: "Secret", "ConfigMap", "NetworkPolicy", "Volume", "Sandbox"',
    ],
  });
  check({
    name: 'a List in a List',
    yaml: 'apiVersion: v1\nkind: List\nitems:\n  - {apiVersion: v1, kind: List, items: []}\n',
    errors: [
      '4:28: document 1: items[0].kind: Unsupported value: "List": supported values: "Secret", "ConfigMap", "NetworkPolicy", "Volume", "Sandbox"',
    ],
  });
  check({
    name: 'a List whose items are no list',
    yaml: 'apiVersion: v1\nkind: List\nitems: {}\n',
    errors: [
      '3:8: document 1: items: Invalid value: "object": items in body must be of type array: "object"',
    ],
  });
  check({
    name: 'a List of another version',
    yaml: 'apiVersion: v2\nkind: List\nitems: []\n',
    errors: ['1:13: document 1: apiVersion: Unsupported value: "v2": supported values: "v1"'],
  });
  check({
    name: 'a List with a field too many',
    yaml: 'apiVersion: v1\nkind: List\nitems: []\nitem: []\n',
    errors: ['4:1: document 1: item: unknown field (expected one of apiVersion, kind, metadata, items)'],
  });
  check({
    name: 'a list of a kind that is not ours',
    yaml: 'apiVersion: v1\nkind: PodList\nitems: []\n',
    errors: [
      '2:7: document 1: kind: Unsupported value: "PodList": supported values: "Secret", "ConfigMap", "NetworkPolicy", "Volume", "Sandbox"',
    ],
  });
});
