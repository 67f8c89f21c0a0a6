import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BulkheadError } from '../api/errors.ts';
import type { DriverName, VmmDriver } from './driver.ts';
import { type AllowedDrivers, HostDrivers } from './select.ts';

const signal = new AbortController().signal;

function fakeDriver(name: DriverName, usable: boolean, probed: string[]): VmmDriver {
  const unused = () => Promise.reject(new Error('not for a selection'));
  return {
    name,
    probe: async () => {
      probed.push(name);
      return { usable, message: `${name} is ${usable ? 'fine' : 'broken'}.` };
    },
    ...{ start: unused, adopt: unused, lastExit: unused, release: unused },
    close: async () => {},
  };
}

function host(usable: { libkrun?: boolean; software?: boolean }, allowed: AllowedDrivers = 'auto') {
  const probed: string[] = [];
  const drivers = new HostDrivers(
    {
      libkrun: fakeDriver('libkrun', usable.libkrun ?? true, probed),
      software: fakeDriver('software', usable.software ?? true, probed),
    },
    allowed,
  );
  return { drivers, probed };
}

const unavailable = (words: RegExp) => (error: unknown) =>
  error instanceof BulkheadError && error.code === 'DRIVER_UNAVAILABLE' && words.test(error.message);

test('Auto takes libkrun where it works, else the software driver, and says why', async () => {
  const good = await host({}).drivers.select('Auto', signal);
  assert.deepEqual([good.driver.name, good.reason], ['libkrun', 'libkrun is fine.']);
  const { drivers } = host({ libkrun: false });
  const second = await drivers.select('Auto', signal);
  assert.deepEqual([second.driver.name, second.reason], ['software', 'libkrun is broken. software is fine.']);
  assert.match((await drivers.probe(signal)).message, /^software: libkrun is broken/);
});

test('a driver that the spec names is used or refused, never replaced', async () => {
  assert.equal((await host({}).drivers.select('Software', signal)).driver.name, 'software');
  assert.equal((await host({}).drivers.select('Libkrun', signal)).driver.name, 'libkrun');
  const { drivers } = host({ libkrun: false, software: false });
  await assert.rejects(drivers.select('Libkrun', signal), unavailable(/libkrun is broken.*Software or Auto/));
  await assert.rejects(drivers.select('Software', signal), unavailable(/software is broken/));
  assert.equal((await drivers.probe(signal)).usable, false);
});

test('a daemon that was told to use the software driver never probes libkrun', async () => {
  const { drivers, probed } = host({}, 'software');
  assert.equal((await drivers.select('Auto', signal)).driver.name, 'software');
  assert.equal((await drivers.probe(signal)).usable, true);
  await assert.rejects(drivers.select('Libkrun', signal), unavailable(/--driver software/));
  assert.ok(!probed.includes('libkrun'));
});

test('a daemon that was told to use libkrun does not fall back', async () => {
  assert.equal((await host({}, 'libkrun').drivers.select('Auto', signal)).driver.name, 'libkrun');
  const { drivers } = host({ libkrun: false }, 'libkrun');
  await assert.rejects(drivers.select('Auto', signal), unavailable(/libkrun is broken/));
  await assert.rejects(drivers.select('Software', signal), unavailable(/--driver libkrun/));
  assert.equal((await drivers.probe(signal)).usable, false);
});

test('every driver is known for the VMs of earlier daemons', () => {
  for (const allowed of ['auto', 'libkrun', 'software'] as const)
    assert.deepEqual(
      host({}, allowed).drivers.all.map(({ name }) => name),
      ['libkrun', 'software'],
    );
});
