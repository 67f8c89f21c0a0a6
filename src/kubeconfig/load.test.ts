import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, before, test } from 'node:test';
import { loadKubeConfig } from './load.ts';

let dir: string;
const { KUBECONFIG, HOME } = process.env;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bulkhead-kubeconfig-'));
});
after(async () => {
  for (const [name, value] of Object.entries({ KUBECONFIG, HOME })) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  await rm(dir, { recursive: true });
});

async function file(name: string, clusters: Record<string, string>, current = ''): Promise<string> {
  const path = join(dir, name);
  const names = Object.keys(clusters);
  await writeFile(
    path,
    JSON.stringify({
      ...(current === '' ? {} : { 'current-context': current }),
      clusters: names.map((each) => ({ name: each, cluster: { server: clusters[each] } })),
      users: names.map((each) => ({ name: each, user: { token: `${name}-${each}` } })),
      contexts: names.map((each) => ({ name: each, context: { cluster: each, user: each } })),
    }),
  );
  return path;
}

test('of several files the first that says something holds, and one that is not there is skipped', async () => {
  const first = await file('first', { a: 'https://a.first' });
  const second = await file('second', { a: 'https://a.second', b: 'https://b.second' }, 'b');
  const third = await file('third', { c: 'https://c.third' }, 'c');
  process.env.KUBECONFIG = [join(dir, 'absent'), first, second, third].join(delimiter);
  const config = await loadKubeConfig({});
  assert.equal(config.getCurrentContext(), 'b', 'the first file that says one');
  const chosen = async (context: string) => loadKubeConfig({ context });
  assert.equal((await chosen('a')).getCurrentCluster()?.server, 'https://a.first');
  assert.equal((await chosen('a')).getCurrentUser()?.token, 'first-a');
  assert.equal((await chosen('c')).getCurrentCluster()?.server, 'https://c.third');
});

test('a file that is said stands alone, and everything that is wrong says what', async () => {
  process.env.KUBECONFIG = await file('usual', { a: 'https://usual' }, 'a');
  const own = await file('own', { b: 'https://own' }, 'b');
  const config = await loadKubeConfig({ kubeconfig: own });
  assert.deepEqual(
    config.getClusters().map(({ server }) => server),
    ['https://own'],
  );
  const refused = (options: Parameters<typeof loadKubeConfig>[0], message: RegExp) =>
    assert.rejects(loadKubeConfig(options), { code: 'KUBECONFIG_INVALID', message });
  await refused({ kubeconfig: own, context: 'typo' }, /no context "typo"; there are: b$/);
  await refused({ kubeconfig: join(dir, 'absent') }, /ENOENT/);
  process.env.KUBECONFIG = [join(dir, 'absent'), join(dir, 'gone')].join(delimiter);
  await refused({}, /there is none of .*absent, .*gone/);
  delete process.env.KUBECONFIG;
  process.env.HOME = dir;
  await refused({}, /neither KUBECONFIG nor ~\/\.kube\/config, and this is no Pod/);
});
