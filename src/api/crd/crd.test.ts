import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { load } from 'js-yaml';
import { SANDBOX_CONDITIONS } from '../conditions.ts';
import { compileRule } from '../validation/cel.ts';
import { isRecord, type StructuralSchema } from '../validation/structural.ts';
import { buildCrd, CRD_KINDS } from './crd.ts';
import { generatedFiles } from './generated-files.ts';

const root = join(import.meta.dirname, '../../..');

interface Version {
  schema: { openAPIV3Schema: StructuralSchema };
  additionalPrinterColumns: { name: string; priority?: number; jsonPath: string }[];
  selectableFields?: { jsonPath: string }[];
  subresources: { status: object };
}

function versionOf(crd: Record<string, unknown>): Version {
  const spec = crd.spec as { versions: Version[] };
  const [version] = spec.versions;
  assert.ok(version);
  return version;
}

/** Every node below spec and status with its path. */
function* nodes(schema: StructuralSchema, path: string): Generator<[string, StructuralSchema]> {
  yield [path, schema];
  for (const [name, child] of Object.entries(schema.properties ?? {})) yield* nodes(child, `${path}.${name}`);
  if (schema.items !== undefined) yield* nodes(schema.items, `${path}[]`);
  if (isRecord(schema.additionalProperties))
    yield* nodes(schema.additionalProperties as StructuralSchema, `${path}{}`);
}

test('the files that are checked in are what the schemas give', () => {
  for (const [path, content] of generatedFiles()) {
    assert.equal(readFileSync(join(root, path), 'utf8'), content, `${path} is stale: run tools/generate.sh`);
  }
  const expected = [...generatedFiles().keys()].filter((path) => path.startsWith('crds/')).sort();
  assert.deepEqual(
    readdirSync(join(root, 'crds'))
      .map((name) => `crds/${name}`)
      .sort(),
    expected,
  );
});

for (const each of CRD_KINDS) {
  const { kind } = each.kind;
  const crd = buildCrd(each);
  const version = versionOf(crd);
  const schema = version.schema.openAPIV3Schema;
  const below = [...nodes(schema, '')].filter(
    ([path]) => path.startsWith('.spec') || path.startsWith('.status'),
  );

  describe(kind, () => {
    test('survives being written as YAML and read again', () => {
      const content = generatedFiles().get(`crds/bulkhead.dev_${each.kind.plural}.yaml`) ?? '';
      assert.deepEqual(load(content), JSON.parse(JSON.stringify(crd)));
    });

    test('every field has a description that fits a terminal', () => {
      for (const [path, node] of below) {
        if (path.endsWith('{}')) continue;
        assert.ok((node.description ?? '').length >= 5, `${path} has no description`);
        assert.ok((node.description ?? '').length <= 240, `${path} has a long description`);
      }
    });

    test('the schema is structural: every node has a type, none forbids fields', () => {
      for (const [path, node] of below) {
        assert.ok(typeof node.type === 'string', `${path} has no type`);
        assert.notEqual(node.additionalProperties, false, path);
        for (const word of Object.keys(node)) {
          assert.doesNotMatch(word, /^(anyOf|oneOf|allOf|const|\$ref|x-bulkhead)/, path);
        }
      }
    });

    test('every string, list and map is bounded, so that the cost of rules is', () => {
      for (const [path, node] of below) {
        if (node.type === 'string' && node.enum === undefined) assert.ok(node.maxLength !== undefined, path);
        if (node.type === 'array') assert.ok(node.maxItems !== undefined, path);
        if (isRecord(node.additionalProperties)) assert.ok(node.maxProperties !== undefined, path);
        if (node.type === 'integer')
          assert.ok(node.minimum !== undefined && node.maximum !== undefined, path);
      }
    });

    test('every list says how it merges, and the keys of keyed ones are required', () => {
      for (const [path, node] of below) {
        if (node.type !== 'array') continue;
        const type = node['x-kubernetes-list-type'];
        assert.ok(type !== undefined, path);
        for (const key of node['x-kubernetes-list-map-keys'] ?? []) {
          assert.equal(type, 'map');
          assert.ok(node.items?.required?.includes(key), `${path}: ${key} is not required`);
        }
      }
    });

    test('every rule is CEL and its message names a field and a fix', () => {
      for (const [path, node] of below) {
        for (const { rule, message } of node['x-kubernetes-validations'] ?? []) {
          assert.doesNotThrow(() => compileRule(rule), path);
          assert.match(message, /must|cannot/, path);
        }
      }
    });

    test('every default is itself a value of its field', () => {
      for (const [path, node] of below) {
        if (node.default === undefined) continue;
        if (node.enum !== undefined) assert.ok(node.enum.includes(node.default), path);
        else if (node.type === 'integer') assert.equal(Number.isInteger(node.default), true, path);
        else if (node.type === 'array') assert.ok(Array.isArray(node.default), path);
        else assert.equal(typeof node.default, node.type, path);
      }
    });

    test('columns and selectable fields point at fields that exist', () => {
      const paths = new Set(below.map(([path]) => path));
      const simple = [
        ...version.additionalPrinterColumns.map(({ jsonPath }) => jsonPath),
        ...(version.selectableFields ?? []).map(({ jsonPath }) => jsonPath),
      ].filter((path) => !path.startsWith('.metadata') && !path.includes('['));
      for (const path of simple) assert.ok(paths.has(path), path);
    });

    test('status is written by its own call', () => {
      assert.deepEqual(version.subresources, { status: {} });
    });
  });
}

test('kubectl shows the columns of the design', () => {
  const [sandbox] = CRD_KINDS;
  const columns = versionOf(buildCrd(sandbox)).additionalPrinterColumns;
  const names = (priority: number) =>
    columns.filter((column) => (column.priority ?? 0) === priority).map(({ name }) => name);
  assert.deepEqual(names(0), ['READY', 'STATUS', 'IMAGE', 'NODE', 'AGE']);
  assert.deepEqual(names(1), ['CPUS', 'MEMORY', 'IP', 'BOOT-MS', 'RESTARTS', 'DRIVER', 'REASON']);
});

test('a sandbox cannot have more conditions than its status holds', () => {
  const [sandbox] = CRD_KINDS;
  const max = sandbox.schema.properties?.status?.properties?.conditions?.maxItems ?? 0;
  assert.ok(Object.keys(SANDBOX_CONDITIONS).length <= max);
});
