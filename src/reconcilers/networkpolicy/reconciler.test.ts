import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findCondition } from '../../api/conditions.ts';
import { GROUP_VERSION } from '../../api/meta.ts';
import type { DefaultedNetworkPolicy } from '../../api/networkpolicy.ts';
import { requireValid } from '../../api/validation/validate.ts';
import type { Request } from '../../controller/reconciler.ts';
import { decideFlow } from '../../network/policy/decide.ts';
import { flow } from '../../network/testing/policies.ts';
import { FakeNetworkPlane } from '../testing/fake-network-plane.ts';
import { sandboxManifest, World } from '../testing/world.ts';
import { PolicyBook } from './policies.ts';
import { PolicyProgrammer } from './programmer.ts';
import { NetworkPolicyReconciler, policiesOf, policiesReferringTo, sandboxesOf } from './reconciler.ts';

const KEY = { kind: 'NetworkPolicy', namespace: 'default' };
/** Self-signed; made for this test, its key is gone. */
const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBiTCCAS+gAwIBAgIUebOjJh4fnrZZ3TM51meAfsDk3IgwCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwOdGVzdCBhdXRob3JpdHkwIBcNMjYxMTI0MDMzMDU3WhgPMjEy
NjEwMzEwMzMwNTdaMBkxFzAVBgNVBAMMDnRlc3QgYXV0aG9yaXR5MFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAE0iOZaXMAx9ZOuKg9yovJBc+Ty2ohP3Hgs0H4ByS6
cb0hLIJfezWCUIS7pp2E32Ob5VeeVkLfheRxAlq4A6jEBqNTMFEwHQYDVR0OBBYE
FC2TG5HsCPULFhoTiy7MqbVoUyxTMB8GA1UdIwQYMBaAFC2TG5HsCPULFhoTiy7M
qbVoUyxTMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhANo4duzm
vMjQpsQqQXzsbX/v7Gwo2JhZy35C0XXmb8xCAiBiwP6VPCkHQyTSQ2YI6pS8TZxl
lVbKfh8xFkUey4t6ng==
-----END CERTIFICATE-----
`;

/** Both reconcilers, run by hand in the order in which they are woken until nobody is. */
class PolicyWorld {
  readonly world = new World();
  readonly store = this.world.store;
  readonly plane = new FakeNetworkPlane();
  readonly book = new PolicyBook(this.store);
  readonly woken: Request[] = [];
  readonly programmer: PolicyProgrammer;
  readonly reconciler: NetworkPolicyReconciler;
  #sandboxes: Awaited<ReturnType<typeof this.store.list>>['items'] = [];

  constructor() {
    const enqueuer = { enqueue: (request: Request) => void this.woken.push(request), enqueueAfter() {} };
    const { store, plane, book } = this;
    this.programmer = new PolicyProgrammer({ store, plane, book, enqueuer, policies: enqueuer });
    this.reconciler = new NetworkPolicyReconciler({
      ...{ store, plane, book, clock: this.world.clock },
      sandboxes: (namespace) => this.#sandboxes.filter(({ metadata }) => metadata.namespace === namespace),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.programmer.close();
    await this.world[Symbol.asyncDispose]();
  }

  /** A sandbox with a network, which nothing opened yet. */
  async sandbox(name: string, labels: Record<string, string> = {}): Promise<string> {
    const { metadata } = await this.store.create(sandboxManifest(name, {}, { labels }));
    await this.run({ kind: 'Sandbox', namespace: 'default', name });
    this.plane.bringUp(metadata.uid);
    await this.run();
    return metadata.uid;
  }

  async apply(name: string, spec: Record<string, unknown>): Promise<void> {
    const written = {
      apiVersion: GROUP_VERSION,
      kind: 'NetworkPolicy',
      metadata: { name, namespace: 'default' },
      spec,
    };
    const manifest = requireValid(written);
    const former = (await this.store.get({ ...KEY, name })) as DefaultedNetworkPolicy | undefined;
    if (former === undefined) await this.store.create(manifest);
    else await this.store.update(manifest);
    this.book.changed();
    await this.run({ ...KEY, name }, ...(former === undefined ? [] : this.#concerned(former)));
  }

  #concerned(policy: DefaultedNetworkPolicy): Request[] {
    const selected = sandboxesOf(policy, () => this.#sandboxes);
    return selected.map(({ metadata }) => ({ kind: 'Sandbox', namespace: 'default', name: metadata.name }));
  }

  /** Works these keys off, the sandboxes that policies among them concern, and all that is woken by it. */
  async run(...requests: Request[]): Promise<void> {
    this.#sandboxes = (await this.store.list('Sandbox')).items;
    this.woken.push(...requests);
    for (const request of requests) {
      const policy = request.kind === KEY.kind ? await this.store.get(request) : undefined;
      if (policy !== undefined) this.woken.push(...this.#concerned(policy as DefaultedNetworkPolicy));
    }
    for (let turns = 0; this.woken.length > 0; turns += 1) {
      assert.ok(turns < 1_000, 'the reconcilers wake each other without end');
      const next = this.woken.shift();
      if (next === undefined) break;
      const reconciler = next.kind === 'Sandbox' ? this.programmer : this.reconciler;
      await reconciler.reconcile(next).catch(() => {}); // the controller would come back to it
    }
  }

  async status(name: string) {
    const { status, metadata } = (await this.store.get({ ...KEY, name })) as DefaultedNetworkPolicy;
    const of = (type: 'Accepted' | 'Programmed' | 'Ready' | 'Stalled') => {
      const found = findCondition(status?.conditions, type);
      return found === undefined ? undefined : `${found.status} ${found.reason}`;
    };
    return {
      current: status?.observedGeneration === metadata.generation,
      counts: [status?.selected, status?.programmed],
      accepted: of('Accepted'),
      programmed: of('Programmed'),
      ready: of('Ready'),
      stalled: of('Stalled'),
    };
  }
}

test('a policy comes into force in the sandboxes that it selects, and says in how many', async () => {
  await using world = new PolicyWorld();
  const research = await world.sandbox('a', { team: 'research' });
  const other = await world.sandbox('b');
  await world.apply('egress', {
    sandboxSelector: { matchLabels: { team: 'research' } },
    egress: { mode: 'Deny' },
  });
  assert.deepEqual(await world.status('egress'), {
    current: true,
    counts: [1, 1],
    accepted: 'True Accepted',
    programmed: 'True Programmed',
    ready: 'True Ready',
    stalled: undefined,
  });
  assert.equal(world.plane.networks.get(research)?.mode.value, 'Deny');
  assert.equal(world.plane.networks.get(other)?.mode.value, 'PublicOnly');
});

test('a change is programmed where it makes a difference, and nowhere else', async () => {
  await using world = new PolicyWorld();
  const uid = await world.sandbox('a');
  await world.sandbox('b', { team: 'other' });
  await world.apply('one', { egress: { mode: 'Deny' }, sandboxSelector: { matchLabels: {} } });
  await world.apply('two', {
    egress: { mode: 'AllowAll' },
    sandboxSelector: { matchLabels: { team: 'other' } },
  });
  const before = world.plane.programmed.length;
  await world.apply('one', { egress: { mode: 'Airgapped' } });
  assert.equal(world.plane.programmed.length - before, 2);
  assert.equal(world.plane.networks.get(uid)?.mode.value, 'Airgapped');
  await world.run({ kind: 'Sandbox', namespace: 'default', name: 'a' });
  assert.equal(world.plane.programmed.length - before, 2);
});

test('a sandbox without a network is selected and needs nothing in force', async () => {
  await using world = new PolicyWorld();
  const uid = await world.sandbox('a');
  world.plane.networks.delete(uid);
  await world.apply('egress', { egress: { mode: 'Deny' } });
  const { counts, programmed } = await world.status('egress');
  assert.deepEqual([counts, programmed], [[1, 0], 'True Programmed']);
});

test('a gateway that does not answer is said, and what it missed is brought to it when it is back', async () => {
  await using world = new PolicyWorld();
  const uid = await world.sandbox('a');
  world.plane.isDown = true;
  await world.apply('egress', { egress: { mode: 'Deny' } });
  const down = await world.status('egress');
  assert.deepEqual(
    [down.counts, down.programmed, down.ready],
    [[1, 0], 'False Progressing', 'False Progressing'],
  );
  world.plane.isDown = false;
  world.plane.crash();
  await world.run();
  assert.equal(world.plane.networks.get(uid)?.mode.value, 'Deny');
  assert.equal((await world.status('egress')).programmed, 'True Programmed');
});

test('a policy whose authorities are missing closes what it selects until they are there', async () => {
  await using world = new PolicyWorld();
  const uid = await world.sandbox('a');
  const spec = { tls: { upstreamCAs: [{ configMapKeyRef: { name: 'ca', key: 'ca.pem' } }] } };
  await world.apply('egress', spec);
  const missing = await world.status('egress');
  assert.deepEqual([missing.accepted, missing.ready], ['False ReferenceNotFound', 'False ReferenceNotFound']);
  assert.equal(missing.stalled, undefined, 'it goes on by itself');
  const closed = world.plane.networks.get(uid);
  assert.ok(closed !== undefined);
  assert.equal(decideFlow(closed, flow('8.8.8.8')).allowed, false);

  const { store, book } = world;
  const config = (text: string) => ({
    ...{
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'ca', namespace: 'default' },
      spec: undefined,
    },
    data: { 'ca.pem': text },
  });
  await store.create(config('not a certificate'));
  book.changed();
  await world.run({ ...KEY, name: 'egress' });
  assert.equal((await world.status('egress')).stalled, 'True Invalid');

  await store.update(config(CERTIFICATE));
  book.changed();
  await world.run({ ...KEY, name: 'egress' });
  assert.equal((await world.status('egress')).ready, 'True Ready');
  assert.deepEqual(world.plane.networks.get(uid)?.tls.upstreamCAs, [CERTIFICATE.trim()]);
});

test('a policy that goes opens and closes what it did', async () => {
  await using world = new PolicyWorld();
  const uid = await world.sandbox('a');
  await world.apply('egress', { egress: { mode: 'Airgapped' } });
  await world.store.delete({ ...KEY, name: 'egress' });
  world.book.changed();
  await world.run({ ...KEY, name: 'egress' }, { kind: 'Sandbox', namespace: 'default', name: 'a' });
  assert.equal(world.plane.networks.get(uid)?.mode.value, 'PublicOnly');
});

test('an unchanged status is not written again', async () => {
  await using world = new PolicyWorld();
  await world.sandbox('a');
  await world.apply('egress', {});
  const before = (await world.store.get({ ...KEY, name: 'egress' }))?.metadata.resourceVersion;
  await world.run({ ...KEY, name: 'egress' });
  assert.equal((await world.store.get({ ...KEY, name: 'egress' }))?.metadata.resourceVersion, before);
});

test('changes lead to those that they concern', async () => {
  await using world = new PolicyWorld();
  await world.sandbox('a', { team: 'x' });
  await world.apply('all', {
    tls: { upstreamCAs: [{ secretKeyRef: { name: 'ca', key: 'k', optional: true } }] },
  });
  await world.apply('x', { sandboxSelector: { matchLabels: { team: 'x' } } });
  await world.apply('y', { sandboxSelector: { matchLabels: { team: 'y' } } });
  const policies = (await world.store.list('NetworkPolicy')).items;
  const names = (found: DefaultedNetworkPolicy[]) => found.map(({ metadata }) => metadata.name).sort();
  const [sandbox] = (await world.store.list('Sandbox')).items;
  assert.ok(sandbox);
  assert.deepEqual(names(policiesOf(sandbox, policies)), ['all', 'x']);
  assert.deepEqual(
    names(policiesReferringTo({ kind: 'Secret', namespace: 'default', name: 'ca' }, policies)),
    ['all'],
  );
});

test('ports are published, added and removed as the spec changes, and one that is taken is tried again', async () => {
  await using world = new PolicyWorld();
  const uid = await world.sandbox('a');
  const key = { kind: 'Sandbox', namespace: 'default', name: 'a' };
  const setPorts = async (ports: { name: string; port: number; hostPort?: number }[]) => {
    const spec = { ports: ports.map((port) => ({ hostIP: '127.0.0.1', protocol: 'TCP', ...port })) };
    await world.store.patch(key, { spec });
    return world.programmer.reconcile(key);
  };
  world.plane.takenPorts.add(81);
  assert.deepEqual(await setPorts([{ name: 'web', port: 8000, hostPort: 80 }]), { type: 'done' });
  assert.deepEqual(world.plane.stateOf(uid)?.ports?.published, [
    { name: 'web', hostIP: '127.0.0.1', hostPort: 80 },
  ]);
  const taken = await setPorts([{ name: 'web', port: 8000, hostPort: 81 }]);
  assert.equal(taken.type, 'transient');
  world.plane.takenPorts.clear();
  assert.deepEqual(await world.programmer.reconcile(key), { type: 'done' });
  assert.deepEqual(await setPorts([]), { type: 'done' });
  assert.deepEqual(world.plane.stateOf(uid)?.ports?.published, []);
});
