import assert from 'node:assert/strict';
import { test } from 'node:test';
import { placeholderOf } from '../../network/secrets/secret.ts';
import { FAKE_AUTHORITY } from '../testing/fake-network-plane.ts';
import { World } from '../testing/world.ts';

const BUNDLE = '/etc/ssl/certs/ca-certificates.crt';
const secret = (data: Record<string, string>) => ({
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name: 'keys', namespace: 'default' },
  spec: undefined,
  data: Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
  ),
});
const SPEC = {
  main: {},
  secrets: [
    { env: 'KEY', valueFrom: { secretKeyRef: { name: 'keys', key: 'token' } }, allowHosts: ['a.example'] },
  ],
};

test('the guest gets a placeholder, and starts when the Secret is there', async () => {
  await using world = new World();
  const daemon = await world.daemon();
  await world.create('app', SPEC);
  await world.until('the missing Secret is named', async () =>
    JSON.stringify(await world.status('app')).includes('Secret keys does not exist'),
  );
  await world.store.create(secret({ token: 'value' }));
  await world.untilPhase('app', 'Running');
  const uid = (await world.get('app'))?.metadata.uid ?? '';
  const env = daemon.reconciler.live.get(uid)?.execDefaults?.env ?? [];
  assert.ok(env.includes(`KEY=${placeholderOf(uid, 'KEY')}`));
  assert.equal(env.join().includes('value'), false);
});

test('a value that no header can carry is refused without being told', async () => {
  await using world = new World();
  await world.daemon();
  await world.store.create(secret({ token: 'value\n' }));
  await world.create('app', SPEC);
  await world.until('it says why', async () =>
    JSON.stringify(await world.status('app')).includes('the last line break of a file'),
  );
});

test('a guest trusts the gateway where it opens TLS, before its main process and from when it begins to', async () => {
  await using world = new World();
  const daemon = await world.daemon();
  const { networks, reconciler } = daemon;
  world.host.networked = true;
  networks.intercepts = true;
  const envOf = async (name: string) =>
    reconciler.live.get((await world.get(name))?.metadata.uid ?? '')?.execDefaults?.env ?? [];
  await world.create('early', { main: {} });
  await world.until('it is ready', async () => (await world.condition('early', 'Ready')) === 'True/Ready');
  const bundleOf = async (name: string) =>
    world.host.guest(await world.dirOf(name))?.root.get(BUNDLE)?.content;
  assert.equal(await bundleOf('early'), FAKE_AUTHORITY);
  assert.ok((await envOf('early')).includes(`SSL_CERT_FILE=${BUNDLE}`));

  networks.intercepts = false;
  await world.create('late', { main: {} });
  await world.until('it is ready', async () => (await world.condition('late', 'Ready')) === 'True/Ready');
  assert.equal(await bundleOf('late'), undefined);
  networks.intercepts = true;
  networks.setProblem(undefined); // something changed
  await world.until('the guest trusts it', async () => (await bundleOf('late')) === FAKE_AUTHORITY);
  await world.until('new processes are told', async () =>
    (await envOf('late')).includes(`SSL_CERT_FILE=${BUNDLE}`),
  );
});
