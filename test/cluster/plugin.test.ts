// kubectl's plugin and programs on the SDK in a real cluster: what works with a daemon works there, by kubeconfig alone.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { install, PROJECT, startCluster } from './bulkhead-cluster.ts';
import { type CommandResult, clusterProgram, command, type TestCluster } from './cluster.ts';

const PORT = 21_448;
const IMAGE = 'bulkhead.local/busybox:latest';
const SMALL = ['--memory', '128Mi', '--disk', '1Gi'];
const SERVE = 'echo started; mkdir /www && echo served >/www/index.html && exec httpd -f -p 8000 -h /www';

let cluster: TestCluster;
let dir: string;
let env: NodeJS.ProcessEnv;

/** `kubectl bulkhead ...`, found by kubectl itself. */
function plugin(...args: string[]): Promise<CommandResult> {
  return command(clusterProgram('kubectl'), ['bulkhead', ...args], '', env as Record<string, string>);
}

async function ok(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await plugin(...args);
  assert.equal(code, 0, `kubectl bulkhead ${args.join(' ')}: ${stderr}`);
  return stdout;
}

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bulkhead-plugin-'));
  cluster = await startCluster({ port: PORT });
  await install(cluster, 1, ['subresources.enabled=true']);
  const bin = join(dir, 'bin');
  await mkdir(bin);
  for (const name of ['kubectl-bulkhead', 'kubectl_complete-bulkhead'])
    await symlink(join(PROJECT, 'bin', name), join(bin, name));
  const kubeconfig = join(dir, 'kubeconfig');
  await writeFile(kubeconfig, await readFile(cluster.kubeconfig));
  await chmod(kubeconfig, 0o600);
  const { PATH } = process.env;
  env = { PATH: `${bin}${delimiter}${PATH}`, HOME: dir, KUBECONFIG: kubeconfig };
  await cluster.ask('create', 'namespace', 'team');
  await command(
    clusterProgram('kubectl'),
    ['config', 'set-context', '--current', '--namespace=team'],
    '',
    env as Record<string, string>,
  );
  await cluster.ask(
    ...['wait', '--for=condition=Available', '--timeout=120s', 'apiservice'],
    'v1alpha1.subresources.bulkhead.dev',
  );
});

after(async () => {
  await cluster?.[Symbol.asyncDispose]();
  if (dir !== undefined) await rm(dir, { recursive: true, force: true });
});

