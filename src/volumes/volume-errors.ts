// Failures of system calls and of the factory of disks, as the ones that a volume has.
import { BulkheadError } from '../api/errors.ts';

export function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Runs `work`; `what` begins the message of its failure. Aborts stay what they are. */
export async function guarded<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof BulkheadError && error.code !== 'VM_START_FAILED') throw error;
    const code = codeOf(error);
    if (code === 'ABORT_ERR') throw error;
    const full = code === 'ENOSPC' || code === 'EDQUOT';
    throw new BulkheadError(full ? 'DISK_FULL' : 'VOLUME_UNAVAILABLE', `${what}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
