// A folder that git-sync fills, followed by `bulkhead source` with the rights of its own manifest alone.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { loadAll } from 'js-yaml';
import { ApiServer } from './api-server.ts';
import { PROJECT, SYSTEM } from './bulkhead-cluster.ts';

const OBJECTS = '/apis/bulkhead.dev/v1alpha1/namespaces/default';
const APPLIED_MS = 180_000;

let server: ApiServer;
let dir: string;
let running: AsyncDisposable | undefined;

before(async () => {
  server = await ApiServer.start();
  await server.applyCrds();
  await send('/api/v1/namespaces', { metadata: { name: SYSTEM } });
  dir = await mkdtemp(join(tmpdir(), 'bulkhead-git-'));
});

after(async () => {
  await running?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

async function send<T>(path: string, body: unknown): Promise<T> {
  const { status, body: answer } = await server.request(path, { method: 'POST', body });
  assert.equal(status, 201, `${path}: ${JSON.stringify(answer)}`);
  return answer as T;
}

/** A kubeconfig of the account that the manifest makes. */
async function account(): Promise<string> {
  const manifests = loadAll(await readFile(join(PROJECT, 'helm/bulkhead/gitops/folder-source.yaml'), 'utf8'));
  const rbac = '/apis/rbac.authorization.k8s.io/v1';
  const paths: Readonly<Record<string, string>> = {
    ServiceAccount: `/api/v1/namespaces/${SYSTEM}/serviceaccounts`,
    ClusterRole: `${rbac}/clusterroles`,
    ClusterRoleBinding: `${rbac}/clusterrolebindings`,
    PersistentVolumeClaim: `/api/v1/namespaces/${SYSTEM}/persistentvolumeclaims`,
    Deployment: `/apis/apps/v1/namespaces/${SYSTEM}/deployments`,
  };
  for (const manifest of manifests as { kind: string }[]) await send(paths[manifest.kind] ?? '', manifest);
  const token = `/api/v1/namespaces/${SYSTEM}/serviceaccounts/bulkhead-source/token`;
  const { status } = await send<{ status: { token: string } }>(token, { spec: {} });
  return server.kubeconfig({ name: 'bulkhead-source', token: status.token });
}

/** A commit, as git-sync shows it: a directory of its own, and the link renamed over. */
async function commit(hash: string, files: Readonly<Record<string, string>>): Promise<void> {
  const tree = join(dir, '.worktrees', hash, 'sandboxes');
  await mkdir(tree, { recursive: true });
  for (const [name, text] of Object.entries(files)) await writeFile(join(tree, name), text);
  await symlink(join('.worktrees', hash), join(dir, 'next'));
  await rename(join(dir, 'next'), join(dir, 'current'));
}

async function start(kubeconfig: string): Promise<AsyncDisposable> {
  const cli = [join(PROJECT, 'src/cli/main.ts'), 'source', '--kubeconfig', kubeconfig];
  const folders = ['--manifests', join(dir, 'current/sandboxes'), '--state-dir', join(dir, 'state')];
  const command = [process.execPath, '--disable-warning=ExperimentalWarning', ...cli, ...folders];
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...command], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return {
    async [Symbol.asyncDispose]() {
      const exited = once(child, 'exit');
      if (child.kill('SIGTERM')) await exited;
    },
  };
}

const sandbox = (name: string, memory = '128Mi') =>
  `{ apiVersion: bulkhead.dev/v1alpha1, kind: Sandbox, metadata: { name: ${name} }, ` +
  `spec: { image: busybox, resources: { memory: ${memory} } } }\n`;

/** Names of the sandboxes and their memory, once they are as wanted. */
async function becomes(wanted: Readonly<Record<string, string>>): Promise<void> {
  const deadline = performance.now() + APPLIED_MS;
  for (;;) {
    const { body } = await server.request(`${OBJECTS}/sandboxes`);
    const { items } = body as {
      items: { metadata: { name: string }; spec: { resources: { memory: string } } }[];
    };
    const found = Object.fromEntries(
      items.map(({ metadata, spec }) => [metadata.name, spec.resources.memory]),
    );
    if (JSON.stringify(Object.entries(found).sort()) === JSON.stringify(Object.entries(wanted).sort()))
      return;
    if (performance.now() > deadline) assert.deepEqual(found, wanted);
    await delay(100);
  }
}

test('a cluster follows the commits of a repository, also those that came while nobody looked', async () => {
  const kubeconfig = await account();
  await commit('a', { 'one.yaml': sandbox('one'), 'two.yaml': sandbox('two') });
  running = await start(kubeconfig);
  await becomes({ one: '128Mi', two: '128Mi' });
  await commit('b', {
    'one.yaml': sandbox('one', '256Mi'),
    'two.yaml': 'kind: [',
    'three.yaml': sandbox('three'),
    // Whose right the program does not have.
    'secret.yaml': '{ apiVersion: v1, kind: Secret, metadata: { name: key }, stringData: { a: b } }\n',
  });
  await becomes({ one: '256Mi', two: '128Mi', three: '128Mi' });
  await running[Symbol.asyncDispose]();
  await commit('c', { 'one.yaml': sandbox('one', '256Mi'), 'two.yaml': sandbox('two') });
  running = await start(kubeconfig);
  await becomes({ one: '256Mi', two: '128Mi' });
});
