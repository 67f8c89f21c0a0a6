// The contract of drivers, held by the driver under test on real VMs.
import { after, before } from 'node:test';
import { testDriverContract } from '../../src/vmm/driver.contract.ts';
import { openTestDriver, TEST_DRIVER } from './test-driver.ts';
import { BUILD_DIR, VmmBench } from './vmm-support.ts';

let bench: VmmBench;
before(async () => {
  bench = await VmmBench.open();
});
after(() => bench.close());

testDriverContract(`${TEST_DRIVER} driver`, () => ({
  driver: bench.driver,
  config: async () => bench.config({ coldBoot: true }),
  reopen: () =>
    openTestDriver({
      stateDir: bench.dir,
      buildDir: BUILD_DIR,
      onWarning: (message) => bench.warnings.push(message),
    }),
}));
