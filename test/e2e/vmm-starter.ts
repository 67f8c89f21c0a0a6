// Started by vmm-lifecycle.test.ts as a process of its own, to be killed: starts a VM, says so, and waits for ever.
import { openTestDriver } from './test-driver.ts';
import { BUILD_DIR } from './vmm-support.ts';

const [stateDir = '', config = ''] = process.argv.slice(2);
const driver = await openTestDriver({ stateDir, buildDir: BUILD_DIR });
const parsed: Parameters<typeof driver.start>[0] = JSON.parse(config);
const vm = await driver.start(parsed, AbortSignal.timeout(120_000));
process.stdout.write(`${vm.pid}\n`);
setInterval(() => undefined, 60_000);
