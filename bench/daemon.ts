// Memory of the daemon process: freshly started, and with ten sandboxes that do nothing.
// Usage: node bench/daemon.ts [SANDBOXES] [--json]. Needs root.
//
// RSS counts pages that it shares with other processes in full, PSS by its share. Source: /proc/PID/smaps_rollup.
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { sandboxYaml, TestDaemon } from '../test/e2e/daemon-harness.ts';
import { countArgument, Report } from './report.ts';

const SANDBOXES = countArgument(10);
/** Long enough for what a start leaves behind to be collected. */
const IDLE_MS = 30_000;
const SAMPLES = 5;
const SAMPLE_INTERVAL_MS = 1_000;

interface Memory {
  rss: number[];
  pss: number[];
}

async function sampleIdle(pid: number): Promise<Memory> {
  await sleep(IDLE_MS);
  const memory: Memory = { rss: [], pss: [] };
  for (let sample = 0; sample < SAMPLES; sample++) {
    const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8');
    memory.rss.push(mebibytes(rollup, 'Rss'));
    memory.pss.push(mebibytes(rollup, 'Pss'));
    await sleep(SAMPLE_INTERVAL_MS);
  }
  return memory;
}

function mebibytes(rollup: string, field: string): number {
  const kibibytes = new RegExp(`^${field}: +(\\d+) kB$`, 'm').exec(rollup)?.[1];
  if (kibibytes === undefined) throw new Error(`smaps_rollup has no ${field}`);
  return Number(kibibytes) / 1024;
}

await using daemon = await TestDaemon.start();
// The one that loaded the image is not fresh.
await daemon.stop();
await daemon.launch();
const fresh = await sampleIdle(daemon.pid);

const names = Array.from({ length: SANDBOXES }, (_, index) => `idle-${index}`);
for (const name of names) {
  await daemon.write(`${name}.yaml`, sandboxYaml(name));
}
for (const name of names) await daemon.waitReady(name);
const busy = await sampleIdle(daemon.pid);

const report = new Report("the daemon's memory");
const loaded = `with ${SANDBOXES} idle sandboxes`;
report.series(`fresh, after ${IDLE_MS / 1000} s: PSS`, 'MiB', fresh.pss);
report.series(`fresh, after ${IDLE_MS / 1000} s: RSS`, 'MiB', fresh.rss);
report.series(`${loaded}: PSS`, 'MiB', busy.pss);
report.series(`${loaded}: RSS`, 'MiB', busy.rss);
report.note('The VMs are processes of their own and not counted.');
report.print();
