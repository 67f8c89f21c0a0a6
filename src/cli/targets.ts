// Which objects a command is about: `KIND`, `KIND NAME...`, `KIND/NAME...`, `KIND1,KIND2`, or the names of sandboxes alone.

import { BulkheadError } from '../api/errors.ts';
import { KINDS, resolveKind, SANDBOX_KIND } from '../api/kinds.ts';
import type { ResourceKind, StoredObject } from '../api/meta.ts';
import { nearestName } from '../api/validation/nearest.ts';
import type { BulkheadClient } from '../client/client.ts';
import { usage } from './failure.ts';

export interface Target {
  kind: ResourceKind;
  /** Absent: all of the kind. */
  name?: string;
}

/** As kubectl prints it: `sandbox.bulkhead.dev/agent`. */
export function displayName(kind: ResourceKind, name: string): string {
  return `${qualifiedSingular(kind)}/${name}`;
}

export function qualifiedSingular(kind: ResourceKind): string {
  return kind.group === '' ? kind.singular : `${kind.singular}.${kind.group}`;
}

/** A kind by any of its names; fails with the nearest one. */
export function kindOf(word: string): ResourceKind {
  const kind = resolveKind(word);
  if (kind !== undefined) return kind;
  const names = KINDS.flatMap((each) => [each.plural, each.singular, ...each.shortNames]);
  const nearest = nearestName(word.toLowerCase(), names);
  const hint =
    nearest === undefined
      ? `there are ${KINDS.map(({ plural }) => plural).join(', ')}`
      : `did you mean "${nearest}"?`;
  throw usage(`the server has no kind "${word}"; ${hint}`);
}

/** Every kind in a word such as `sbx,volumes`; `all` is every kind of Bulkhead's own. */
function kindsOf(word: string): ResourceKind[] {
  if (word === 'all') return KINDS.filter(({ group }) => group !== '').toReversed();
  return word.split(',').map(kindOf);
}

/** The arguments of get, describe, delete and wait. */
export function parseTargets(words: readonly string[]): Target[] {
  const [first, ...names] = words;
  if (first === undefined) throw usage('say which kind, e.g. sandboxes');
  if (first.includes('/')) return words.map(parseSlashed);
  const kinds = kindsOf(first);
  if (names.length === 0) return kinds.map((kind) => ({ kind }));
  const slashed = names.find((name) => name.includes('/'));
  if (slashed !== undefined) throw usage(`"${slashed}": KIND/NAME does not go with a kind before it`);
  return kinds.flatMap((kind) => names.map((name) => ({ kind, name })));
}

function parseSlashed(word: string): Target {
  const [kind = '', name = '', ...rest] = word.split('/');
  if (kind === '' || name === '' || rest.length > 0) throw usage(`"${word}": expected KIND/NAME`);
  return { kind: kindOf(kind), name };
}

/** The name of a sandbox, with or without its kind before it. */
export function sandboxName(word: string): string {
  if (!word.includes('/')) return word;
  const { kind, name } = parseSlashed(word);
  if (kind.kind !== SANDBOX_KIND.kind || name === undefined) throw usage(`"${word}" is no sandbox`);
  return name;
}

/** Gets one object; where there is none, says which name was probably meant. */
export async function getNamed(
  client: BulkheadClient,
  kind: ResourceKind,
  namespace: string,
  name: string,
): Promise<StoredObject> {
  try {
    return await client.get(kind, namespace, name);
  } catch (error) {
    throw await withSuggestion(error, client, kind, namespace, name);
  }
}

/** A NOT_FOUND with the nearest existing name added; any other failure as it is. */
export async function withSuggestion(
  error: unknown,
  client: BulkheadClient,
  kind: ResourceKind,
  namespace: string,
  name: string,
): Promise<unknown> {
  if (!(error instanceof BulkheadError) || error.code !== 'NOT_FOUND') return error;
  const names: string[] = [];
  for await (const { items } of client.pages(kind, { namespace }))
    names.push(...items.map(({ metadata }) => metadata.name));
  const nearest = nearestName(name, names);
  if (nearest === undefined || nearest === name) return error;
  return new BulkheadError('NOT_FOUND', `${error.message}; did you mean "${nearest}"?`, { cause: error });
}
