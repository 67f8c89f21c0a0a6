// Writes test/corpus/generated/: what follows from the schemas alone. For each field its bounds, from both sides, and a
// value of a wrong type. Verdicts that were recorded before are kept where the document is the same.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { dump, load } from 'js-yaml';
import { CRD_KINDS } from '../../src/api/crd/crd.ts';
import { applyDefaults } from '../../src/api/defaults.ts';
import type { KindName } from '../../src/api/kinds.ts';
import { compileRule, toCelValue } from '../../src/api/validation/cel.ts';
import { checkerOf } from '../../src/api/validation/object-schemas.ts';
import type { StructuralSchema } from '../../src/api/validation/structural.ts';
import { CORPUS, type CorpusCase, expand } from './corpus.ts';

/** From here on a string or list is written as a marker. */
const WRITTEN_MAX = 40;

/** One of them fits each string of the schemas. */
const EXAMPLES = [
  'a',
  'A',
  '/a',
  '1Gi',
  '0644',
  '127.0.0.1',
  '10.0.0.0/8',
  '.a.example',
  '2030-01-01T00:00:00Z',
];
/** One of them breaks each pattern. */
const STRANGERS = ['!', 'a b', '-', 'a\u0000b'];

/** Parts of a Pod's affinity whose insides are those of another part. */
const SAME_SHAPES = [
  'podAntiAffinity',
  'preferredDuringSchedulingIgnoredDuringExecution',
  'namespaceSelector',
  'matchFields',
];

type Path = readonly (string | 'ITEM')[];

function fits(schema: StructuralSchema, value: string): boolean {
  const { pattern, minLength = 0, maxLength = Number.POSITIVE_INFINITY } = schema;
  if (value.length < minLength || value.length > maxLength) return false;
  if (pattern !== undefined && !new RegExp(pattern, 'u').test(value)) return false;
  return rulesHold(schema, value);
}

function rulesHold(schema: StructuralSchema, value: unknown): boolean {
  return (schema['x-kubernetes-validations'] ?? [])
    .filter(({ rule }) => !rule.includes('oldSelf'))
    .every(({ rule }) => compileRule(rule)(toCelValue(schema, value), null) === true);
}

function exampleText(schema: StructuralSchema): string {
  const found = EXAMPLES.find((each) => fits(schema, each));
  if (found === undefined) throw new Error(`no example fits ${JSON.stringify(schema)}`);
  return found;
}

/** The least that is valid. */
function example(schema: StructuralSchema): unknown {
  if (schema.enum !== undefined) return schema.enum[0];
  switch (schema.type) {
    case 'integer':
      return schema.minimum ?? 0;
    case 'boolean':
      return false;
    case 'array':
      return Array.from({ length: schema.minItems ?? 0 }, () => example(schema.items ?? {}));
    case 'object':
      return exampleObject(schema);
    default:
      return exampleText(schema);
  }
}

function exampleObject(schema: StructuralSchema): Record<string, unknown> {
  const properties = schema.properties ?? {};
  const result: Record<string, unknown> = {};
  for (const name of schema.required ?? []) result[name] = example(properties[name] ?? {});
  if (rulesHold(schema, result)) return result;
  // One of several fields has to be there; the first that does will do.
  for (const [name, property] of Object.entries(properties)) {
    const more = { ...result, [name]: example(property) };
    if (rulesHold(schema, more)) return more;
  }
  return result;
}

/** A valid value of the schema that has `value` at the path. */
function around(schema: StructuralSchema, path: Path, value: unknown): unknown {
  const [step, ...rest] = path;
  if (step === undefined) return value;
  if (step === 'ITEM') {
    const more = Math.max(0, (schema.minItems ?? 1) - 1);
    return [
      around(schema.items ?? {}, rest, value),
      ...Array.from({ length: more }, () => example(schema.items ?? {})),
    ];
  }
  const properties = schema.properties ?? {};
  const required = schema.required ?? [];
  // A field that is required leaves the choice among others open; one that is not may be that choice.
  const result: Record<string, unknown> = required.includes(step)
    ? exampleObject(schema)
    : Object.fromEntries(required.map((name) => [name, example(properties[name] ?? {})]));
  if (value !== undefined || rest.length > 0) result[step] = around(properties[step] ?? {}, rest, value);
  return result;
}

function marker(text: string, times: number, prefix?: string): unknown {
  if (times <= WRITTEN_MAX) return `${prefix ?? ''}${text.repeat(times)}`;
  return prefix === undefined ? { $repeat: text, times } : { prefix, $repeat: text, times };
}

/** What to put there, whether that is valid, and what it is. */
type Variant = readonly [value: unknown, valid: boolean, what: string];

