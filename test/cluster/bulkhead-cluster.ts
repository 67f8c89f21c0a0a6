// A cluster that has Bulkhead, as its users get it: by the chart, with the small image in the cache of each node.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type CommandResult, clusterProgram, command, TestCluster } from './cluster.ts';

export const PROJECT = resolve(import.meta.dirname, '..', '..');
export const CHART = join(PROJECT, 'helm', 'bulkhead');
/** Namespace of Bulkhead's own parts. */
export const SYSTEM = 'bulkhead-system';

const BULKHEAD = join(PROJECT, 'bin', 'bulkhead');
const SOCKET = '/var/lib/bulkhead/bulkhead.sock';
const SETTINGS = [
  'image.pullPolicy=Never',
  'reservationImage=localhost/pause:1',
  'node.driver=software',
  'controller.replicas=2',
  'metrics.enabled=true',
];

/** Starts a cluster whose nodes have Bulkhead's image, without the chart. */
export function startCluster(options: { port: number; nodes?: number }): Promise<TestCluster> {
  return TestCluster.start({ ...options, images: [join(PROJECT, 'build/cluster/bulkhead.tar')] });
}

/** Fails where helm does. */
export async function helm(cluster: TestCluster, ...args: string[]): Promise<void> {
  const { code, stdout, stderr } = await command(clusterProgram('helm'), [
    ...['--kubeconfig', cluster.kubeconfig, '-n', SYSTEM],
    ...args,
  ]);
  assert.equal(code, 0, `helm ${args.join(' ')}: ${stdout}${stderr}`);
}

/** Installs the chart, and loads the image `bulkhead.local/busybox` on each of `nodes` nodes. `more`: settings of one's own. */
export async function install(cluster: TestCluster, nodes = 1, more: string[] = []): Promise<void> {
  const settings = [...SETTINGS, ...more].flatMap((value) => ['--set', value]);
  await helm(
    cluster,
    ...['install', 'bulkhead', CHART, '--create-namespace', '--wait', '--timeout', '3m'],
    ...settings,
  );
  // Helm is content with a DaemonSet that has as many Pods as it may lack.
  await rolledOut(cluster);
  const scratch = await mkdtemp(join(tmpdir(), 'bulkhead-image-'));
  try {
    const archive = join(scratch, 'busybox.tar');
    execFileSync(process.execPath, [join(PROJECT, 'tools', 'builtin-image.ts'), archive]);
    for (let node = 0; node < nodes; node += 1) {
      const load = `exec "$0" image load --socket ${SOCKET} - <"$1"`;
      const { code, stderr } = await cluster.inNode(node, 'sh', '-c', load, BULKHEAD, archive);
      assert.equal(code, 0, stderr);
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

export async function rolledOut(cluster: TestCluster): Promise<void> {
  await cluster.ask('-n', SYSTEM, 'rollout', 'status', 'daemonset/bulkhead-node', '--timeout=180s');
}

/** The command line as somebody on a node has it, who talks to the node's agent. */
export function onNode(cluster: TestCluster, node: number, ...args: string[]): Promise<CommandResult> {
  const [name = '', ...rest] = args;
  return cluster.inNode(node, BULKHEAD, name, '--socket', SOCKET, ...rest);
}

/** E.g. `field(cluster, 'sandbox idle', '.status.nodeName')`. */
export function field(cluster: TestCluster, resource: string, path: string): Promise<string> {
  return cluster.ask('get', ...resource.split(' '), '-o', `jsonpath={${path}}`);
}
