import assert from 'node:assert/strict';
import { Socket } from 'node:net';
import { test } from 'node:test';
import { FakeClock } from '../controller/testing/fake-clock.ts';
import type { Attached } from './gateway/control.ts';
import type { SandboxRefusals } from './gateway/flow-log.ts';
import { type Gateway, type GatewayNetwork, HostNetworks } from './host-networks.ts';
import type { NamespaceHolder, WantedNetwork } from './network-plane.ts';
import { effectiveOf } from './testing/policies.ts';

const HOLDER = { pid: 1, startTime: '1' };
const wanted: WantedNetwork = { effective: effectiveOf({}), ports: [], secrets: { items: [], digest: '' } };

class FakeGateway implements Gateway {
  readonly attached = new Map<string, NamespaceHolder>();
  readonly #closed = Promise.withResolvers<void>();
  readonly closed = this.#closed.promise;
  failure: Error | undefined;

  async attach(uid: string, holder: NamespaceHolder, { policy }: GatewayNetwork): Promise<Attached> {
    if (this.failure !== undefined) throw this.failure;
    this.attached.set(uid, holder);
    return { hash: policy.hash, ports: [] };
  }

  async detach(uid: string): Promise<void> {
    this.attached.delete(uid);
  }

  async log() {
    return [];
  }

  refused: SandboxRefusals[] = [];

  async refusals() {
    return this.refused.splice(0);
  }

  used: string[] = [];

  async uses() {
    return this.used.splice(0);
  }

  async counters() {
    return { total: { decisions: {}, egressBytes: 0, ingressBytes: 0, connections: 0 }, sandboxes: {} };
  }

  close(): void {
    this.#closed.resolve();
  }
}

/** Networks whose gateways are made one after the other, each as it is asked for. */
async function networks() {
  const clock = new FakeClock();
  const gateways: FakeGateway[] = [];
  const problems: string[] = [];
  const changes: string[] = [];
  const refused: SandboxRefusals[] = [];
  const used: (readonly string[])[] = [];
  let refusal: Error | undefined;
  const socket = new Socket();
  const host = new HostNetworks({
    connect: async () => {
      if (refusal !== undefined) throw refusal;
      const gateway = new FakeGateway();
      gateways.push(gateway);
      return gateway;
    },
    dial: async (_holder, port) => {
      if (port === 8000) return socket;
      throw Object.assign(new Error('connection to the guest'), { code: 'ECONNREFUSED' });
    },
    authority: async () => ({ certificate: 'certificate', key: 'key' }),
    clock,
    onProblem: ({ message }) => problems.push(message),
    onRefusals: (each) => refused.push(each),
    onUses: (uids) => used.push(uids),
  });
  host.onChange((uid) => changes.push(uid));
  const settle = async () => {
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  };
  return {
    host,
    socket,
    clock,
    gateways,
    refused,
    used,
    problems,
    changes,
    settle,
    refuse: (error?: Error) => (refusal = error),
  };
}

test('a network is closed until its policy was acknowledged, and closed again when the gateway is gone', async () => {
  const { host, clock, gateways, changes, settle } = await networks();
  await host.start();
  await settle();
  host.opened('a', HOLDER);
  assert.deepEqual(host.stateOf('a'), { address: '10.77.0.2' });
  assert.equal(await host.program('a', wanted), wanted.effective.hash);
  await host.whenTried('a');
  assert.equal(host.stateOf('a')?.acknowledged, wanted.effective.hash);
  assert.equal(host.stateOf('a')?.mode, 'PublicOnly');

  changes.length = 0;
  gateways[0]?.close();
  await settle();
  assert.equal(host.stateOf('a')?.acknowledged, undefined);
  assert.match(host.stateOf('a')?.problem ?? '', /it is gone/);
  assert.ok(changes.includes('a'));

  await clock.advance(1_000);
  await settle();
  assert.equal(gateways.length, 2);
  assert.equal(host.problem, undefined);
  await host.program('a', wanted);
  assert.deepEqual(gateways[1]?.attached.get('a'), HOLDER);
  await host.stop();
});

