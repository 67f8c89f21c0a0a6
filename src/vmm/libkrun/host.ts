// What the libkrun driver needs of this host. Nothing here opens /dev/kvm: only the VMM does, in its jail.
import { access, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { openVmHost, type VmHost, type VmHostOptions } from '../vm-host.ts';

const KVM_DEVICE = '/dev/kvm';
/** Where distributions install libkrun; used when this build has none of its own. */
const SYSTEM_LIBRARIES = [
  '/usr/local/lib64/libkrun.so.1',
  '/usr/local/lib/libkrun.so.1',
  '/usr/lib64/libkrun.so.1',
  '/usr/lib/x86_64-linux-gnu/libkrun.so.1',
  '/usr/lib/aarch64-linux-gnu/libkrun.so.1',
];

export interface LibkrunOptions extends VmHostOptions {
  /** Starts in flight at once; the number of cores when absent. */
  maxConcurrentStarts?: number;
  onWarning?: (message: string) => void;
  /** Another device in place of /dev/kvm. */
  kvmDevice?: string;
}

export interface LibkrunHost extends VmHost {
  /** bulkhead-krun. */
  vmm: string;
  /** Where libkrun may be, best first. */
  libraries: string[];
  kvmDevice: string;
}

export async function openLibkrunHost(options: LibkrunOptions): Promise<LibkrunHost> {
  return {
    ...(await openVmHost(options)),
    vmm: join(options.buildDir, 'libvmm/bulkhead-krun'),
    libraries: [join(options.buildDir, 'libvmm/libkrun.so'), ...SYSTEM_LIBRARIES],
    kvmDevice: options.kvmDevice ?? KVM_DEVICE,
  };
}

/** The libkrun of this host; looked for each time, as one may be installed meanwhile. */
export async function findLibrary(host: Pick<LibkrunHost, 'libraries'>): Promise<string | undefined> {
  for (const path of host.libraries) {
    const found = await access(path).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}

export async function hasKvmDevice({ kvmDevice }: Pick<LibkrunHost, 'kvmDevice'>): Promise<boolean> {
  return stat(kvmDevice).then(
    (found) => found.isCharacterDevice(),
    () => false,
  );
}