describe('kubectl bulkhead', { concurrency: false }, () => {
  it('runs a command in a new sandbox, and removes that', async () => {
    const { code, stdout, stderr } = await plugin(
      'run',
      ...SMALL,
      IMAGE,
      '--',
      'sh',
      '-c',
      'uname -n; exit 3',
    );
    assert.equal(code, 3, stderr);
    assert.match(stdout, /^run-[0-9a-f]{8}\n$/);
    assert.equal(await ok('get', 'sbx', '-o', 'name'), '');
  });

  it('applies, waits, executes, and shows logs and figures, in the namespace of the context', async () => {
    const manifest = join(dir, 'box.yaml');
    await writeFile(
      manifest,
      JSON.stringify({
        ...{ apiVersion: 'bulkhead.dev/v1alpha1', kind: 'Sandbox', metadata: { name: 'box' } },
        spec: {
          ...{ image: IMAGE, resources: { memory: '128Mi', disk: '1Gi' }, terminationGracePeriodSeconds: 1 },
          main: { command: ['sh', '-c', SERVE] },
        },
      }),
    );
    assert.equal(await ok('apply', '-f', manifest), 'sandbox.bulkhead.dev/box created\n');
    await ok('wait', 'sandbox/box', '--for=condition=Ready', '--timeout', '180s');
    assert.equal(
      await cluster.ask('-n', 'team', 'get', 'sandbox', '-o', 'name'),
      'sandbox.bulkhead.dev/box\n',
    );
    assert.equal(await ok('exec', 'box', '--', 'uname', '-n'), 'box\n');
    assert.equal((await plugin('exec', 'box', '--', 'sh', '-c', 'kill -9 $$')).code, 137);
    assert.equal(await ok('logs', 'box'), 'started\n');
    assert.match(await ok('top', 'box'), /box +\d+m .*\nTogether: 1 sandbox/s);
    assert.match(await ok('events', 'sbx/box'), /Started +sandbox\/box/);
    assert.doesNotMatch(await ok('get', 'sbx', 'box', '-o', 'yaml'), /managedFields/);
    await ok('apply', '-f', manifest);
  });

  it('copies files and trees both ways, and forwards ports', async () => {
    const content = Buffer.alloc(20 * 1024 * 1024, 'bulkhead ');
    await mkdir(join(dir, 'tree'));
    await writeFile(join(dir, 'tree', 'large'), content);
    await ok('cp', join(dir, 'tree'), 'box:/tmp/tree');
    await ok('cp', 'box:/tmp/tree/large', join(dir, 'back'));
    assert.ok(content.equals(await readFile(join(dir, 'back'))));

    const forward = spawn(clusterProgram('kubectl'), ['bulkhead', 'port-forward', 'box', ':8000'], { env });
    try {
      let port = '';
      for await (const line of createInterface({ input: forward.stdout })) {
        port = /127\.0\.0\.1:(\d+)/.exec(line)?.[1] ?? '';
        if (port !== '') break;
      }
      assert.equal(await (await fetch(`http://127.0.0.1:${port}/index.html`)).text(), 'served\n');
    } finally {
      forward.kill();
    }
  });

  it('is what RBAC lets its user be, completes names, and refuses what belongs to one host', async () => {
    const nobody = await plugin('exec', '--as', 'nobody', 'box', '--', 'true');
    assert.equal(nobody.code, 125);
    assert.match(nobody.stderr, /User "nobody" cannot get resource "sandboxes\/exec"/);
    const completed = await command(
      clusterProgram('kubectl'),
      ['__complete', 'bulkhead', 'exec', ''],
      '',
      env as Record<string, string>,
    );
    assert.match(completed.stdout, /^box\n:4$/m);
    assert.match((await plugin('image', 'ls')).stderr, /belongs to one host/);
  });

  it('takes a sandbox down and up again, leaves the field to who set it, and deletes', async () => {
    await ok('stop', 'box');
    const suspended = await ok('apply', '-f', join(dir, 'box.yaml'));
    assert.equal(suspended, 'sandbox.bulkhead.dev/box unchanged\n');
    await ok('start', 'box');
    assert.equal(
      await ok('delete', 'sbx', 'box', '--now', '--timeout', '90s'),
      'sandbox.bulkhead.dev "box" deleted\n',
    );
  });
});

describe('a program on the SDK', { concurrency: false }, () => {
  function program(code: string) {
    const args = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', code];
    return spawn(process.execPath, args, { cwd: PROJECT, env: { ...env, BULKHEAD_KUBECONFIG: 'default' } });
  }

  it('the code interpreter of examples/ runs unchanged, and leaves nothing', async () => {
    const child = program(`
      const { CodeInterpreter } = await import('./examples/code-interpreter.ts');
      await using interpreter = await CodeInterpreter.start(${JSON.stringify(IMAGE)});
      const code = 'sort -n numbers.txt | tail -1 >most.txt; cat most.txt';
      const { stdout, exitCode, files } = await interpreter.run({ language: 'sh', code, files: { 'numbers.txt': '1\\n39\\n2\\n' } });
      console.log(stdout.trim(), exitCode, Buffer.from(files['most.txt']).toString().trim());
    `);
    const [output, problems] = await Promise.all([text(child.stdout), text(child.stderr)]);
    assert.equal(output, '39 0 39\n', problems);
    assert.equal(await ok('get', 'sbx,secrets,sbxnp', '-o', 'name'), '');
  });

  it('an attached sandbox ends with its program, also where that is killed', async () => {
    const child = program(`
      const { Sandbox } = await import('./src/sdk/index.ts');
      const sandbox = await Sandbox.create({ image: ${JSON.stringify(IMAGE)}, memoryMib: 128, diskMib: 1024 });
      console.log(sandbox.name, (await sandbox.metrics()).memoryLimitBytes > 0);
      setInterval(() => {}, 1000);
    `);
    const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
    const [name = '', hasFigures] = line.split(' ');
    assert.equal(hasFigures, 'true');
    child.kill('SIGKILL');
    await ok('wait', `sandbox/${name}`, '--for=delete', '--timeout', '120s');
  });
});
