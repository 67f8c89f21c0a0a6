// Runs end-to-end test files in the lab with the libkrun driver, one lab host each: node test/kvm-lab/suite.ts [FILE...]
// Exit status 1 when a test failed, or a file could not be run.
import { availableParallelism, freemem } from 'node:os';
import { Lab, type LabResult } from './lab.ts';
import { labPlan } from './plan.ts';

/** A file that takes longer hangs. */
const FILE_LIMIT_MS = 30 * 60_000;
/** What a lab host with guests and QEMU's translations takes of this machine. */
const HOST_BYTES = 3 * 1024 ** 3;
const COUNTS = ['tests', 'pass', 'fail', 'cancelled', 'skipped', 'todo'] as const;

type Counts = Record<(typeof COUNTS)[number], number>;

/** The summary at the end of node's test reporter; zeros where there is none. */
function countsOf(output: string): Counts {
  const counts: Counts = { tests: 0, pass: 0, fail: 0, cancelled: 0, skipped: 0, todo: 0 };
  for (const name of COUNTS) {
    const last = [...output.matchAll(new RegExp(`^ℹ ${name} (\\d+)$`, 'gm'))].at(-1);
    counts[name] = Number(last?.[1] ?? 0);
  }
  return counts;
}

function verdictOf({ outcome }: LabResult, counts: Counts): string | undefined {
  if (outcome.kind === 'crashed') return 'its lab hosts died again and again';
  if (outcome.kind === 'over-time') return `it took more than ${FILE_LIMIT_MS / 60_000} minutes`;
  if (outcome.status !== 0) return `status ${outcome.status}`;
  return counts.tests === 0 ? 'it held no test' : undefined;
}

const say = (text: string) => process.stdout.write(`${text}\n`);
const plan = labPlan();
const named = process.argv.slice(2);
const files = named.length > 0 ? named : plan.files;
if (named.length === 0)
  for (const { file, reason } of plan.leftOut) say(`kvm lab: not here: ${file}: ${reason}`);

/** Output is shown as it comes; that of files side by side is kept until each has ended. */
const alone = files.length === 1;
const began = performance.now();
const total: Counts = { tests: 0, pass: 0, fail: 0, cancelled: 0, skipped: 0, todo: 0 };
let crashes = 0;
const failures: string[] = [];
await using lab = await Lab.open('fixtures');

async function runFile(file: string): Promise<void> {
  const fileBegan = performance.now();
  let output: Buffer[] = [];
  const result = await lab.run({
    command: `BULKHEAD_TEST_DRIVER=libkrun NODE_COMPILE_CACHE=/tmp/compile-cache \
      node_modules/.bin/node --disable-warning=ExperimentalWarning ${file}`,
    limitMs: FILE_LIMIT_MS,
    onOutput(text) {
      output.push(text);
      if (alone) process.stdout.write(text);
    },
    onCrash(reason) {
      say(`kvm lab: ${file}: the lab host died, not a test: ${reason}`);
      output = [];
    },
  });
  const text = Buffer.concat(output).toString();
  const counts = countsOf(text);
  for (const name of COUNTS) total[name] += counts[name];
  crashes += result.crashes;
  const problem = verdictOf(result, counts);
  if (problem !== undefined) failures.push(`${file}: ${problem}`);
  const seconds = ((performance.now() - fileBegan) / 1000).toFixed(0);
  say(`\n== ${file} (${seconds} s)${problem === undefined ? '' : ` FAILED: ${problem}`}`);
  if (!alone) say(text.trimEnd());
}

const waiting = [...files];
async function work(): Promise<void> {
  for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) await runFile(file);
}
const width = Math.max(1, Math.min(availableParallelism(), Math.floor(freemem() / HOST_BYTES), files.length));
await Promise.all(Array.from({ length: width }, work));

const seconds = ((performance.now() - began) / 1000).toFixed(0);
say(
  `\nkvm lab: ${files.length} files, ${total.tests} tests, ${total.pass} passed, ${total.fail + total.cancelled} failed, ` +
    `${total.skipped + total.todo} skipped; ${crashes} lab hosts died and were replaced; ${seconds} s, ${width} at once`,
);
for (const failure of failures) say(`kvm lab: FAILED: ${failure}`);
if (failures.length > 0 || total.fail > 0 || total.cancelled > 0) process.exitCode = 1;
