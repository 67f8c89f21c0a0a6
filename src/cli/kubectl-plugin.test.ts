// The command line against what stands for a cluster, as kubectl starts it.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { SANDBOX_KIND } from '../api/kinds.ts';
import { type ClusterFront, kubeconfigOf, startClusterFront } from '../server/testing/cluster-front.ts';
import { type Harness, sandboxDocument, startHarness } from '../server/testing/harness.ts';
import { BULKHEAD, type CliResult } from './testing/bulkhead.ts';

const BIN = dirname(BULKHEAD);
const PLUGIN = join(BIN, 'kubectl-bulkhead');
const run = promisify(execFile);

let harness: Harness;
let front: ClusterFront;
let dir: string;
let kubeconfig: string;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bulkhead-plugin-'));
  harness = await startHarness();
  front = await startClusterFront(harness.socketPath);
  kubeconfig = join(dir, 'config');
  // As for everybody who has both: the context says another namespace, and a daemon that does not run is named too.
  await writeFile(
    kubeconfig,
    kubeconfigOf(front, { token: front.token }, { namespace: 'team', context: 'here' }),
  );
  await harness.client.create(SANDBOX_KIND, 'team', sandboxDocument('a'));
  await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument('elsewhere'));
});
after(async () => {
  await front[Symbol.asyncDispose]();
  await harness[Symbol.asyncDispose]();
  await rm(dir, { recursive: true });
});

async function command(
  program: string,
  args: readonly string[],
  env: Record<string, string>,
): Promise<CliResult> {
  const { PATH } = process.env;
  const child = run(program, [...args], { env: { PATH, HOME: dir, ...env } });
  child.child.stdin?.end();
  return child.then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    ({ code, stdout, stderr }: CliResult) => ({ code, stdout, stderr }),
  );
}

/** `kubectl bulkhead ...`. */
function kubectl(...args: string[]): Promise<CliResult> {
  return command(PLUGIN, args, { KUBECONFIG: kubeconfig, BULKHEAD_SOCKET: '/nowhere.sock' });
}

/** What must succeed. */
async function prints(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await kubectl(...args);
  assert.equal(code, 0, `${args.join(' ')}: ${stderr}`);
  return stdout;
}

test('it reads and writes objects where kubectl does, in the namespace of the context', async () => {
  assert.equal(await prints('get', 'sbx', '-o', 'name'), 'sandbox.bulkhead.dev/a\n');
  assert.equal(await prints('-n', 'default', 'get', 'sbx', '-o', 'name'), 'sandbox.bulkhead.dev/elsewhere\n');
  const manifest = join(dir, 'b.yaml');
  await writeFile(
    manifest,
    'apiVersion: bulkhead.dev/v1alpha1\nkind: Sandbox\nmetadata: {name: b}\nspec: {image: "busybox:1.36"}\n',
  );
  assert.equal(await prints('apply', '-f', manifest), 'sandbox.bulkhead.dev/b created\n');
  const said = front.requests.findLast(({ method }) => method === 'PATCH');
  assert.match(said?.path ?? '', /fieldManager=bulkhead-cli/);
  assert.deepEqual(
    JSON.parse(said?.body ?? '').spec,
    { image: 'busybox:1.36' },
    'no defaults, which others may set',
  );
  assert.match(await prints('describe', 'sbx', 'b'), /^Name: +b\nNamespace: +team\n/);
  assert.equal(await prints('delete', '-f', manifest, '--now'), 'sandbox.bulkhead.dev "b" deleted\n');
  assert.match(await prints('version'), /^Client: .*\nServer: Kubernetes \d/);
  assert.match(await prints('top', 'a'), /a +0m .*\nTogether: 1 sandbox, CPU 0m, memory 64/s);
});

