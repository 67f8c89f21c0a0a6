import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { BulkheadError } from '../api/errors.ts';
import type { ObjectManifest, StoredObject } from '../api/meta.ts';
import { silentLog } from '../controller/log.ts';
import { FakeClock } from '../controller/testing/fake-clock.ts';
import type { ApiClient, ApiRequest } from '../store/cluster/api-client.ts';
import type { ObjectKey } from '../store/store.ts';
import { type ControllerIdentity, IdentityKeeper } from './identity.ts';
import { Issuer } from './testing/tls.ts';

const DAY_MS = 86_400_000;

/** A cluster's API server, as far as controllers need it for their certificates. */
class FakeCluster {
  secret: StoredObject | undefined;
  trust: Record<string, string> = {};
  caBundle: string | undefined;
  nodeAuthority: string | undefined;
  /** Requests for the APIService and the ConfigMap. */
  readonly asked: string[] = [];

  readonly client = {
    send: async ({ method, path, body }: ApiRequest) => {
      this.asked.push(`${method} ${path.split('/').at(-1)}`);
      if (path.includes('/apiservices/')) {
        if (method === 'PATCH') this.caBundle = (body as { spec: { caBundle: string } }).spec.caBundle;
        return { spec: { caBundle: this.caBundle } };
      }
      this.nodeAuthority = (body as { data: Record<string, string> }).data['ca.crt'];
      return {};
    },
  } as unknown as ApiClient;

  readonly followed = {
    get: async ({ kind }: ObjectKey) =>
      kind === 'Secret' ? this.secret : ({ data: this.trust } as unknown as StoredObject),
  };

  readonly store = {
    create: async (manifest: ObjectManifest) => {
      if (this.secret !== undefined) throw new BulkheadError('ALREADY_EXISTS', 'there is one');
      this.secret = {
        ...manifest,
        metadata: { ...manifest.metadata, uid: 'u', resourceVersion: '1' },
      } as StoredObject;
      return this.secret;
    },
    patch: async (_key: ObjectKey, patch: unknown) => {
      if (this.secret === undefined) throw new BulkheadError('NOT_FOUND', 'there is none');
      this.secret = { ...this.secret, data: (patch as { data: Record<string, string> }).data };
      return this.secret;
    },
  };

  keeper(clock: FakeClock, told: ControllerIdentity[], fails = () => false): IdentityKeeper {
    return new IdentityKeeper({
      ...{ client: this.client, store: this.store, followed: this.followed, clock, log: silentLog },
      ...{ namespace: 'sys', service: 'bulkhead-controller' },
      changed: async (identity) => {
        if (fails()) throw new Error('the port is taken');
        told.push(identity);
      },
    });
  }
}

async function published(): Promise<Record<string, string>> {
  const { ca } = await Issuer.create('front proxies');
  return {
    'requestheader-client-ca-file': ca,
    'requestheader-allowed-names': '["front-proxy"]',
    'requestheader-username-headers': '["X-Remote-User"]',
  };
}

test('controllers share what the first one made, and tell the cluster of it', async () => {
  const cluster = new FakeCluster();
  cluster.trust = await published();
  const clock = new FakeClock();
  const told: ControllerIdentity[] = [];
  const [first, second] = [cluster.keeper(clock, told), cluster.keeper(clock, told)];
  // Both look while there is none.
  const steps = await Promise.all([first.step(), second.step()]);
  assert.deepEqual(steps.sort(), [false, true]);
  await first.step();
  await second.step();
  assert.equal(told.length, 2);
  for (const { serving, client, authorities } of told) {
    const leaf = new X509Certificate(serving.cert);
    assert.ok(leaf.checkIssued(new X509Certificate(authorities.serving.certificate)));
    assert.ok(leaf.checkHost('bulkhead-controller.sys.svc'));
    const own = new X509Certificate(client.cert);
    assert.ok(own.checkIssued(new X509Certificate(client.ca)));
    assert.ok(!own.checkIssued(new X509Certificate(authorities.serving.certificate)));
    assert.equal(Buffer.from(cluster.caBundle ?? '', 'base64').toString(), authorities.serving.certificate);
    assert.equal(cluster.nodeAuthority, authorities.nodes.certificate);
  }
  assert.notEqual(told[0]?.serving.key, told[1]?.serving.key);
});

test('what did not change costs no request, until it is time to look', async () => {
  const cluster = new FakeCluster();
  cluster.trust = await published();
  const clock = new FakeClock();
  const told: ControllerIdentity[] = [];
  const keeper = cluster.keeper(clock, told);
  await keeper.step();
  cluster.asked.length = 0;
  await keeper.step();
  assert.deepEqual([cluster.asked, told.length], [[], 1]);
  // Somebody applied the chart anew.
  cluster.caBundle = undefined;
  await clock.advance(61_000);
  await keeper.step();
  assert.ok(cluster.caBundle);
  assert.equal(told.length, 1);
});

test('everything is made anew in its time, or when its source is another', async () => {
  const cluster = new FakeCluster();
  cluster.trust = await published();
  const clock = new FakeClock();
  const told: ControllerIdentity[] = [];
  const keeper = cluster.keeper(clock, told);
  await keeper.step();
  const { authorities } = told[0] as ControllerIdentity;

  await clock.advance(21 * DAY_MS);
  await keeper.step();
  assert.equal(told.length, 2);
  assert.notEqual(told[1]?.serving.cert, told[0]?.serving.cert);
  assert.equal(told[1]?.authorities.serving.key, authorities.serving.key);

  cluster.trust = await published();
  await keeper.step();
  assert.equal(told[2]?.serving.trust.ca, cluster.trust['requestheader-client-ca-file']);
  assert.equal(told[2]?.serving.cert, told[1]?.serving.cert);

  cluster.secret = undefined;
  await keeper.step();
  assert.notEqual(told[3]?.authorities.nodes.key, authorities.nodes.key);
  assert.equal(cluster.nodeAuthority, told[3]?.authorities.nodes.certificate);

  // Authorities are valid for ten years.
  await clock.advance(9.5 * 365 * DAY_MS);
  await keeper.step();
  assert.notEqual(told[4]?.authorities.serving.key, told[3]?.authorities.serving.key);
});

test('what could not be taken over is offered again', async () => {
  const cluster = new FakeCluster();
  cluster.trust = await published();
  const told: ControllerIdentity[] = [];
  let isTaken = true;
  const keeper = cluster.keeper(new FakeClock(), told, () => isTaken);
  await assert.rejects(keeper.step(), /the port is taken/);
  isTaken = false;
  await keeper.step();
  assert.equal(told.length, 1);
});

test('without an aggregation layer nothing is served', async () => {
  const cluster = new FakeCluster();
  const told: ControllerIdentity[] = [];
  await assert.rejects(cluster.keeper(new FakeClock(), told).step(), { code: 'NOT_SUPPORTED' });
  assert.equal(told.length, 0);
});
