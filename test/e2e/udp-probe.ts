// A program that speaks UDP, for guests whose busybox does not.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestDaemon } from './daemon-harness.ts';

const SOURCE = join(import.meta.dirname, '..', 'fixtures', 'udp-probe.c');

/** Puts it at /tmp/udp-probe; test/fixtures/udp-probe.c says how it is used. */
export async function copyUdpProbe(daemon: TestDaemon, sandbox: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'bulkhead-udp-'));
  try {
    const probe = join(folder, 'udp-probe');
    execFileSync('gcc', ['-std=c11', '-D_GNU_SOURCE', '-O1', '-static', '-o', probe, SOURCE]);
    await daemon.ok('cp', probe, `${sandbox}:/tmp/udp-probe`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
