// The fake driver is worth no more than its likeness to real ones: the same contract holds for it.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';

import { systemClock } from '../../controller/clock.ts';
import { testDriverContract } from '../../vmm/driver.contract.ts';
import { FakeHost, FakeVmmDriver } from './fake-vmm.ts';
import { Faults } from './faults.ts';
import { FakeProcess } from './process.ts';

const root = mkdtempSync(join(tmpdir(), 'bulkhead-fake-vmm-'));
after(() => rmSync(root, { recursive: true }));

const host = new FakeHost(systemClock, new Faults(systemClock));
const open = () => new FakeVmmDriver(host, new FakeProcess());
let count = 0;

testDriverContract('fake driver', () => ({
  driver: open(),
  config: async () => {
    count += 1;
    const id = `vm-${count}`;
    const dir = join(root, id);
    mkdirSync(dir);
    return {
      ...{ id, dir, cpus: 1, memoryBytes: 2 ** 27 },
      image: { path: '/image', digest: 'sha256:fake' },
      upper: { path: join(dir, 'upper'), sizeBytes: 2 ** 27 },
    };
  },
  reopen: async () => open(),
}));
