// Objects as Kubernetes' `Table`: what kubectl and dashboards ask for to show any kind without knowing it.
import { ageOf } from '../api/age.ts';
import { COLUMNS, type Column } from '../api/columns.ts';
import { BulkheadError } from '../api/errors.ts';
import { jsonPathValues } from '../api/jsonpath.ts';
import type { StoredObject } from '../api/meta.ts';
import type { ServedKind } from './contracts.ts';
import { type Query, single } from './query.ts';

const META_VERSION = 'meta.k8s.io/v1';
const INCLUDE_OBJECT = ['None', 'Metadata', 'Object'] as const;
type IncludeObject = (typeof INCLUDE_OBJECT)[number];

interface TableColumn {
  name: string;
  type: string;
  format: string;
  description: string;
  /** 0: always shown; 1: with `-o wide` only. */
  priority: number;
}

interface TableRow {
  cells: unknown[];
  object?: unknown;
}

export interface Table {
  kind: 'Table';
  apiVersion: typeof META_VERSION;
  metadata: Record<string, unknown>;
  columnDefinitions: TableColumn[];
  rows: TableRow[];
}

/** Makes the tables of one request. */
export interface TablePrinter {
  table(objects: readonly StoredObject[], metadata: Record<string, unknown>): Table;
}

/**
 * What an `Accept` header asks for, in its order of preference: a printer where the first kind of answer that this
 * server knows is a Table, `undefined` for plain objects.
 */
export function tablePrinter(
  accept: string | undefined,
  kind: ServedKind,
  query: Query,
  now: () => number = Date.now,
): TablePrinter | undefined {
  const first = (accept ?? '').split(',').find((range) => isTable(range) || isPlain(range));
  if (first === undefined || !isTable(first)) return undefined;
  const include = includeObject(query);
  const columns = columnsOf(kind);
  return {
    table: (objects, metadata) => ({
      ...{ kind: 'Table', apiVersion: META_VERSION, metadata },
      columnDefinitions: [NAME_COLUMN, ...columns.map(definitionOf)],
      rows: objects.map((object) => ({
        cells: [object.metadata.name, ...columns.map((column) => cellOf(column, object, now()))],
        ...objectOf(object, include),
      })),
    }),
  };
}

const NAME_COLUMN: TableColumn = {
  ...{ name: 'Name', type: 'string', format: 'name', description: 'Name of the object.', priority: 0 },
};

function parametersOf(range: string): { type: string; parameters: Map<string, string> } {
  const [type = '', ...rest] = range.split(';').map((part) => part.trim().toLowerCase());
  return {
    type,
    parameters: new Map(
      rest.map((part) => part.split('=', 2)).map(([name = '', value = '']) => [name, value]),
    ),
  };
}

function isTable(range: string): boolean {
  const { type, parameters } = parametersOf(range);
  const [as, group, version] = ['as', 'g', 'v'].map((name) => parameters.get(name));
  return type === 'application/json' && as === 'table' && group === 'meta.k8s.io' && version === 'v1';
}

function isPlain(range: string): boolean {
  const { type, parameters } = parametersOf(range);
  return ['application/json', 'application/*', '*/*'].includes(type) && !parameters.has('as');
}

function includeObject(query: Query): IncludeObject {
  const value = single(query, 'includeObject') ?? 'Metadata';
  const known = INCLUDE_OBJECT.find((each) => each === value);
  if (known !== undefined) return known;
  throw new BulkheadError(
    'BAD_REQUEST',
    `query parameter includeObject: expected one of ${INCLUDE_OBJECT.join(', ')}, found "${value}"`,
  );
}

interface CompiledColumn extends Column {
  values: (object: unknown) => unknown[];
}

function columnsOf({ kind }: ServedKind): CompiledColumn[] {
  const columns: readonly Column[] = COLUMNS[kind as keyof typeof COLUMNS] ?? [];
  return columns.map((column) => ({ ...column, values: jsonPathValues(column.jsonPath) }));
}

/** Dates are sent as ages in words, as Kubernetes does. */
function definitionOf({ name, type, jsonPath, wide }: Column): TableColumn {
  return {
    name: titled(name),
    type: type === 'integer' ? 'integer' : 'string',
    format: '',
    description: `The value at ${jsonPath}.`,
    priority: wide ? 1 : 0,
  };
}

/** `BOOT-MS` as `Boot-Ms`: clients write headers in upper case again. */
function titled(name: string): string {
  return name.replace(/\w+/g, (word) => `${word.slice(0, 1)}${word.slice(1).toLowerCase()}`);
}

function cellOf(column: CompiledColumn, object: StoredObject, now: number): unknown {
  const [value] = column.values(object);
  if (column.type === 'date') return ageOf(value, now);
  if (value === undefined || value === null) return column.type === 'integer' ? null : '';
  return typeof value === 'object' ? JSON.stringify(value) : value;
}

function objectOf(object: StoredObject, include: IncludeObject): { object?: unknown } {
  if (include === 'None') return {};
  if (include === 'Object') return { object };
  return {
    object: { kind: 'PartialObjectMetadata', apiVersion: META_VERSION, metadata: object.metadata },
  };
}