function* textVariants(schema: StructuralSchema): Generator<Variant> {
  const { minLength = 0, maxLength, pattern } = schema;
  yield [5, false, 'a number'];
  yield [true, false, 'a boolean'];
  if (minLength > 0) yield ['', false, 'empty'];
  if (maxLength !== undefined) {
    const full = [
      ['a', maxLength, undefined],
      ['a', maxLength - 1, '/'],
      ['a', maxLength - 1, '.'],
    ] as const;
    const longest = full.find(([text, times, prefix]) =>
      fits(schema, `${prefix ?? ''}${text.repeat(times)}`),
    );
    if (longest !== undefined)
      yield [marker(longest[0], longest[1], longest[2]), true, `as long as it may be (${maxLength})`];
    yield [marker('a', maxLength + 1), false, `longer than ${maxLength} characters`];
  }
  if (pattern === undefined) return;
  const stranger = STRANGERS.find(
    (each) => !new RegExp(pattern, 'u').test(each.padEnd(minLength, each)) && each.length >= minLength,
  );
  const padded =
    stranger ?? STRANGERS.map((each) => each.padEnd(minLength, '!')).find((each) => !fits(schema, each));
  if (padded !== undefined) yield [padded, false, 'a text of another form'];
}

function* integerVariants({ minimum, maximum }: StructuralSchema): Generator<Variant> {
  if (minimum !== undefined) {
    yield [minimum, true, `the least (${minimum})`];
    yield [minimum - 1, false, `less than ${minimum}`];
  }
  if (maximum !== undefined) {
    yield [maximum, true, `the most (${maximum})`];
    // Beyond it JSON has no exact numbers to try.
    if (maximum < Number.MAX_SAFE_INTEGER) yield [maximum + 1, false, `more than ${maximum}`];
  }
  yield ['1', false, 'a string'];
  yield [1.5, false, 'a fraction'];
  yield [true, false, 'a boolean'];
}

function many(schema: StructuralSchema, count: number): unknown {
  const items = schema.items ?? {};
  const keys = schema['x-kubernetes-list-map-keys'] ?? [];
  const item = example(items);
  // Each item has to be another one where the list tells them apart.
  if (typeof item === 'object' && item !== null && keys.length > 0)
    for (const key of keys) {
      const field = items.properties?.[key] ?? {};
      if (field.enum === undefined) (item as Record<string, unknown>)[key] = `${exampleText(field)}%d`;
    }
  if (schema['x-kubernetes-list-type'] === 'set') {
    if (items.enum !== undefined) return undefined;
    const distinct = items.type === 'integer' ? undefined : `${exampleText(items).slice(0, 2)}%d`;
    if (distinct === undefined) return undefined;
    return { $items: distinct, times: count };
  }
  return { $items: item, times: count };
}

function* listVariants(schema: StructuralSchema): Generator<Variant> {
  const { minItems = 0, maxItems, items = {} } = schema;
  yield [{}, false, 'a mapping'];
  yield ['a', false, 'a string'];
  yield [[], minItems === 0, minItems === 0 ? 'empty' : `fewer than ${minItems} items`];
  if (maxItems !== undefined) {
    const most = many(schema, maxItems);
    const more = many(schema, maxItems + 1);
    if (most !== undefined) yield [most, true, `as many items as there may be (${maxItems})`];
    if (more !== undefined) yield [more, false, `more than ${maxItems} items`];
  }
  yield [[null], false, 'an item that is nothing'];
  if (schema['x-kubernetes-list-type'] !== 'atomic') {
    const item = example(items);
    yield [[item, item], false, 'an item twice'];
    yield [[item, item, item], false, 'an item three times'];
  }
}

function* objectVariants(schema: StructuralSchema): Generator<Variant> {
  const base = exampleObject(schema);
  yield ['a', false, 'a string'];
  yield [[], false, 'a list'];
  if (schema.properties !== undefined) yield [{ ...base, another: 1 }, false, 'an unknown field'];
  for (const name of schema.required ?? []) {
    const { [name]: _, ...others } = base;
    yield [others, false, `without ${name}`];
  }
  if (schema.maxProperties !== undefined) {
    const entries = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, 'v']));
    yield [entries(schema.maxProperties), true, `as many entries as there may be (${schema.maxProperties})`];
    yield [entries(schema.maxProperties + 1), false, `more than ${schema.maxProperties} entries`];
  }
}

function* variants(schema: StructuralSchema): Generator<Variant> {
  if (schema.enum !== undefined) {
    for (const value of schema.enum) yield [value, true, String(value)];
    yield ['Another', false, 'another word'];
    yield [5, false, 'a number'];
    return;
  }
  switch (schema.type) {
    case 'integer':
      yield* integerVariants(schema);
      break;
    case 'boolean':
      yield [true, true, 'true'];
      yield ['true', false, 'a string'];
      break;
    case 'array':
      yield* listVariants(schema);
      break;
    case 'object':
      yield* objectVariants(schema);
      break;
    default:
      yield* textVariants(schema);
  }
}

