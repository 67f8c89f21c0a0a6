// Directories of the host for a start: opened, given to the driver, closed again.
import { closeSync } from 'node:fs';
import { BulkheadError } from '../../../api/errors.ts';
import type { HostPaths, VmShare } from '../../../vmm/driver.ts';
import type { AttachedShare, WantedShare } from './spec.ts';

/** What was opened of the host; disposing of it closes it. */
export interface OpenShares extends Disposable {
  attached: readonly AttachedShare[];
  shares: readonly VmShare[];
}

/** All or none. The message of a failure names the entry of the spec. */
export function openShares(hostPaths: HostPaths, wanted: readonly WantedShare[]): OpenShares {
  const shares: VmShare[] = [];
  const close = () => {
    for (const { fd } of shares.splice(0)) closeSync(fd);
  };
  try {
    for (const { name, path, type, readOnly } of wanted)
      shares.push({ fd: openNamed(hostPaths, name, path, type), readOnly });
  } catch (error) {
    close();
    throw error;
  }
  const attached = wanted.map(({ name, readOnly }) => ({ name, readOnly }));
  return { attached, shares, [Symbol.dispose]: close };
}

function openNamed(hostPaths: HostPaths, name: string, path: string, type: WantedShare['type']): number {
  try {
    return hostPaths.open(path, type);
  } catch (error) {
    if (!(error instanceof BulkheadError)) throw error;
    throw new BulkheadError(error.code, `Volume ${name}: hostPath ${error.message}`, { cause: error });
  }
}
