// Memory of the daemon process, freshly started and with ten sandboxes that do nothing, and what looking after these takes of a
// processor: guests are asked for their figures every 15 s, and a scrape reads the figures of all.
// Usage: node bench/daemon.ts [SANDBOXES] [--json]. Needs root.
//
// RSS counts pages that it shares with other processes in full, PSS by its share. Source: /proc/PID/smaps_rollup.
import { readdirSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { sandboxYaml, TestDaemon } from '../test/e2e/daemon-harness.ts';
import { freePort } from '../test/e2e/prometheus.ts';
import { countArgument, median, Report } from './report.ts';

const SANDBOXES = countArgument(10);
/** Long enough for what a start leaves behind to be collected. */
const IDLE_MS = 30_000;
const SAMPLES = 5;
const SAMPLE_INTERVAL_MS = 1_000;

/** Twice what guests are asked in. */
const CPU_MS = 30_000;
const CPU_SAMPLES = 3;
/** Between two scrapes while their cost is measured; and as Prometheus is told in docs/monitoring.md, seconds. */
const SCRAPE_MS = 500;
const SCRAPE_INTERVAL_SECONDS = 15;

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

/** Processor time that all threads of a process had, by the scheduler's account, seconds. */
function cpuSeconds(pid: number): number {
  const tasks = readdirSync(`/proc/${pid}/task`);
  const ran = (task: string) =>
    Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
  return tasks.reduce((sum, task) => sum + ran(task), 0) / 1e9;
}

/** Microseconds of processor time for each second, a few times; `work` goes on meanwhile. */
async function sampleCpu(pid: number, work: (until: number) => Promise<unknown>): Promise<number[]> {
  const rates: number[] = [];
  for (let sample = 0; sample < CPU_SAMPLES; sample++) {
    const [began, before] = [performance.now(), cpuSeconds(pid)];
    await work(began + CPU_MS);
    rates.push(((cpuSeconds(pid) - before) * 1e9) / (performance.now() - began));
  }
  return rates;
}

const rest = (until: number) => sleep(until - performance.now());
const target = `127.0.0.1:${await freePort()}`;
async function scrape(until: number): Promise<void> {
  while (performance.now() < until) {
    await (await fetch(`http://${target}/metrics`)).text();
    await sleep(SCRAPE_MS);
  }
}

await using daemon = await TestDaemon.start();
// The one that loaded the image is not fresh.
await daemon.stop();
await daemon.launch(['--metrics-address', target]);
const fresh = await sampleIdle(daemon.pid);
const freshCpu = median(await sampleCpu(daemon.pid, rest));
const freshScraped = median(await sampleCpu(daemon.pid, scrape));

const names = Array.from({ length: SANDBOXES }, (_, index) => `idle-${index}`);
for (const name of names) {
  await daemon.write(`${name}.yaml`, sandboxYaml(name));
}
for (const name of names) await daemon.waitReady(name);
const busy = await sampleIdle(daemon.pid);
const busyCpu = await sampleCpu(daemon.pid, rest);
const busyScraped = median(await sampleCpu(daemon.pid, scrape));
/** Of one sandbox in one scrape; the former were of a daemon without sandboxes. */
const ofScrape = ((busyScraped - median(busyCpu) - (freshScraped - freshCpu)) * SCRAPE_MS) / 1000 / SANDBOXES;

const report = new Report("the daemon's memory and processor time");
const loaded = `with ${SANDBOXES} idle sandboxes`;
report.series(`fresh, after ${IDLE_MS / 1000} s: PSS`, 'MiB', fresh.pss);
report.series(`fresh, after ${IDLE_MS / 1000} s: RSS`, 'MiB', fresh.rss);
report.series(`${loaded}: PSS`, 'MiB', busy.pss);
report.series(`${loaded}: RSS`, 'MiB', busy.rss);
report.series(
  'processor time of a sandbox that idles, each second',
  'us',
  busyCpu.map((rate) => (rate - freshCpu) / SANDBOXES),
);
report.series('- of one sandbox in a scrape', 'us', [ofScrape]);
report.series(`- each second, with a scrape every ${SCRAPE_INTERVAL_SECONDS} s`, 'us', [
  (median(busyCpu) - freshCpu) / SANDBOXES + ofScrape / SCRAPE_INTERVAL_SECONDS,
]);
report.note('The VMs are processes of their own and not counted.');
report.print();
