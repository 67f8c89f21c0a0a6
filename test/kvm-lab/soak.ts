// A hundred starts with libkrun and six at once, over as many lab hosts as it takes: node test/kvm-lab/soak.ts [STARTS]
// Exit status 1 at the first start that failed. Lab hosts that died are counted, and what they were at is done again.
import { Lab } from './lab.ts';

const STARTS = Number(process.argv[2] ?? 100);
/** One lab host does so many and is replaced: the emulated SVM does not carry guests for ever. */
const STARTS_PER_HOST = 10;
const AT_ONCE = 6;
const RUN_LIMIT_MS = 20 * 60_000;

const say = (text: string) => process.stdout.write(`kvm lab: ${text}\n`);
await using lab = await Lab.open('nothing');
let crashes = 0;

/** False when a start failed. */
async function starts(oneAfterAnother: number, atOnce: number): Promise<boolean> {
  const { outcome, crashes: died } = await lab.run({
    command: `BULKHEAD_TEST_DRIVER=libkrun node_modules/.bin/node --disable-warning=ExperimentalWarning \
      test/kvm-lab/inside/starts.ts ${oneAfterAnother} ${atOnce}`,
    limitMs: RUN_LIMIT_MS,
    onOutput: (text) => process.stdout.write(text),
    onCrash: (reason) => say(`the lab host died, not a start: ${reason}`),
  });
  crashes += died;
  if (outcome.kind !== 'exited') say(outcome.kind);
  return outcome.kind === 'exited' && outcome.status === 0;
}

let done = 0;
let well = true;
while (well && done < STARTS) {
  const now = Math.min(STARTS_PER_HOST, STARTS - done);
  well = await starts(now, 0);
  if (well) done += now;
}
well &&= await starts(0, AT_ONCE);
say(
  `${done} of ${STARTS} starts, then ${AT_ONCE} at once: ${well ? 'all well' : 'FAILED'}; ${crashes} lab hosts died`,
);
if (!well) process.exitCode = 1;