interface FieldNode {
  path: Path;
  schema: StructuralSchema;
  /** May it be absent? An item may not. */
  optional: boolean;
}

function* nodes(schema: StructuralSchema, path: Path, optional: boolean): Generator<FieldNode> {
  yield { path, schema, optional };
  const { required = [] } = schema;
  // Where one of several fields has to be there, none of them can be null alone.
  const least = Object.fromEntries(required.map((name) => [name, example(schema.properties?.[name] ?? {})]));
  const isComplete = path.length === 0 || rulesHold(schema, least);
  for (const [name, child] of Object.entries(schema.properties ?? {}))
    yield* nodes(child, [...path, name], !required.includes(name) && isComplete);
  if (schema.items !== undefined) yield* nodes(schema.items, [...path, 'ITEM'], false);
}

function shown(path: Path): string {
  return ['spec', ...path].join('.').replaceAll('.ITEM', '[]');
}

/** A mount needs its volume. */
function completed(spec: unknown): unknown {
  if (typeof spec !== 'object' || spec === null || !('volumeMounts' in spec) || 'volumes' in spec)
    return spec;
  const { volumeMounts } = spec;
  if (!Array.isArray(volumeMounts) && !(volumeMounts instanceof Object && '$items' in volumeMounts))
    return spec;
  const names: unknown[] = Array.isArray(volumeMounts)
    ? volumeMounts.map((mount: unknown) =>
        mount instanceof Object && 'name' in mount ? mount.name : undefined,
      )
    : ['a'];
  const usable = [...new Set(names)].filter((name) => name instanceof Object || typeof name === 'string');
  return usable.length === 0
    ? spec
    : { ...spec, volumes: usable.map((name) => ({ name, tmpfs: { size: '1Gi' } })) };
}

function breaksRules(kind: KindName, document: Record<string, unknown>): boolean {
  const { schema, checkRules } = checkerOf(kind);
  return checkRules(applyDefaults(schema, expand(document)), undefined, () => false).length > 0;
}

/** Every case of one kind. */
export function generatedCases({ kind, schema }: (typeof CRD_KINDS)[number]): CorpusCase[] {
  const spec = schema.properties?.spec ?? {};
  const cases: CorpusCase[] = [];
  for (const { path, schema: node, optional } of nodes(spec, [], false)) {
    if (SAME_SHAPES.some((shape) => path.includes(shape) && path.at(-1) !== shape)) continue;
    // Nothing is what is absent, where that may be.
    const nothing: Variant = [null, optional, 'null'];
    for (const [value, valid, what] of [...variants(node), nothing]) {
      const document = {
        apiVersion: `${kind.group}/${kind.version}`,
        kind: kind.kind,
        metadata: { name: 'a' },
        spec: completed(around(spec, path, value)),
      };
      // A value that other fields would have to go with is a case to write, not to generate.
      if (valid && breaksRules(kind.kind, document)) continue;
      cases.push({ name: `${kind.kind} ${shown(path)}: ${what}`, valid, document });
    }
  }
  return cases;
}

/** The file of one kind, with what was recorded for documents that are still the same. */
export function generatedFile(each: (typeof CRD_KINDS)[number]): { path: string; cases: CorpusCase[] } {
  const path = join('generated', `${each.kind.singular}.yaml`);
  const file = join(CORPUS, path);
  const before = existsSync(file) ? ((load(readFileSync(file, 'utf8')) ?? []) as CorpusCase[]) : [];
  const known = new Map(before.map((one) => [one.name, one]));
  const cases = generatedCases(each).map((one) => {
    const former = known.get(one.name);
    const isSame = former !== undefined && JSON.stringify(former.document) === JSON.stringify(one.document);
    return isSame ? { ...former, valid: one.valid } : one;
  });
  return { path, cases };
}

/** As it stands in a file: a line for each document, which is small. */
export function writeCases(path: string, heading: string, cases: readonly CorpusCase[]): void {
  const text = cases.map((one) => dump([one], { flowLevel: 2, lineWidth: -1, noRefs: true })).join('');
  writeFileSync(join(CORPUS, path), `${heading}${text}`);
}

export const GENERATED_HEADING =
  '# Generated from the schemas by test/corpus/generate.ts; verdicts recorded from an API server by test/corpus/record.ts.\n';

if (import.meta.main) {
  for (const each of CRD_KINDS) {
    const { path, cases } = generatedFile(each);
    writeCases(path, GENERATED_HEADING, cases);
    console.log(`${path}: ${cases.length} cases`);
  }
}
