// A program that speaks UDP, for guests whose busybox does not.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import type { TestDaemon } from './daemon-harness.ts';

const PROJECT = join(import.meta.dirname, '..', '..');

/** Puts it at /tmp/udp-probe; test/fixtures/udp-probe.c says how it is used. */
export async function copyUdpProbe(daemon: TestDaemon, sandbox: string): Promise<void> {
  execFileSync('make', ['-C', join(PROJECT, 'libvmm'), '../build/libvmm/udp-probe'], { stdio: 'pipe' });
  await daemon.ok('cp', join(PROJECT, 'build/libvmm/udp-probe'), `${sandbox}:/tmp/udp-probe`);
}
