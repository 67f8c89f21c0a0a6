// Gives back everything on the host that a sandbox without an object, or with one that is deleted, still holds.
import { rm } from 'node:fs/promises';

import { within } from '../../elapsed.ts';
import { OUTPUT_DRAIN_MS } from '../limits.ts';
import type { EffectContext } from './context.ts';

/** Safe to repeat from any point: the directory, which is how a sandbox is found again, goes last. */
export async function releaseHost({
  deps,
  logs,
  runtime,
}: Pick<EffectContext, 'deps' | 'logs' | 'runtime'>): Promise<void> {
  await runtime.handle?.kill();
  for (const driver of deps.drivers.all) {
    // A VM of a start that this process knows nothing of.
    const handle = runtime.directory ? await driver.adopt(runtime.dir) : undefined;
    await handle?.kill();
    await driver.release(runtime.dir);
  }
  if (runtime.main !== undefined) await within(deps.clock, OUTPUT_DRAIN_MS, runtime.main.settled);
  logs.forget(runtime.uid);
  await deps.volumes.releaseAll(runtime.uid);
  await deps.images.releaseLease(runtime.uid);
  await rm(runtime.dir, { recursive: true, force: true });
  runtime.markReleased();
}
