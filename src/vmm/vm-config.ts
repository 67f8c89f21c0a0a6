// What holds for the configuration of a VM under every driver.
import { basename } from 'node:path';
import { BulkheadError } from '../api/errors.ts';
import { SHARES_MAX, type VmConfig, VOLUME_DISKS_MAX } from './driver.ts';

export const MIB = 1024 * 1024;
const MAX_CPUS = 32;
/** The kernel and the agent need about 40 MiB. */
export const MIN_MEMORY_BYTES = 64 * MIB;

/** Throws INVALID. */
export function checkVmConfig(config: VmConfig): void {
  const invalid = (message: string) => new BulkheadError('INVALID', message);
  if (!Number.isInteger(config.cpus) || config.cpus < 1 || config.cpus > MAX_CPUS)
    throw invalid(`${config.cpus} vCPUs are not possible: 1 to ${MAX_CPUS}`);
  if (!Number.isSafeInteger(config.memoryBytes) || config.memoryBytes % MIB !== 0)
    throw invalid('memory must be whole MiB');
  if (config.memoryBytes < MIN_MEMORY_BYTES)
    throw invalid(
      `${config.memoryBytes / MIB} MiB of memory are too little: at least ${MIN_MEMORY_BYTES / MIB}`,
    );
  const shares = config.shares?.length ?? 0;
  if (shares > SHARES_MAX)
    throw invalid(`${shares} directories of the host are not possible: at most ${SHARES_MAX}`);
  const volumes = (config.volumes?.length ?? 0) + (shares > 0 ? 1 : 0);
  if (volumes > VOLUME_DISKS_MAX)
    throw invalid(
      `${volumes} disks of volumes are not possible: at most ${VOLUME_DISKS_MAX}, one fewer with directories of the host`,
    );
  if (!/^[A-Za-z0-9-]{1,63}$/.test(config.id) || basename(config.dir) !== config.id)
    throw invalid(`the directory of VM ${config.id} must carry its id`);
}
