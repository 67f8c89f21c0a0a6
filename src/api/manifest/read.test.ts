import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { SandboxSpec } from '../sandbox.ts';
import { unsupportedFields } from '../supported.ts';
import { formatManifestError } from './manifest-error.ts';
import { type ReadOptions, readManifests } from './read.ts';

function read(text: string, options?: ReadOptions) {
  const { objects, errors } = readManifests(Buffer.from(text), 'f.yaml', options);
  return {
    names: objects.map(
      ({ manifest }) => `${manifest.kind}/${manifest.metadata.namespace}/${manifest.metadata.name}`,
    ),
    places: objects.map(({ document, line, column }) => `${document}:${line}:${column}`),
    specs: objects.map(({ manifest }) => manifest.spec as SandboxSpec),
    errors: errors.map(formatManifestError),
  };
}

function sandbox(name: string, spec = 'image: busybox'): string {
  return `apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {name: ${name}}\nspec:\n  ${spec}\n`;
}

describe('documents', () => {
  test('one file holds many, with comments and empty ones between', () => {
    const text = `# tour\n---\n${sandbox('a')}---\n---\n# nothing\n---\n${sandbox('b')}...\n# after\n---\n${sandbox('c')}`;
    const { names, places, errors } = read(text);
    assert.deepEqual(names, ['Sandbox/default/a', 'Sandbox/default/b', 'Sandbox/default/c']);
    assert.deepEqual(places, ['1:3:1', '4:12:1', '5:20:1']);
    assert.deepEqual(errors, []);
  });

  test('an empty file and one of comments hold none', () => {
    for (const text of ['', '\n\n', '# only a comment\n', '---\n', '---\n---\n...\n']) {
      assert.deepEqual(read(text), { names: [], places: [], specs: [], errors: [] });
    }
  });

  test('a broken document costs none of the others, and places stay right', () => {
    const text = `${sandbox('a')}---\nfoo: [\n---\n${sandbox('b')}  bad: 1\n---\n${sandbox('c')}`;
    const { names, errors } = read(text);
    assert.deepEqual(names, ['Sandbox/default/a', 'Sandbox/default/c']);
    assert.equal(errors.length, 2);
    assert.match(errors[0] ?? '', /^f\.yaml:8:\d+: document 2: not YAML/);
    assert.match(errors[1] ?? '', /^f\.yaml:14:3: document 3: spec\.bad: unknown field/);
  });

  test('three dashes inside a block of text end the document only at the start of a line', () => {
    const main = 'image: b\n  main:\n    args:\n      - |\n        a\n        ---\n        b';
    const { specs, errors } = read(sandbox('a', main));
    assert.deepEqual(errors, []);
    assert.deepEqual(specs[0]?.main?.args, ['a\n---\nb\n']);
  });

  test('a document may begin on the line of its marker, and after a directive', () => {
    assert.deepEqual(read(`%YAML 1.2\n--- # start\n${sandbox('a')}`).names, ['Sandbox/default/a']);
    const flow =
      '--- {apiVersion: bulkhead.dev/v1alpha1, kind: Sandbox, metadata: {name: b}, spec: {image: x}}\n';
    assert.deepEqual(read(flow).names, ['Sandbox/default/b']);
  });

  test('Windows line ends and a byte order mark change nothing', () => {
    const text = `\ufeff${sandbox('a')}---\n${sandbox('b', 'image: x\n  bad: 1')}`.replaceAll('\n', '\r\n');
    const { names, errors } = read(text);
    assert.deepEqual(names, ['Sandbox/default/a']);
    assert.match(errors[0] ?? '', /^f\.yaml:12:3: document 2: spec\.bad/);
  });

  test('JSON is read too, with places', () => {
    const object = {
      apiVersion: 'bulkhead.dev/v1alpha1',
      kind: 'Sandbox',
      metadata: { name: 'j' },
      spec: { image: 'x' },
    };
    for (const indent of [undefined, 2, '\t']) {
      assert.deepEqual(read(JSON.stringify(object, null, indent)).names, ['Sandbox/default/j']);
    }
    const wrong = JSON.stringify({ ...object, spec: { image: 'x', driver: 'y' } }, null, 2);
    assert.match(
      read(wrong).errors[0] ?? '',
      /^f\.yaml:9:15: document 1: spec\.driver: Unsupported value: "y": supported values/,
    );
  });

  test('JSON strings keep their escapes', () => {
    const value = 'quote " slash / \\ tab \t bell \u0007 snow \u2603 face \u{1f600}';
    const text = JSON.stringify({
      apiVersion: 'bulkhead.dev/v1alpha1',
      kind: 'Sandbox',
      metadata: { name: 'j' },
      spec: { image: 'x', env: [{ name: 'A', value }] },
    });
    assert.equal(read(text).specs[0]?.env?.[0]?.value, value);
  });
});

