// The contract of drivers, held by the software driver on real VMs.
import { after, before } from 'node:test';
import { testDriverContract } from '../../src/vmm/driver.contract.ts';
import { openSoftwareDriver } from '../../src/vmm/software/driver.ts';
import { BUILD_DIR, VmmBench } from './vmm-support.ts';

let bench: VmmBench;
before(async () => {
  bench = await VmmBench.open();
});
after(() => bench.close());

testDriverContract('software driver', () => ({
  driver: bench.driver,
  config: async () => bench.config({ coldBoot: true }),
  reopen: () =>
    openSoftwareDriver({
      stateDir: bench.dir,
      buildDir: BUILD_DIR,
      onWarning: (message) => bench.warnings.push(message),
    }),
}));
