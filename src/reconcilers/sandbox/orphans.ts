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

/** One sweep. Returns the uids that were cleaned up; what fails is logged, counted, and tried in the next sweep. */
export async function sweepOrphans(
  deps: SandboxReconcilerDeps,
  live: LiveSandboxes,
  logs: SandboxLogs,
  signal: AbortSignal,
): Promise<string[]> {
  // Directories first: one that is made after this was made for an object that the list then holds.
  const uids = (await readdir(deps.sandboxesDir)).filter((name) => UID.test(name));
  if (uids.length === 0) {
    deps.metrics.orphans(0);
    return [];
  }
  const { items } = await deps.store.list('Sandbox');
  const owned = new Set(items.map((item) => item.metadata.uid));
  const cleaned: string[] = [];
  let left = 0;
  for (const uid of uids) {
    if (signal.aborted) break;
    if (owned.has(uid)) continue;
    const held = live.runtime(uid);
    if (held !== undefined) {
      // It was seen with its object in this process: its own key cleans it up.
      deps.enqueuer.enqueue(held.key);
      continue;
    }
    const key = { kind: 'Sandbox', namespace: '', name: uid };
    const { sandboxesDir, clock, random, networks } = deps;
    const runtime = new SandboxRuntime(uid, key, sandboxesDir, clock, random, () => {}, networks);
    runtime.directory = true;
    try {
      await releaseHost({ deps, logs, runtime });
      deps.log.warn({ uid }, 'cleaned up after a sandbox that has no object');
      cleaned.push(uid);
    } catch (error) {
      left += 1;
      deps.log.error({ uid, error }, 'clean-up after a sandbox that has no object failed');
    }
  }
  deps.metrics.orphans(left);
  return cleaned;
}
