// Programs on the SDK against what stands for a cluster, without a change in what they say.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { SANDBOX_KIND, SECRET_KIND } from '../api/kinds.ts';
import { type ClusterFront, kubeconfigOf, startClusterFront } from '../server/testing/cluster-front.ts';
import { type Harness, sandboxDocument, startHarness } from '../server/testing/harness.ts';
import {
  allSandboxMetrics,
  configure,
  DaemonUnavailableError,
  install,
  isInstalled,
  NotSupportedError,
  Patch,
  Sandbox,
  Volume,
} from './index.ts';

let harness: Harness;
let front: ClusterFront;
let dir: string;
let kubeconfig: string;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bulkhead-sdk-'));
  harness = await startHarness();
  front = await startClusterFront(harness.socketPath);
  kubeconfig = join(dir, 'config');
  await writeFile(kubeconfig, kubeconfigOf(front, { token: front.token }, { namespace: 'team' }));
});
afterEach(() => {
  configure({});
  delete process.env.BULKHEAD_KUBECONFIG;
  delete process.env.BULKHEAD_CONTEXT;
});
after(async () => {
  await front[Symbol.asyncDispose]();
  await harness[Symbol.asyncDispose]();
  await rm(dir, { recursive: true });
});

/** What the controller and a node's agent would do with each sandbox that is made. */
function runEverything(stop: AbortSignal): void {
  const client = harness.client;
  void (async () => {
    for await (const { type, object } of client.watch(SANDBOX_KIND, { signal: stop })) {
      const { name, namespace, generation } = object.metadata;
      const { conditions: [known] = [] } = (object.status ?? {}) as {
        conditions?: { observedGeneration: number }[];
      };
      if (type === 'DELETED' || known?.observedGeneration === generation) continue;
      const ready = {
        type: 'Ready',
        status: 'True',
        reason: 'Running',
        message: '',
        observedGeneration: generation,
      };
      await harness.store.updateStatus(
        { kind: SANDBOX_KIND.kind, namespace, name },
        {
          ...{ phase: 'Running', nodeName: 'node-1' },
          conditions: [{ ...ready, lastTransitionTime: new Date().toISOString() }],
        },
      );
    }
  })().catch(() => {});
}

test('one line chooses the cluster, and everything else stays as it was', async () => {
  const stop = new AbortController();
  runEverything(stop.signal);
  process.env.BULKHEAD_KUBECONFIG = kubeconfig;
  assert.equal(isInstalled(), true);
  await install();
  {
    await using sandbox = await Sandbox.create({ image: 'busybox', name: 'agent' }, { timeoutMs: 60_000 });
    while (harness.sandboxes.held.length === 0) await new Promise(setImmediate);
    assert.equal((await sandbox.exec('echo', ['6'])).stdout(), '6\n');
    assert.equal((await sandbox.exec('fail')).code, 3);
    await sandbox.fs().write('/input', 'data');
    assert.equal(await sandbox.fs().readString('/input'), 'data');
    assert.equal((await sandbox.metrics()).memoryLimitBytes, 512 * 1024 ** 2);
    assert.deepEqual(Object.keys(await allSandboxMetrics()), ['agent']);
    const [info] = await Sandbox.list();
    assert.equal(info?.name, 'agent');
    const object = await harness.client.get(SANDBOX_KIND, 'team', 'agent');
    assert.equal(object.metadata.namespace, 'team', 'that of the context');
    await (await Volume.create({ name: 'disk' })).remove();
  }
  assert.deepEqual(await Sandbox.list(), []);
  while (harness.sandboxes.held.length > 0) await new Promise(setImmediate);
  stop.abort();
  assert.ok(
    front.requests.some(({ path }) => path.includes('/subresources.bulkhead.dev/') && path.endsWith('/hold')),
  );
});

test('an option of a call, else of configure, else of the environment says which', async () => {
  await harness.client.create(SANDBOX_KIND, 'team', sandboxDocument('in-cluster'));
  await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument('by-socket'));
  const names = async (options: Parameters<typeof Sandbox.list>[0] = {}) =>
    (await Sandbox.list(options)).map(({ name }) => name);
  const { socketPath } = harness;
  assert.deepEqual(await names({ kubeconfig }), ['in-cluster']);
  assert.deepEqual(await names({ kubeconfig, namespace: 'default' }), ['by-socket']);
  process.env.BULKHEAD_KUBECONFIG = kubeconfig;
  assert.deepEqual(await names(), ['in-cluster']);
  assert.deepEqual(await names({ socketPath }), ['by-socket']);
  configure({ socketPath });
  assert.deepEqual(await names(), ['by-socket']);
  assert.deepEqual(await names({ kubeconfig }), ['in-cluster'], 'a default of the other kind does not hold');
  configure({ kubeconfig, context: 'typo' });
  await assert.rejects(names(), {
    code: 'KUBECONFIG_INVALID',
    message: /no context "typo"; there are: front/,
  });
});

test('credentials for a registry are a Secret that the nodes pull with and that goes with the sandbox', async () => {
  const stop = new AbortController();
  runEverything(stop.signal);
  const registryAuth = { username: 'me', password: 'secret' };
  const config = { image: 'registry.example:5000/team/app:1', name: 'private', registryAuth };
  const sandbox = await Sandbox.createDetached(config, { kubeconfig, timeoutMs: 60_000 });
  stop.abort();
  const { spec, metadata } = await harness.client.get(SANDBOX_KIND, 'team', 'private');
  const { imagePullSecrets, imagePullPolicy, operatingMode } = spec as Record<string, unknown>;
  const [secret] = (await harness.client.list(SECRET_KIND, { namespace: 'team' })).items;
  assert.deepEqual(imagePullSecrets, [{ name: secret?.metadata.name }]);
  assert.deepEqual([imagePullPolicy, operatingMode], ['IfNotPresent', 'Running']);
  assert.equal(secret?.metadata.ownerReferences?.[0]?.uid, metadata.uid);
  const { auths } = JSON.parse(Buffer.from(secret?.data?.['.dockerconfigjson'] ?? '', 'base64').toString());
  const auth = Buffer.from('me:secret').toString('base64');
  assert.deepEqual(auths, { 'registry.example:5000': { username: 'me', password: 'secret', auth } });
  assert.deepEqual(harness.images.pulls, []);
  await sandbox.removePersisted();
});

test('what a cluster has not says so, and a cluster that does not answer too', async () => {
  const copied = { image: 'busybox', patches: [Patch.copyFile(import.meta.filename, '/x')] };
  await assert.rejects(Sandbox.create(copied, { kubeconfig }), (error) => {
    assert.ok(error instanceof NotSupportedError);
    assert.equal(error.code, 'NOT_IN_CLUSTER');
    return true;
  });
  const away = join(dir, 'away');
  await writeFile(away, kubeconfigOf({ ...front, url: 'https://127.0.0.1:1' }, { token: 'x' }));
  await assert.rejects(Sandbox.list({ kubeconfig: away }), (error) => {
    assert.ok(error instanceof DaemonUnavailableError);
    assert.equal(error.code, 'API_SERVER_UNAVAILABLE');
    return true;
  });
});
