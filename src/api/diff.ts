// A readable, stable difference of two manifests: one line per field that differs, in the order of the schema's fields.
import { formatPath, type PathSegment } from './validation/field-error.ts';
import { isRecord } from './validation/structural.ts';

/** One field that differs. `undefined` on a side: the field is not there. */
export interface FieldDifference {
  path: readonly PathSegment[];
  before: unknown;
  after: unknown;
}

/** What a manifest says of an object; the rest of a stored object belongs to the server and its controllers. */
interface Comparable {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  spec?: unknown;
  data?: Record<string, string>;
}

/** Fields by which the items of a list are told apart, the first that all of them have. */
const ITEM_KEYS = ['name', 'mountPath', 'env'] as const;

function itemKey(items: readonly unknown[]): string | undefined {
  return ITEM_KEYS.find((key) => {
    const values = items.map((item) => (isRecord(item) ? item[key] : undefined));
    return values.every((value) => typeof value === 'string') && new Set(values).size === values.length;
  });
}

function sameJson(before: unknown, after: unknown): boolean {
  if (Array.isArray(before) && Array.isArray(after)) {
    return before.length === after.length && before.every((item, index) => sameJson(item, after[index]));
  }
  if (isRecord(before) && isRecord(after)) {
    return [...new Set([...Object.keys(before), ...Object.keys(after)])].every((name) =>
      sameJson(before[name], after[name]),
    );
  }
  return before === after;
}

function compareRecords(
  path: readonly PathSegment[],
  before: Record<string, unknown>,
  after: Record<string, unknown>,
): FieldDifference[] {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  return names.flatMap((name) => compare([...path, name], before[name], after[name]));
}

function compareLists(
  path: readonly PathSegment[],
  before: readonly unknown[],
  after: readonly unknown[],
): FieldDifference[] {
  const key = before.length > 0 && after.length > 0 ? itemKey([...before]) : undefined;
  if (key === undefined || itemKey([...after]) !== key) {
    const length = Math.max(before.length, after.length);
    return Array.from({ length }, (_, index) =>
      compare([...path, index], before[index], after[index]),
    ).flat();
  }
  const named = (items: readonly unknown[]) =>
    new Map(items.map((item) => [String((item as Record<string, unknown>)[key]), item]));
  const [former, latter] = [named(before), named(after)];
  const differences = [...new Set([...former.keys(), ...latter.keys()])].flatMap((name) =>
    compare([...path, name], former.get(name), latter.get(name)),
  );
  if (
    differences.length > 0 ||
    [...former.keys()].every((name, index) => name === [...latter.keys()][index])
  ) {
    return differences;
  }
  return [{ path, before: [...former.keys()], after: [...latter.keys()] }];
}

/** A mapping that is there on one side only is shown field by field; an empty one (`main: {}`) as itself. */
function absentLike(other: unknown): unknown {
  return isRecord(other) && Object.keys(other).length > 0 ? {} : undefined;
}

function compare(path: readonly PathSegment[], before: unknown, after: unknown): FieldDifference[] {
  if (sameJson(before, after)) return [];
  const [former, latter] = [before ?? absentLike(after), after ?? absentLike(before)];
  if (isRecord(former) && isRecord(latter)) return compareRecords(path, former, latter);
  if (Array.isArray(before) && Array.isArray(after)) return compareLists(path, before, after);
  return [{ path, before, after }];
}

/** An absent map and an empty one say the same. */
function filled(map: Record<string, string> | undefined): Record<string, string> | undefined {
  return map === undefined || Object.keys(map).length === 0 ? undefined : map;
}

/** The object without what the server and its controllers decide. */
function comparable(object: Comparable | undefined): Record<string, unknown> {
  if (object === undefined) return {};
  const { apiVersion, kind, metadata, spec, data } = object;
  const { name, namespace, labels, annotations } = metadata;
  return {
    apiVersion,
    kind,
    metadata: { name, namespace, labels: filled(labels), annotations: filled(annotations) },
    spec,
    data: filled(data),
  };
}

/** Fields of two versions of an object that differ, in a stable order. Empty: they say the same. */
export function diffManifests(
  before: Comparable | undefined,
  after: Comparable | undefined,
): FieldDifference[] {
  return compareRecords([], comparable(before), comparable(after));
}

/** Longest value on a line; the path still tells where to look. */
const VALUE_SHOWN_MAX = 256;

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > VALUE_SHOWN_MAX ? `${text.slice(0, VALUE_SHOWN_MAX)}...` : text;
}

/**
 * Lines for people and CI logs, without colour: `~ spec.image: "a" -> "b"`, `+ spec.env["A"]: ...`, `- spec.user: "app"`.
 * Values of a Secret are never shown.
 */
export function formatDifference(difference: FieldDifference, options: { hideValues: boolean }): string {
  const { before, after } = difference;
  const path = formatPath(difference.path);
  const shown = (value: unknown) => (options.hideValues ? '(hidden)' : show(value));
  if (before === undefined) return `+ ${path}: ${shown(after)}`;
  if (after === undefined) return `- ${path}: ${shown(before)}`;
  return options.hideValues ? `~ ${path}: (changed)` : `~ ${path}: ${show(before)} -> ${show(after)}`;
}

/** Difference of two versions as text, one line per field, headed by the object's name; empty when they say the same. */
export function formatDiff(before: Comparable | undefined, after: Comparable | undefined): string {
  const either = after ?? before;
  const differences = diffManifests(before, after);
  if (either === undefined || differences.length === 0) return '';
  const { kind, metadata } = either;
  const verb =
    before === undefined ? 'would be created' : after === undefined ? 'would be deleted' : 'differs';
  const hideValues = kind === 'Secret';
  const lines = differences.map((difference) => {
    const isData = difference.path[0] === 'data';
    return `  ${formatDifference(difference, { hideValues: hideValues && isData })}`;
  });
  return `${kind} ${metadata.namespace ?? 'default'}/${metadata.name} ${verb}:\n${lines.join('\n')}\n`;
}
