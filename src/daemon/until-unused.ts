// Ends a daemon that a program started for itself, once neither a client nor a sandbox needs it.
import type { StoredObject } from '../api/meta.ts';
import type { Clock } from '../controller/clock.ts';
import type { Runnable } from '../controller/manager.ts';

/** A program between two calls, or that begins anew, finds it still there. */
export const UNUSED_MS = 5_000;
const CHECK_MS = 500;

/** Nothing runs, and nothing is to run or to be cleared away. */
const AT_REST: ReadonlySet<unknown> = new Set(['Suspended', 'Succeeded', 'Failed']);

interface Dependencies {
  clock: Clock;
  /** Since the last request; 0 while there is one. */
  idleMs(): number;
  sandboxes(): Promise<readonly StoredObject[]>;
  /** Called once. */
  end(): void;
}

export function untilUnused({ clock, idleMs, sandboxes, end }: Dependencies): Runnable {
  let cancel: () => void = () => {};
  let stopped = false;
  const check = async (): Promise<void> => {
    // What cannot be told counts as needed.
    const needed = idleMs() < UNUSED_MS || (await sandboxes().then(areNeeded, () => true));
    if (stopped) return;
    // Asked again: a client may have come while the sandboxes were looked at.
    if (!needed && idleMs() >= UNUSED_MS) end();
    else cancel = clock.after(CHECK_MS, () => void check());
  };
  return {
    name: 'until unused',
    async start() {
      cancel = clock.after(CHECK_MS, () => void check());
    },
    async stop() {
      stopped = true;
      cancel();
    },
  };
}

function areNeeded(objects: readonly StoredObject[]): boolean {
  return objects.some(({ metadata, spec, status }) => {
    const { phase } = (status ?? {}) as { phase?: unknown };
    const { operatingMode } = spec as { operatingMode?: unknown };
    if (metadata.deletionTimestamp !== undefined) return true;
    return !AT_REST.has(phase) || (phase === 'Suspended' && operatingMode !== 'Suspended');
  });
}
