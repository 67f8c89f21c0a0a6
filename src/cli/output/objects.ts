// Objects in the output formats of `get`.

import { ageOf } from '../../api/age.ts';
import { COLUMNS, type Column } from '../../api/columns.ts';
import { kindNamed } from '../../api/kinds.ts';
import type { ResourceKind, StoredObject } from '../../api/meta.ts';
import { usage } from '../failure.ts';
import { displayName } from '../targets.ts';
import { jsonPathTemplate, jsonPathValues } from './jsonpath.ts';
import { Table } from './table.ts';
import { toYaml } from './yaml.ts';

export type Format =
  | { type: 'table'; wide: boolean }
  | { type: 'json' | 'yaml' | 'name' }
  | { type: 'jsonpath'; render: (object: unknown) => string };

/** The value of `-o`. */
export function parseFormat(text: string | undefined): Format {
  if (text === undefined) return { type: 'table', wide: false };
  if (text === 'wide') return { type: 'table', wide: true };
  if (text === 'json' || text === 'yaml' || text === 'name') return { type: text };
  const [, template] = /^jsonpath=([\s\S]*)$/.exec(text) ?? [];
  if (template !== undefined) return { type: 'jsonpath', render: jsonPathTemplate(template) };
  throw usage(`output format "${text}": expected wide, json, yaml, name or jsonpath=TEMPLATE`);
}

function kindOfObject(object: StoredObject): ResourceKind {
  const kind = kindNamed(object.kind);
  if (kind === undefined) throw usage(`the server sent an object of the unknown kind "${object.kind}"`);
  return kind;
}

/** Everything but tables. A single object that was asked for by name stands alone, else there is a List. */
export function formatObjects(objects: readonly StoredObject[], format: Format, single: boolean): string {
  const document =
    single && objects.length === 1
      ? objects[0]
      : { apiVersion: 'v1', kind: 'List', metadata: { resourceVersion: '' }, items: objects };
  switch (format.type) {
    case 'json':
      return `${JSON.stringify(document, undefined, 4)}\n`;
    case 'yaml':
      return toYaml(document);
    case 'name':
      return objects.map((object) => `${displayName(kindOfObject(object), object.metadata.name)}\n`).join('');
    case 'jsonpath':
      return format.render(document);
    case 'table':
      throw new Error('tables have their own printer');
  }
}

export interface TableOptions {
  wide: boolean;
  showNamespace: boolean;
  showHeader: boolean;
  showLabels: boolean;
  /** Before the names, where several kinds are shown. */
  showKind: boolean;
  now: () => number;
}

function cellOf(column: Column, now: number): (object: StoredObject) => string {
  const values = jsonPathValues(column.jsonPath);
  return (object) => {
    const [value] = values(object);
    if (column.type === 'date') return ageOf(value, now);
    if (value === undefined || value === null || value === '') return '<none>';
    return typeof value === 'object' ? JSON.stringify(value) : String(value);
  };
}

function labelsOf({ metadata }: StoredObject): string {
  const labels = Object.entries(metadata.labels ?? {}).map(([name, value]) => `${name}=${value}`);
  return labels.length > 0 ? labels.join(',') : '<none>';
}

/** The table of one kind; more rows can follow. */
export class ObjectTable {
  readonly #kind: ResourceKind;
  readonly #options: TableOptions;
  readonly #columns: readonly Column[];
  readonly #table: Table;

  constructor(kind: ResourceKind, options: TableOptions) {
    this.#kind = kind;
    this.#options = options;
    const all = COLUMNS[kind.kind as keyof typeof COLUMNS];
    this.#columns = all.filter((column) => options.wide || column.wide !== true);
    const header = [
      ...(options.showNamespace ? ['NAMESPACE'] : []),
      'NAME',
      ...this.#columns.map(({ name }) => name),
      ...(options.showLabels ? ['LABELS'] : []),
    ];
    this.#table = new Table(header, { showHeader: options.showHeader });
  }

  format(objects: readonly StoredObject[]): string {
    const { showNamespace, showLabels, showKind, now } = this.#options;
    const cells = this.#columns.map((column) => cellOf(column, now()));
    const rows = objects.map((object) => {
      const { name, namespace } = object.metadata;
      return [
        ...(showNamespace ? [namespace] : []),
        showKind ? displayName(this.#kind, name) : name,
        ...cells.map((cell) => cell(object)),
        ...(showLabels ? [labelsOf(object)] : []),
      ];
    });
    return this.#table.format(rows);
  }
}