test('commands, logs and files go through the aggregated API', async () => {
  assert.equal(await prints('exec', 'a', '--', 'echo', 'hello'), 'hello\n');
  assert.equal((await kubectl('exec', 'a', '--', 'fail')).code, 3);
  harness.sandboxes.logs.set('a', [
    { time: new Date(0), stream: 'stdout', data: Buffer.from('said\n'), lostBytes: 0 },
  ]);
  assert.equal(await prints('logs', 'a'), 'said\n');
  const [there, back] = [join(dir, 'there'), join(dir, 'back')];
  await writeFile(there, 'content');
  await prints('cp', there, 'a:/copied');
  await prints('cp', 'a:/copied', back);
  assert.equal(await readFile(back, 'utf8'), 'content');
  const paths = front.requests.map(({ path }) => path);
  assert.ok(
    paths.some((path) =>
      path.includes('/subresources.bulkhead.dev/v1alpha1/namespaces/team/sandboxes/a/exec?'),
    ),
  );
  const wrong = await kubectl('exec', 'aa', '--', 'echo');
  assert.match(wrong.stderr, /"aa" not found; did you mean "a"\?/);
  assert.equal(wrong.code, 125);
});

test('what belongs to one host says so', async () => {
  for (const args of [['image', 'ls'], ['doctor']]) {
    const { code, stdout, stderr } = await kubectl(...args);
    assert.equal(code, 1, args.join(' '));
    assert.equal(stdout, '');
    assert.match(stderr, /^error: .* one host.*, and a cluster has many: /, args.join(' '));
  }
});

test('the same by options and environment, without kubectl', async () => {
  const names = async (args: string[], env: Record<string, string>) =>
    command(BULKHEAD, ['get', 'sbx', '-o', 'name', ...args], env);
  const a = 'sandbox.bulkhead.dev/a\n';
  assert.equal((await names(['--kubeconfig', kubeconfig], { BULKHEAD_SOCKET: '/nowhere.sock' })).stdout, a);
  assert.equal((await names(['--context', 'here'], { KUBECONFIG: kubeconfig })).stdout, a);
  assert.equal((await names([], { BULKHEAD_KUBECONFIG: 'default', KUBECONFIG: kubeconfig })).stdout, a);
  const env = { BULKHEAD_KUBECONFIG: kubeconfig, BULKHEAD_NAMESPACE: 'default' };
  assert.equal((await names([], env)).stdout, 'sandbox.bulkhead.dev/elsewhere\n');
  // A socket that is said is a daemon's.
  const socket = await names(['--socket', harness.socketPath, '-n', 'team'], {
    BULKHEAD_KUBECONFIG: '/nowhere',
  });
  assert.equal(socket.stdout, a);
  const both = await names(['--socket', harness.socketPath, '--context', 'here'], { KUBECONFIG: kubeconfig });
  assert.equal(both.code, 2);
  const typo = await names(['--context', 'hre'], { KUBECONFIG: kubeconfig });
  assert.match(typo.stderr, /no context "hre"; there are: here\n/);
  const nobody = await names(['--as', 'nobody'], { BULKHEAD_KUBECONFIG: kubeconfig });
  assert.match(nobody.stderr, /^error: sandboxes\.bulkhead\.dev is forbidden: User "nobody"/);
  assert.match((await kubectl('--help')).stdout, /^Usage: kubectl bulkhead COMMAND/);
  assert.match((await kubectl('get', '--help')).stdout, /^Usage: kubectl bulkhead get /);
});

test("kubectl's completion gets names of the cluster, and what to do with them", async () => {
  const completes = async (...args: string[]) =>
    (await command(join(BIN, 'kubectl_complete-bulkhead'), args, { KUBECONFIG: kubeconfig })).stdout;
  assert.equal(await completes('exec', '-n', 'default', ''), 'elsewhere\n:4\n');
  assert.equal(await completes('port-f'), 'port-forward\n:4\n');
  assert.equal(await completes('cp', ''), 'a:\n:2\n');
  assert.equal(await completes('apply', '-f', ''), '\n:0\n');
  // Elsewhere on the PATH, by a link, as npm and package managers put it there.
  const link = join(dir, 'kubectl_complete-bulkhead');
  const { symlink } = await import('node:fs/promises');
  await symlink(join(BIN, 'kubectl_complete-bulkhead'), link);
  await chmod(dir, 0o755);
  assert.equal((await command(link, ['port-f'], {})).stdout, 'port-forward\n:4\n');
});