test('a gateway that cannot be had is tried again ever more slowly, and said to be missing', async () => {
  const { host, clock, gateways, problems, settle, refuse } = await networks();
  refuse(new Error('no nftables'));
  await host.start();
  await settle();
  host.opened('a', HOLDER);
  await assert.rejects(host.program('a', wanted), { code: 'NETWORK_UNAVAILABLE' });
  assert.match(host.stateOf('a')?.problem ?? '', /no nftables/);
  for (let second = 0; second < 120; second += 1) {
    await clock.advance(1_000);
    await settle();
  }
  assert.ok(problems.length < 15, `${problems.length} tries in two minutes`);
  refuse();
  await clock.advance(30_000);
  await settle();
  assert.equal(gateways.length, 1);
  await host.program('a', wanted);
  await host.stop();
});

test('a network that the gateway cannot open does not hold up the start of its sandbox', async () => {
  const { host, gateways, settle } = await networks();
  await host.start();
  await settle();
  host.opened('a', HOLDER);
  const [gateway] = gateways;
  assert.ok(gateway);
  gateway.failure = new Error('no TPROXY');
  await assert.rejects(host.program('a', wanted), /no TPROXY/);
  await host.whenTried('a');
  assert.match(host.stateOf('a')?.problem ?? '', /no TPROXY/);
  await host.stop();
});

test('a VM that is gone is let go, and one of the same sandbox that follows is another network', async () => {
  const { host, gateways, settle } = await networks();
  await host.start();
  await settle();
  host.opened('a', HOLDER);
  await host.program('a', wanted);
  host.opened('a', HOLDER);
  assert.notEqual(host.stateOf('a')?.acknowledged, undefined);
  host.opened('a', { pid: 2, startTime: '2' });
  assert.equal(host.stateOf('a')?.acknowledged, undefined);
  await host.program('a', wanted);
  host.closed('a');
  await settle();
  assert.equal(host.stateOf('a'), undefined);
  assert.equal(gateways[0]?.attached.size, 0);
  await host.stop();
});

test('what was refused is told once, also by a gateway that follows another', async () => {
  const { host, clock, gateways, refused, settle } = await networks();
  await host.start();
  await settle();
  const refusals = { uid: 'a', refusals: [] };
  gateways[0]?.refused.push(refusals);
  await clock.advance(5_000);
  await settle();
  assert.deepEqual(refused, [refusals]);
  gateways[0]?.close();
  await settle();
  await clock.advance(5_000);
  await settle();
  gateways[1]?.refused.push(refusals);
  await clock.advance(5_000);
  await settle();
  assert.equal(refused.length, 2);
  await host.stop();
});

test('whose ports were used is told every time, and of nobody while there is no gateway', async () => {
  const { host, clock, gateways, used, settle, refuse } = await networks();
  await host.start();
  await settle();
  const next = async () => {
    await clock.advance(5_000);
    await settle();
    return used.splice(0);
  };
  gateways[0]?.used.push('a', 'b');
  assert.deepEqual(await next(), [['a', 'b']]);
  assert.deepEqual(await next(), [[]]);
  refuse(new Error('no more'));
  gateways[0]?.used.push('a');
  gateways[0]?.close();
  await settle();
  assert.deepEqual(await next(), [[]]);
  await host.stop();
});

test('ports of a guest are reached while its network is open, and why not otherwise', async () => {
  const { host, socket, settle } = await networks();
  await host.start();
  await settle();
  await assert.rejects(host.dial('a', 8000), { code: 'SANDBOX_NOT_RUNNING' });
  host.opened('a', HOLDER);
  await assert.rejects(host.dial('a', 8000), { code: 'NETWORK_UNAVAILABLE' });
  await host.program('a', wanted);
  assert.equal(await host.dial('a', 8000), socket);
  await assert.rejects(host.dial('a', 81), {
    code: 'PORT_UNREACHABLE',
    message: 'Nothing listens on port 81 of the guest.',
  });
  await host.program('a', { ...wanted, effective: effectiveOf({ egress: { mode: 'Airgapped' } }) });
  await assert.rejects(host.dial('a', 8000), {
    code: 'PORT_UNREACHABLE',
    message: /Airgapped of default\/a/,
  });
  await host.stop();
});
