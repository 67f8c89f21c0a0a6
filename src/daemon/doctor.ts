// What only the running daemon can tell about its own health; the host's checks are the command line's.
import { asBulkheadError } from '../api/errors.ts';
import type { DoctorCheck } from '../api/wire.ts';
import type { Images } from '../images/images.ts';
import type { HostNetworks } from '../network/host-networks.ts';
import type { FolderSource } from '../source/source.ts';
import type { Store } from '../store/store.ts';
import type { HostDrivers } from '../vmm/select.ts';

interface DaemonStore {
  list: Store['list'];
  checkWritable(): Promise<void>;
}

export interface DaemonParts {
  drivers: HostDrivers;
  store: DaemonStore;
  images: Images;
  networks: Pick<HostNetworks, 'problem'>;
  /** Absent when no folder is watched. */
  source?: FolderSource;
}

/** A trial VM that stays silent is given up after a minute; longer means that the driver hangs. */
const PROBE_TIMEOUT_MS = 90_000;
const GIB = 2 ** 30;

export async function daemonChecks({
  drivers,
  store,
  images,
  networks,
  source,
}: DaemonParts): Promise<DoctorCheck[]> {
  const checks = await Promise.all([driverCheck(drivers), storeCheck(store), imagesCheck(images)]);
  checks.push(networkCheck(networks));
  if (source !== undefined) checks.push(sourceCheck(source));
  return checks;
}

async function driverCheck(drivers: HostDrivers): Promise<DoctorCheck> {
  const { usable, message } = await drivers.probe(AbortSignal.timeout(PROBE_TIMEOUT_MS));
  return { name: 'driver', status: usable ? 'ok' : 'fail', message };
}

async function storeCheck(store: DaemonStore): Promise<DoctorCheck> {
  try {
    await store.checkWritable();
  } catch (error) {
    const { message, row } = asBulkheadError(error);
    return { name: 'store', status: 'fail', message: `Nothing can be written: ${message}`, fix: row.hint };
  }
  const { items } = await store.list('Sandbox');
  return { name: 'store', status: 'ok', message: `The store answers and holds ${items.length} sandboxes.` };
}

function networkCheck({ problem }: DaemonParts['networks']): DoctorCheck {
  const name = 'network';
  if (problem === undefined)
    return { name, status: 'ok', message: 'The gateway serves the networks of sandboxes.' };
  const message = `The networks of all sandboxes are closed: ${problem}`;
  const fix = 'It is tried again by itself; gateway.log in the state directory says how the gateway ended.';
  return { name, status: 'fail', message, fix };
}

async function imagesCheck(images: Images): Promise<DoctorCheck> {
  const list = await images.list();
  const bytes = list.reduce((sum, image) => sum + image.sizeBytes, 0);
  const message = `The image cache holds ${list.length} images, ${(bytes / GIB).toFixed(1)} GiB.`;
  return { name: 'images', status: 'ok', message };
}

function sourceCheck(source: FolderSource): DoctorCheck {
  const { root, available, invalidDocuments, problems } = source.status();
  const name = 'folder';
  if (!available) {
    const message = `The folder ${root} cannot be read or is suspiciously empty; nothing is pruned meanwhile.`;
    return { name, status: 'fail', message, fix: 'Restore the folder; it is read again by itself.' };
  }
  const [first] = problems;
  if (first === undefined) return { name, status: 'ok', message: `The folder ${root} is in force.` };
  const what =
    invalidDocuments === 1 ? `1 document in ${root} is` : `${invalidDocuments} documents in ${root} are`;
  const message = `${what} not in force; the first: ${first.message}`;
  return {
    name,
    status: 'warn',
    message,
    fix: 'Mend what `bulkhead events` names; the last good versions run on.',
  };
}
