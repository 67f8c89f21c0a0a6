// Waiting until an object is as wanted, by watching it.
import { setTimeout as delay } from 'node:timers/promises';
import type { Condition, ResourceKind, StoredObject } from '../api/meta.ts';
import type { BulkheadClient } from '../client/client.ts';
import { isUnreachable } from '../client/endpoint.ts';
import { followObjects } from '../client/follow.ts';
import { CommandFailure, EXIT, usage } from './failure.ts';
import { jsonPathValues } from './output/jsonpath.ts';

/** How soon to ask again for a daemon that is being restarted. */
const RECONNECT_MS = 300;

/** Objects that one command follows at a time: the daemon admits 1024 followers in all, and other commands want some. */
const FOLLOWED_AT_ONCE = 512;

export interface Goal {
  /** As kubectl words it, e.g. `condition met`. */
  met: string;
  /** What was waited for, for the message of a time-out. */
  description: string;
  /** Is it reached? `undefined`: the object does not exist. */
  reached(object: StoredObject | undefined): boolean;
}

export function conditionsOf(object: StoredObject | undefined): readonly Condition[] {
  const { conditions } = (object?.status ?? {}) as { conditions?: readonly Condition[] };
  return Array.isArray(conditions) ? conditions : [];
}

/** A condition whose status is of the present generation. */
function hasCondition(object: StoredObject | undefined, type: string, status: string): boolean {
  const wanted = type.toLowerCase();
  return conditionsOf(object).some(
    (condition) =>
      condition.type.toLowerCase() === wanted &&
      condition.status.toLowerCase() === status.toLowerCase() &&
      (condition.observedGeneration === undefined ||
        condition.observedGeneration >= (object?.metadata.generation ?? 0)),
  );
}

export function conditionGoal(type: string, status = 'True'): Goal {
  return {
    met: 'condition met',
    description: `condition ${type}=${status}`,
    reached: (object) => hasCondition(object, type, status),
  };
}

export const DELETED: Goal = {
  met: 'deleted',
  description: 'its deletion',
  reached: (object) => object === undefined,
};

/** The end of one object: one of the same name that came after it is another one. */
export function goneGoal(uid: string): Goal {
  return { ...DELETED, reached: (object) => object === undefined || object.metadata.uid !== uid };
}

/** The value of `--for`. */
export function parseGoal(text: string): Goal {
  if (text === 'delete') return DELETED;
  if (text === 'create') {
    return { met: 'created', description: 'its creation', reached: (object) => object !== undefined };
  }
  const [, type, status] = /^condition=([^=]+)(?:=(.+))?$/.exec(text) ?? [];
  if (type !== undefined) return conditionGoal(type, status);
  const [, path, value] = /^jsonpath=(\{[\s\S]*\}|[^={]+)(?:=([\s\S]*))?$/.exec(text) ?? [];
  if (path !== undefined) {
    const values = jsonPathValues(path);
    return {
      met: 'condition met',
      description: value === undefined ? `a value at ${path}` : `${path}=${value}`,
      reached: (object) => values(object).some((found) => value === undefined || String(found) === value),
    };
  }
  throw usage(`--for="${text}": expected condition=TYPE[=STATUS], delete, create or jsonpath={PATH}[=VALUE]`);
}

/** As `Promise.allSettled` of `follow` over the items, but of so many at a time that the daemon admits them. */
export async function followEach<Item, Result>(
  items: readonly Item[],
  follow: (item: Item) => Promise<Result>,
): Promise<PromiseSettledResult<Result>[]> {
  const results: PromiseSettledResult<Result>[] = [];
  const rest = items.entries();
  const next = async (): Promise<void> => {
    for (const [index, item] of rest)
      [results[index]] = (await Promise.allSettled([follow(item)])) as [PromiseSettledResult<Result>];
  };
  await Promise.all(Array.from({ length: FOLLOWED_AT_ONCE }, next));
  return results;
}

interface WaitTarget {
  kind: ResourceKind;
  namespace: string;
  name: string;
}

/** Why an object is not as wanted, in its own words. */
function explain(object: StoredObject | undefined): string {
  if (object === undefined) return 'it does not exist';
  const conditions = conditionsOf(object);
  const telling = ['Stalled', 'Ready'].map((type) => conditions.find((each) => each.type === type));
  const [first] = telling.filter((each) => each !== undefined && each.status !== 'Unknown');
  if (first === undefined) return 'it has no conditions yet';
  return `${first.type}=${first.status}, ${first.reason}: ${first.message}`;
}

/**
 * Resolves with the object (none after a deletion) when the goal is reached; fails when the deadline comes first. A daemon
 * that goes away meanwhile is waited for too; one that never answered is a failure at once.
 */
export async function waitFor(
  client: BulkheadClient,
  { kind, namespace, name }: WaitTarget,
  goal: Goal,
  deadline: AbortSignal,
  onChange: (object: StoredObject) => void = () => {},
): Promise<StoredObject | undefined> {
  const query = { namespace, fieldSelector: `metadata.name=${name}` };
  let object: StoredObject | undefined;
  let answered = false;
  while (!deadline.aborted) {
    const stop = new AbortController();
    const signal = AbortSignal.any([deadline, stop.signal]);
    try {
      for await (const change of followObjects(client, kind, query, signal)) {
        answered = true;
        if (change.type === 'SYNCED') object = change.objects[0];
        else object = change.type === 'DELETED' ? undefined : change.object;
        if (object !== undefined) onChange(object);
        if (goal.reached(object)) return object;
      }
    } catch (error) {
      if (deadline.aborted) break;
      if (!answered || !isUnreachable(error)) throw error;
      await delay(RECONNECT_MS);
    } finally {
      stop.abort();
    }
  }
  throw new CommandFailure(
    EXIT.failed,
    `timed out waiting for ${goal.description} of ${kind.plural}/${name}: ${explain(object)}`,
  );
}
