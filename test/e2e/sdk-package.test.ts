// The package that is published, installed into empty projects.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, symlink, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

const PROJECT = join(import.meta.dirname, '..', '..');
const BIN = join(PROJECT, 'node_modules', '.bin');
const run = promisify(execFile);

let dir: string;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bulkhead-package-'));
  await run(join(BIN, 'node'), ['tools/build-sdk.ts'], { cwd: PROJECT });
  await run('npm', ['pack', '--pack-destination', dir], { cwd: join(PROJECT, 'build', 'sdk') });
  await writeFile(join(dir, 'package.json'), JSON.stringify({ name: 'user', private: true }));
  const archive = join(dir, 'bulkhead-0.1.0.tgz');
  await run('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', archive], { cwd: dir });
});
after(() => rm(dir, { recursive: true, force: true }));

/** The project's own Node, and the oldest that the package says it runs on. */
async function nodes(): Promise<string[]> {
  const { engines } = JSON.parse(
    await readFile(join(dir, 'node_modules', 'bulkhead', 'package.json'), 'utf8'),
  );
  const oldest = `${String(engines.node).replace('>=', '')}.0`;
  const prefix = join(dir, 'oldest');
  // Its own install script only puts the binary, which is a package too, in another place.
  const options = ['--no-audit', '--no-fund', '--prefer-offline', '--ignore-scripts', '--prefix', prefix];
  const binary = `node-linux-${process.arch}`;
  await run('npm', ['install', ...options, `${binary}@${oldest}`]);
  const node = join(prefix, 'node_modules', binary, 'bin', 'node');
  assert.equal((await run(node, ['--version'])).stdout, `v${oldest}\n`);
  return [join(BIN, 'node'), node];
}

const USE = `
if (typeof sdk.Sandbox.create !== 'function') throw new Error('no Sandbox');
sdk.configure({ socketPath: '/nowhere/bulkhead.sock' });
sdk.Sandbox.list().then(
  () => { throw new Error('there is no daemon'); },
  (error) => console.log(error.constructor.name, error.code, error instanceof sdk.DaemonUnavailableError),
);
`;

test('an ES module and a CommonJS program load it, on this Node and on the oldest', async () => {
  await writeFile(join(dir, 'use.mjs'), `import * as sdk from 'bulkhead';\n${USE}`);
  await writeFile(join(dir, 'use.cjs'), `import('bulkhead').then((sdk) => {${USE}});\n`);
  for (const node of await nodes()) {
    for (const file of ['use.mjs', 'use.cjs']) {
      const { stdout } = await run(node, [file], { cwd: dir });
      assert.equal(stdout, 'DaemonUnavailableError DAEMON_UNAVAILABLE true\n', `${node} ${file}`);
    }
  }
});

test('loading it loads nothing large: no fetch, no processes, no WebSockets', async () => {
  await writeFile(
    join(dir, 'loaded.mjs'),
    "await import('bulkhead');\nconst { createRequire } = await import('node:module');\n" +
      'console.log(JSON.stringify([...process.moduleLoadList, ...Object.keys(createRequire(import.meta.url).cache)]));\n',
  );
  const { stdout } = await run(join(BIN, 'node'), ['loaded.mjs'], { cwd: dir });
  const modules = JSON.parse(stdout) as string[];
  assert.ok(modules.includes('NativeModule _http_client'), 'the list is of what was loaded');
  const large = /undici|child_process|internal\/crypto|node_modules\/ws\//;
  assert.deepEqual(
    modules.filter((name) => large.test(name)),
    [],
  );
});

test('a program with a cluster is told what it lacks, and has it once that is installed', async () => {
  await writeFile(join(dir, 'kubeconfig'), JSON.stringify({ clusters: [], contexts: [], users: [] }));
  await writeFile(
    join(dir, 'cluster.mjs'),
    "import { Sandbox } from 'bulkhead';\nawait Sandbox.list({ kubeconfig: 'kubeconfig' }).catch(({ code, message }) => console.log(code, message));\n",
  );
  const told = async () => (await run(join(BIN, 'node'), ['cluster.mjs'], { cwd: dir })).stdout;
  assert.match(await told(), /^KUBECONFIG_INVALID .* npm install @kubernetes\/client-node$/m);
  const [here, there] = [dir, PROJECT].map((each) => join(each, 'node_modules', '@kubernetes'));
  await symlink(there ?? '', here ?? '');
  try {
    assert.match(
      await told(),
      /^KUBECONFIG_INVALID The kubeconfig cannot be used: it has no current context/,
    );
  } finally {
    await unlink(here ?? '');
  }
});

test('a strict TypeScript program type-checks, without the types of our own dependencies', async () => {
  await writeFile(
    join(dir, 'use.ts'),
    `import { Mount, Patch, Sandbox, type ExecOutput } from 'bulkhead';
export async function main(): Promise<ExecOutput> {
  await using sandbox = await Sandbox.create({
    image: 'docker.io/library/python:3.13',
    volumes: { '/data': Mount.named('data', { readonly: true }) },
    patches: [Patch.text('/etc/motd', 'hello')],
  });
  for await (const event of await sandbox.execStream('ls')) if (event.eventType === 'stdout') event.data.toString();
  const code: number = (await sandbox.exec('true', [], { signal: AbortSignal.timeout(1000) })).code;
  // @ts-expect-error a mistake shows
  const wrong: string = code;
  return sandbox.shell(String(wrong));
}
`,
  );
  await run(
    join(BIN, 'tsc'),
    [
      ...[
        '--noEmit',
        '--strict',
        '--module',
        'nodenext',
        '--target',
        'es2022',
        '--lib',
        'es2023,esnext.disposable',
      ],
      ...['--types', 'node', '--typeRoots', join(PROJECT, 'node_modules', '@types'), 'use.ts'],
    ],
    { cwd: dir },
  );
});

test('it brings nothing native and stays small', async () => {
  const { stdout } = await run('find', ['node_modules', '-name', '*.node', '-o', '-name', 'binding.gyp'], {
    cwd: dir,
  });
  assert.equal(stdout, '');
  const packages = JSON.parse((await run('npm', ['ls', '--all', '--json'], { cwd: dir })).stdout) as {
    dependencies: { bulkhead: { dependencies: Record<string, { version?: string }> } };
  };
  // What it would take for a cluster is listed without a version: it is not there.
  const installed = Object.entries(packages.dependencies.bulkhead.dependencies)
    .filter(([, { version }]) => version !== undefined)
    .map(([name]) => name);
  assert.deepEqual(installed, ['ws']);
});
