// Runs one shell command in the lab, in /project: node test/kvm-lab/run.ts [--carry DIR | --fixtures] [--results DIR]
// [--limit SECONDS] -- COMMAND. Exit status: the command's; 124 over the limit, 125 the lab host kept dying.
import { parseArgs } from 'node:util';
import { Lab } from './lab.ts';

const OVER_TIME = 124;
const LAB_FAILED = 125;

const { values, positionals } = parseArgs({
  options: {
    carry: { type: 'string' },
    fixtures: { type: 'boolean', default: false },
    results: { type: 'string' },
    limit: { type: 'string', default: '600' },
  },
  allowPositionals: true,
});

const own = values.carry === undefined ? 'nothing' : { folder: values.carry };
await using lab = await Lab.open(values.fixtures ? 'fixtures' : own);
const { outcome } = await lab.run({
  command: positionals.join(' '),
  limitMs: Number(values.limit) * 1000,
  onOutput: (text) => process.stdout.write(text),
  onCrash: (reason) => process.stderr.write(`kvm lab: the lab host died: ${reason}\n`),
  ...(values.results === undefined ? {} : { results: values.results }),
});
if (outcome.kind === 'over-time') process.stderr.write(`kvm lab: over ${values.limit} s\n`);
process.exitCode =
  outcome.kind === 'exited' ? outcome.status : outcome.kind === 'over-time' ? OVER_TIME : LAB_FAILED;
