// The corpus: documents with the verdict and the words that a Kubernetes API server with our crds/ gives. One unit test
// holds our validator to it, one test in test/cluster/ a real API server. README.md beside this file tells how to add to it.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { load } from 'js-yaml';

export const CORPUS = import.meta.dirname;

/** Specs of larger documents are not recorded as they are stored: they would be most of the corpus. */
export const STORED_MAX_CHARS = 2000;

export interface CorpusCase {
  /** Unique in the corpus; what is special about the document. */
  name: string;
  /** Whoever writes the case says it; the rest is recorded. */
  valid: boolean;
  document: Record<string, unknown>;
  /** The object as it was before; the document is then an update of it. */
  former?: Record<string, unknown>;
  /** `path: sentence` of each mistake, sorted, as the API server says them. */
  errors?: string[];
  /**
   * Mistakes that our validator names too, where the API server stopped before: it evaluates no rules beside a mistake of
   * type or bounds, and nothing at all beside an unknown field.
   */
  alsoHere?: string[];
  /** The spec as it is stored, with its defaults; absent for what is refused. */
  stored?: Record<string, unknown>;
  /** Why our words are others: then the verdict alone has to be the same, and `here` holds ours. */
  differs?: string;
  here?: string[];
}

export interface CorpusFile {
  path: string;
  cases: CorpusCase[];
}

/** `{$repeat: a, times: 3}` is "aaa"; `{$items: {name: e%d}, times: 2}` is the list of e0 and e1. Keeps large documents small. */
export function expand(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(expand);
  if (typeof value !== 'object' || value === null) return value;
  const { $repeat, $items, times, prefix } = value as Record<string, unknown>;
  if (typeof $repeat === 'string' && typeof times === 'number')
    return `${typeof prefix === 'string' ? prefix : ''}${$repeat.repeat(times)}`;
  if ($items !== undefined && typeof times === 'number')
    return Array.from({ length: times }, (_, index) => numbered(expand($items), index));
  return Object.fromEntries(Object.entries(value).map(([name, child]) => [name, expand(child)]));
}

function numbered(value: unknown, index: number): unknown {
  if (value === '%d') return index;
  if (typeof value === 'string') return value.replaceAll('%d', String(index));
  if (Array.isArray(value)) return value.map((each) => numbered(each, index));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, child]) => [name, numbered(child, index)]));
}

/** The files as they are written, markers and all. */
export function readCorpus(): CorpusFile[] {
  return globSync('**/*.yaml', { cwd: CORPUS })
    .sort()
    .map((path) => ({ path, cases: (load(readFileSync(join(CORPUS, path), 'utf8')) ?? []) as CorpusCase[] }));
}

/** Every case with its documents in full. */
export function corpusCases(): CorpusCase[] {
  return readCorpus().flatMap(({ cases }) => cases.map((each) => expand(each) as CorpusCase));
}
