// Runs one shell command in the lab: node test/kvm-lab/run.ts [--carry DIR] [--fixtures] [--results DIR] [--limit SECONDS] -- COMMAND
// Exit status: the command's; 124 over the limit, 125 the lab host crashed.
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { makeCarriedDisk, makeProjectDisk, modulesDisk } from './disks.ts';
import { fixturesForLab } from './fixtures.ts';
import { runInLab } from './lab-host.ts';
import { prepareLab } from './prepared.ts';

const { values, positionals } = parseArgs({
  options: {
    carry: { type: 'string' },
    fixtures: { type: 'boolean' },
    results: { type: 'string' },
    limit: { type: 'string', default: '600' },
  },
  allowPositionals: true,
});
const began = performance.now();
const note = (text: string) =>
  process.stderr.write(`kvm lab: ${text} at ${((performance.now() - began) / 1000).toFixed(1)} s\n`);

const prepared = await prepareLab();
const dir = await mkdtemp(join(tmpdir(), 'bulkhead-lab-'));
try {
  const [project, own] = [join(dir, 'project'), join(dir, 'carried')];
  await makeProjectDisk(project);
  if (values.carry === undefined) await mkdir(join(dir, 'nothing'));
  if (values.fixtures !== true) await makeCarriedDisk(values.carry ?? join(dir, 'nothing'), own);
  const carried = values.fixtures === true ? await fixturesForLab() : own;
  note('disks made');
  const outcome = await runInLab(prepared, {
    command: positionals.join(' '),
    disks: { project, modules: await modulesDisk(), carried },
    dir,
    limitMs: Number(values.limit) * 1000,
    onOutput: (text) => process.stdout.write(text),
    ...(values.results === undefined ? {} : { results: values.results }),
  });
  note(outcome.kind === 'crashed' ? `the lab host crashed: ${outcome.reason}` : outcome.kind);
  process.exitCode = outcome.kind === 'exited' ? outcome.status : outcome.kind === 'over-time' ? 124 : 125;
} finally {
  await rm(dir, { recursive: true, force: true });
}
