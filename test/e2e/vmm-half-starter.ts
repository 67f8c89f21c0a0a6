// Started by vmm-warm.test.ts as a process of its own: starts a VM from a template and is gone as soon as its VMM is there,
// before anything was restored.
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { openSoftwareDriver } from '../../src/vmm/software/driver.ts';
import { BUILD_DIR } from './vmm-support.ts';

const [stateDir = '', config = ''] = process.argv.slice(2);
const driver = await openSoftwareDriver({ stateDir, buildDir: BUILD_DIR });
const parsed: Parameters<typeof driver.start>[0] = JSON.parse(config);
const record = join(parsed.dir, 'vmm.json');
// Of a run before.
rmSync(record, { force: true });
const look = (): void => {
  if (existsSync(record)) process.kill(process.pid, 'SIGKILL');
  else setImmediate(look);
};
look();
await driver.start(parsed, AbortSignal.timeout(120_000));
throw new Error('it came up before it was killed');
