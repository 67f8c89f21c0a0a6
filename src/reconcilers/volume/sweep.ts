// What nobody owns any more: disks whose objects are gone without a word (a store that was restored or replaced, a
// finalizer that somebody removed), and claims of sandboxes that are gone. Such a disk is kept, never removed: what is
// on it may be all that is left.
import type { VolumeReconcilerDeps } from './dependencies.ts';

export async function sweep(deps: VolumeReconcilerDeps, signal: AbortSignal): Promise<void> {
  const { store, volumes, log } = deps;
  // Disks and claims first: one that is made after this was made for an object that the lists then hold.
  const disks = await volumes.list();
  const objects = new Set((await store.list('Volume')).items.map(({ metadata }) => metadata.uid));
  const sandboxes = new Set((await store.list('Sandbox')).items.map(({ metadata }) => metadata.uid));
  for (const { uid, namespace, name, claims, retainedAt } of disks) {
    if (signal.aborted) return;
    try {
      for (const { sandbox, name: holder } of claims) {
        if (sandboxes.has(sandbox) || (await deps.holdsSandbox(sandbox))) continue;
        await volumes.release(uid, sandbox);
        log.warn(
          { volume: `${namespace}/${name}`, sandbox: holder },
          'ended the claim of a sandbox that is gone',
        );
      }
      if (retainedAt !== undefined || objects.has(uid)) continue;
      await volumes.retain(uid);
      log.warn(
        { volume: `${namespace}/${name}`, uid },
        'a disk without an object is kept for a Volume of its name',
      );
    } catch (error) {
      log.error(
        { volume: `${namespace}/${name}`, uid, error },
        'clean-up of a volume failed; it is tried again',
      );
    }
  }
}
