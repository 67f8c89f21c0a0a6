// Inside the lab: starts VMs with the driver under test, uses each and ends it. Usage: starts.ts ONE_AFTER_ANOTHER AT_ONCE
// The first start that fails fails the run.
import assert from 'node:assert/strict';
import { connect, run, VmmBench } from '../../e2e/vmm-support.ts';

const [oneAfterAnother = 0, atOnce = 0] = process.argv.slice(2).map(Number);
const bench = await VmmBench.open();

async function startUseAndEnd(word: string): Promise<void> {
  const config = bench.config();
  const vm = await bench.start(config);
  const agent = await connect(vm);
  const { exit, output } = await run(agent, `echo ${word}`);
  assert.deepEqual([exit.exitCode, output], [0, `${word}\n`]);
  await agent.close();
  await vm.kill();
  await bench.driver.release(config.dir);
}

try {
  for (let start = 0; start < oneAfterAnother; start++) await startUseAndEnd(`start-${start}`);
  await Promise.all(Array.from({ length: atOnce }, (_, index) => startUseAndEnd(`at-once-${index}`)));
  process.stdout.write(`${oneAfterAnother} starts one after another and ${atOnce} at once, all well\n`);
} finally {
  await bench.close();
}
