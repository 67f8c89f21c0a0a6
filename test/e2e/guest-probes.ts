// Programs for guests whose busybox cannot do what they do.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import type { TestDaemon } from './daemon-harness.ts';

const PROJECT = join(import.meta.dirname, '..', '..');

/** Puts one at /tmp/NAME; its source in test/fixtures says how it is used. Gives its path on this machine. */
export async function copyProbe(
  name: 'udp-probe' | 'frame-probe',
  daemon: TestDaemon,
  sandbox: string,
): Promise<string> {
  const path = join(PROJECT, 'build/libvmm', name);
  execFileSync('make', ['-C', join(PROJECT, 'libvmm'), `../build/libvmm/${name}`], { stdio: 'pipe' });
  await daemon.ok('cp', path, `${sandbox}:/tmp/${name}`);
  return path;
}
