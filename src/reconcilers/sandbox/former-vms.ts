// VMs that earlier daemons may have left running.
import type { StoredObject } from '../../api/meta.ts';
import { parseBytes } from '../../api/quantity.ts';
import type { DefaultedSandbox } from '../../api/sandbox.ts';

/** Memory by uid of the sandboxes whose status tells of a VM. The reconciler of one that has none takes it out again. */
export function memoryOfVms(objects: readonly StoredObject[]): Map<string, number> {
  const found = new Map<string, number>();
  for (const object of objects as DefaultedSandbox[])
    if (object.status?.vm !== undefined)
      found.set(object.metadata.uid, parseBytes(object.spec.resources.memory));
  return found;
}
