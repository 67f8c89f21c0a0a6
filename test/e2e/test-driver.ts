// The driver that the end-to-end tests run on: BULKHEAD_TEST_DRIVER, or the software driver, which runs everywhere. libkrun
// needs a KVM that runs guests, so it is for machines where somebody asked for it: the KVM lab sets it.
import type { VmmDriver } from '../../src/vmm/driver.ts';
import { openLibkrunDriver } from '../../src/vmm/libkrun/driver.ts';
import { openSoftwareDriver } from '../../src/vmm/software/driver.ts';
import type { VmHostOptions } from '../../src/vmm/vm-host.ts';

const asked = process.env.BULKHEAD_TEST_DRIVER ?? 'software';
if (asked !== 'software' && asked !== 'libkrun')
  throw new Error(`BULKHEAD_TEST_DRIVER is software or libkrun, not ${asked}`);

export const TEST_DRIVER: 'software' | 'libkrun' = asked;

/** Opens the driver under test. */
export function openTestDriver(
  options: VmHostOptions & { onWarning?: (message: string) => void },
): Promise<VmmDriver> {
  return TEST_DRIVER === 'libkrun' ? openLibkrunDriver(options) : openSoftwareDriver(options);
}

/** For tests of what one driver alone has: the reason to skip under the other one, printed by the test runner. */
export function onlyWith(driver: 'software' | 'libkrun', why: string): { skip: string | false } {
  return { skip: TEST_DRIVER === driver ? false : `${TEST_DRIVER} driver: ${why}` };
}