describe('lists', () => {
  const items = (kind: string, version: string) =>
    `apiVersion: ${version}\nkind: ${kind}\nmetadata: {resourceVersion: "1"}\nitems:\n` +
    ['a', 'b'].map((name) => `  - ${sandbox(name).trimEnd().replaceAll('\n', '\n    ')}\n`).join('');

  test('a List and a SandboxList give their items', () => {
    for (const text of [items('List', 'v1'), items('SandboxList', 'bulkhead.dev/v1alpha1')]) {
      const { names, places, errors } = read(text);
      assert.deepEqual(errors, []);
      assert.deepEqual(names, ['Sandbox/default/a', 'Sandbox/default/b']);
      assert.deepEqual(places, ['1:5:5', '1:10:5']);
    }
  });

  test('a bad item costs none of the others and is named by its place in the list', () => {
    const text = items('List', 'v1').replace('image: busybox', 'image: 7');
    const { names, errors } = read(text);
    assert.deepEqual(names, ['Sandbox/default/b']);
    assert.match(
      errors[0] ?? '',
      /^f\.yaml:9:14: document 1: items\[0\]\.spec\.image: Invalid value: "integer": .* \(found 7 \(a number\), expected an image/,
    );
  });

  test('an empty List is no mistake', () => {
    assert.deepEqual(read('apiVersion: v1\nkind: List\nitems: []\n').errors, []);
  });
});

describe('values mean what they mean to kubectl', () => {
  const value = (text: string) => read(sandbox('a', `image: x\n  terminationGracePeriodSeconds: ${text}`));

  test('integers in every notation', () => {
    for (const [text, number] of [
      ['30', 30],
      ['0x1e', 30],
      ['0o36', 30],
      ['036', 30],
      ['0b11110', 30],
      ['1_000', 1000],
      ['3e1', 30],
      ['!!int 30', 30],
    ] as const) {
      assert.equal(value(text).specs[0]?.terminationGracePeriodSeconds, number, text);
    }
  });

  test('text stays text: quoted, blocks, dates and what only begins like a number', () => {
    for (const [text, expected] of [
      ['"yes"', 'yes'],
      ["'0644'", '0644'],
      ['!!str 12', '12'],
      ['2026-12-01', '2026-12-01'],
      ['1.2.3', '1.2.3'],
      ['12abc', '12abc'],
      ['"a\\u0020b"', 'a b'],
      ['>-\n        one\n        two', 'one two'],
    ] as const) {
      const { specs, errors } = read(sandbox('a', `image: x\n  env:\n    - name: A\n      value: ${text}`));
      assert.deepEqual(errors, [], text);
      assert.equal(specs[0]?.env?.[0]?.value, expected, text);
    }
  });

  test('an empty value counts as absent', () => {
    assert.equal(value('').specs[0]?.terminationGracePeriodSeconds, 10);
    assert.equal(value('~').specs[0]?.terminationGracePeriodSeconds, 10);
  });

  test('anchors, aliases and merge keys work within a document', () => {
    const spec = 'image: x\n  env:\n    - &first {name: A, value: v}\n    - {<<: *first, name: B}';
    assert.deepEqual(read(sandbox('a', spec)).specs[0]?.env, [
      { name: 'A', value: 'v' },
      { name: 'B', value: 'v' },
    ]);
  });

  test('an anchor ends with its document', () => {
    const { errors } = read(`${sandbox('a', 'image: &i x')}---\n${sandbox('b', 'image: *i')}`);
    assert.deepEqual(errors, [
      'f.yaml:11:10: document 2: found an alias without its anchor, "i"; write the value out',
    ]);
  });

  test('two aliases of one mapping give two objects that do not share it', () => {
    const text = `apiVersion: v1\nkind: List\nitems:\n  - {apiVersion: bulkhead.dev/v1alpha1, kind: Sandbox, metadata: {name: a}, spec: &s {image: x}}\n  - {apiVersion: bulkhead.dev/v1alpha1, kind: Sandbox, metadata: {name: b}, spec: *s}\n`;
    const { specs } = read(text);
    assert.equal(specs.length, 2);
    assert.notEqual(specs[0], specs[1]);
  });
});

describe('what the caller can ask', () => {
  test('the namespace of documents that say none', () => {
    const text = `${sandbox('a')}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: other}\ndata: {}\n`;
    assert.deepEqual(read(text, { namespace: 'team' }).names, ['Sandbox/team/a', 'ConfigMap/other/c']);
  });

  test('a comparison with the former object, so that what may not change is reported with its line', () => {
    const { errors } = read(sandbox('a', 'image: debian'), {
      former: ({ name }) => (name === 'a' ? { spec: { image: 'busybox' } } : undefined),
    });
    assert.match(
      errors[0] ?? '',
      /^f\.yaml:5:10: document 1: spec\.image: Invalid value: image cannot change after creation/,
    );
  });

  test('an error names the object that the document speaks of, where that can be told', () => {
    const { errors } = readManifests(Buffer.from(sandbox('a', 'imag: x')), 'f.yaml');
    assert.deepEqual(errors[0]?.object, { kind: 'Sandbox', namespace: 'default', name: 'a' });
    const { errors: nameless } = readManifests(Buffer.from('kind: Sandbox\n'), 'f.yaml');
    assert.equal(nameless[0]?.object, undefined);
  });

  test('an error carries its parts for programs', () => {
    const { errors } = readManifests(
      Buffer.from(sandbox('a', 'image: x\n  restartPolicy: always')),
      'f.yaml',
    );
    assert.deepEqual(errors, [
      {
        source: 'f.yaml',
        document: 1,
        line: 6,
        column: 18,
        path: 'spec.restartPolicy',
        message: 'Unsupported value: "always": supported values: "Always", "OnFailure", "Never"',
        hint: 'did you mean Always?',
        found: '"always"',
        expected: 'one of Always, OnFailure, Never',
        nearest: 'Always',
        object: { kind: 'Sandbox', namespace: 'default', name: 'a' },
      },
    ]);
  });

  test('errors come in the order of the lines', () => {
    const { errors } = read(sandbox('a', 'zzz: 1\n  image: 7\n  aaa: 1\n  driver: x'));
    assert.deepEqual(
      errors.map((error) => error.split(':')[1]),
      ['5', '6', '7', '8'],
    );
  });
});

test('the examples are valid, and ask for nothing that is not there yet', () => {
  const folder = join(import.meta.dirname, '../../../manifests');
  const names = readdirSync(folder).filter((name) => name.endsWith('.yaml'));
  assert.ok(names.length >= 3);
  for (const name of names) {
    const { objects, errors } = readManifests(readFileSync(join(folder, name)), name);
    assert.deepEqual(errors.map(formatManifestError), []);
    assert.ok(objects.length > 0);
    for (const { manifest } of objects) {
      if (manifest.kind !== 'Sandbox') continue;
      assert.deepEqual(unsupportedFields(manifest.spec as SandboxSpec), [], name);
    }
  }
});

test('ten thousand documents of one file all come through', () => {
  const text = Array.from({ length: 10_000 }, (_, index) => sandbox(`s${index}`)).join('---\n');
  const { objects, errors } = readManifests(Buffer.from(text), 'many.yaml');
  assert.deepEqual(errors, []);
  assert.equal(objects.length, 10_000);
  assert.equal(objects.at(-1)?.document, 10_000);
});
