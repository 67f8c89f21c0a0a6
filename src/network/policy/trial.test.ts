import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allow, deny, effectiveOf } from '../testing/policies.ts';
import { parseDestination, tryDestination } from './trial.ts';

const effective = effectiveOf({
  egress: {
    mode: 'Deny',
    rules: [allow([{ domain: 'api.example.com' }], [{ port: 443 }]), deny([{ cidr: '11.11.0.0/16' }])],
  },
});

test('a name is asked for and then connected to; both say what decided', () => {
  const result = tryDestination(effective, { host: 'api.example.com', protocol: 'TCP', port: 443 });
  assert.equal(result.allowed, true);
  assert.deepEqual(result.question?.by, {
    kind: 'Rule',
    policy: 'default/a',
    index: 0,
    destination: 'api.example.com',
  });
  const closed = tryDestination(effective, { host: 'api.example.com', protocol: 'TCP', port: 80 });
  assert.deepEqual([closed.question?.allowed, closed.flow?.allowed], [true, false]);
  assert.equal(
    tryDestination(effective, { host: 'other.example', protocol: 'TCP', port: 443 }).flow,
    undefined,
  );
});

test('the address that a name leads to may close it', () => {
  const to = (address: string) =>
    tryDestination(effective, { host: 'api.example.com', protocol: 'TCP', port: 443, address });
  assert.equal(to('8.8.8.8').allowed, true);
  assert.equal(to('11.11.1.1').flow?.by.kind, 'Rule');
  assert.equal(to('10.0.0.1').answer?.by.kind, 'RebindProtection');
});

test('an address is connected to without a name', () => {
  const result = tryDestination(effective, { host: '2001:4860:4860::8888', protocol: 'UDP', port: 443 });
  assert.deepEqual([result.allowed, result.question], [false, undefined]);
});

test('the host is tried as the host', () => {
  const trial = { host: 'host.bulkhead.internal', protocol: 'TCP', port: 8080 } as const;
  assert.equal(tryDestination(effective, trial).allowed, false);
  const open = effectiveOf({ egress: { rules: [allow([{ group: 'Host' }], [{ port: 8080 }])] } });
  assert.equal(tryDestination(open, trial).allowed, true);
  assert.equal(tryDestination(open, { ...trial, port: 22 }).allowed, false);
});

test('destinations are read in the usual forms', () => {
  assert.deepEqual(parseDestination('a.example:443', 'TCP'), { host: 'a.example', port: 443 });
  assert.deepEqual(parseDestination('[::1]:53', 'UDP'), { host: '::1', port: 53 });
  assert.deepEqual(parseDestination('8.8.8.8', 'ICMP'), { host: '8.8.8.8', port: 0 });
  for (const text of [
    'a.example',
    'a.example:0',
    'a.example:65536',
    '::1:53',
    'a b:1',
    ':443',
    '[::1]',
    '[x]:1:1',
  ])
    assert.equal(parseDestination(text, 'TCP'), undefined, text);
});
