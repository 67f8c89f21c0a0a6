import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlowLog, refusals } from './flow-log.ts';

const MODE = { kind: 'Mode', mode: 'Deny' } as const;
const entry = (result: string, destination = '192.0.2.1:80') => ({
  ...({ layer: 'Flow', protocol: 'TCP', destination, result } as const),
});

test('equal refusals are one with a count, and are told once', () => {
  const log = new FlowLog(() => 0);
  for (let time = 0; time < 3; time += 1) log.add(entry('Denied'), MODE);
  log.add(entry('Allowed'), MODE);
  const [told, ...others] = log.takeRefusals();
  assert.equal(told?.count, 3);
  assert.match(told?.reason ?? '', /mode Deny/);
  assert.deepEqual(others, []);
  assert.deepEqual(log.takeRefusals(), []);
});

test('a guest that tries everything fills neither log nor events', () => {
  const log = new FlowLog(() => 0);
  for (let port = 0; port < 10_000; port += 1) log.add(entry('Denied', `192.0.2.1:${port}`), MODE);
  assert.equal(log.entries.length, 256);
  assert.equal(log.takeRefusals().length, 4);
  assert.equal(refusals(log.counters(0).decisions), 10_000);
});
