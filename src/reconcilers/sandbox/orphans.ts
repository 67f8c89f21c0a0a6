// Directories of sandboxes whose objects are gone: a store that was restored or replaced, a finalizer that somebody
// removed. Their VMs are stopped and everything of theirs is given back.
import { readdir } from 'node:fs/promises';

import type { SandboxReconcilerDeps } from './dependencies.ts';
import { releaseHost } from './effects/release.ts';
import type { SandboxLogs } from './logs/logs.ts';
import type { LiveSandboxes } from './runtime/live-sandboxes.ts';
import { SandboxRuntime } from './runtime/sandbox-runtime.ts';

/** Only what is named like a uid is ours to remove. */
const UID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** A directory whose sandbox has no object. */
export interface Orphan {
  uid: string;
  /** Stops its VM and gives back everything of it. */
  remove(): Promise<void>;
}

/** What is left of sandboxes without objects. Those that this process has seen are woken: their own keys clean them up. */
export async function findOrphans(
  deps: SandboxReconcilerDeps,
  live: LiveSandboxes,
  logs: SandboxLogs,
): Promise<Orphan[]> {
  // Directories first: one that is made after this was made for an object that the list then holds.
  const uids = (await readdir(deps.sandboxesDir)).filter((name) => UID.test(name));
  if (uids.length === 0) return [];
  const { items } = await deps.store.list('Sandbox');
  const owned = new Set(items.map((item) => item.metadata.uid));
  const orphans: Orphan[] = [];
  for (const uid of uids) {
    if (owned.has(uid)) continue;
    const held = live.runtime(uid);
    if (held === undefined) orphans.push({ uid, remove: () => remove(deps, logs, uid) });
    else deps.enqueuer.enqueue(held.key);
  }
  return orphans;
}

async function remove(deps: SandboxReconcilerDeps, logs: SandboxLogs, uid: string): Promise<void> {
  const key = { kind: 'Sandbox', namespace: '', name: uid };
  const { sandboxesDir, clock, random, networks } = deps;
  const runtime = new SandboxRuntime(uid, key, sandboxesDir, clock, random, () => {}, networks);
  runtime.directory = true;
  await releaseHost({ deps, logs, runtime });
  deps.log.warn({ uid }, 'cleaned up after a sandbox that has no object');
}

/** One sweep. Returns the uids that were cleaned up; what fails is logged, counted, and tried in the next sweep. */
export async function sweepOrphans(
  deps: SandboxReconcilerDeps,
  live: LiveSandboxes,
  logs: SandboxLogs,
  signal: AbortSignal,
): Promise<string[]> {
  const cleaned: string[] = [];
  let left = 0;
  for (const orphan of await findOrphans(deps, live, logs)) {
    if (signal.aborted) break;
    try {
      await orphan.remove();
      cleaned.push(orphan.uid);
    } catch (error) {
      left += 1;
      deps.log.error({ uid: orphan.uid, error }, 'clean-up after a sandbox that has no object failed');
    }
  }
  deps.metrics.orphans(left);
  return cleaned;
}
