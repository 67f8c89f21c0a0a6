// With libkrun, over as many lab hosts as it takes: a hundred starts, six at once, and kills at random moments.
//   node test/kvm-lab/soak.ts [STARTS [KILLS]]
// Exit status 1 at the first that failed. Lab hosts that died are counted, and what they were at is done again.
import { Lab } from './lab.ts';

const STARTS = Number(process.argv[2] ?? 100);
const KILLS = Number(process.argv[3] ?? 60);
/** One lab host does so many and is replaced: the emulated SVM does not carry guests for ever. Each kill is followed by a start. */
const STARTS_PER_HOST = 10;
const KILLS_PER_HOST = 6;
const AT_ONCE = 6;
const RUN_LIMIT_MS = 20 * 60_000;

const say = (text: string) => process.stdout.write(`kvm lab: ${text}\n`);
await using lab = await Lab.open('nothing');
let crashes = 0;

/** False when it failed. */
async function inTheLab(command: string): Promise<boolean> {
  const { outcome, crashes: died } = await lab.run({
    command: `BULKHEAD_TEST_DRIVER=libkrun ${command}`,
    limitMs: RUN_LIMIT_MS,
    onOutput: (text) => process.stdout.write(text),
    onCrash: (reason) => say(`the lab host died, not a VM: ${reason}`),
  });
  crashes += died;
  if (outcome.kind !== 'exited') say(outcome.kind);
  return outcome.kind === 'exited' && outcome.status === 0;
}

/** So many of `wanted` in one lab host after the other, until one fails; how many were done. */
async function repeated(
  wanted: number,
  perHost: number,
  round: (count: number) => Promise<boolean>,
): Promise<number> {
  let done = 0;
  while (done < wanted) {
    const count = Math.min(perHost, wanted - done);
    if (!(await round(count))) break;
    done += count;
  }
  return done;
}

const NODE = 'node_modules/.bin/node --disable-warning=ExperimentalWarning';
const starts = (oneAfterAnother: number, atOnce: number) =>
  inTheLab(`${NODE} test/kvm-lab/inside/starts.ts ${oneAfterAnother} ${atOnce}`);
const kills = (count: number) => inTheLab(`BULKHEAD_KILL_ROUNDS=${count} ${NODE} test/e2e/vmm-kills.test.ts`);

const started = await repeated(STARTS, STARTS_PER_HOST, (count) => starts(count, 0));
const atOnce = started === STARTS && (await starts(0, AT_ONCE));
const killed = atOnce ? await repeated(KILLS, KILLS_PER_HOST, kills) : 0;
const isWell = atOnce && killed === KILLS;
say(
  `${started} of ${STARTS} starts, ${AT_ONCE} at once ${atOnce ? 'well' : 'not'}, ${killed} of ${KILLS} kills: ` +
    `${isWell ? 'all well' : 'FAILED'}; ${crashes} lab hosts died`,
);
if (!isWell) process.exitCode = 1;
