// Real images from real registries, seen from inside the machines that boot them.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import {
  debianImage,
  type ImageLayout,
  nodeImage,
  pythonImage,
  startRegistry,
  type TestRegistry,
  TREE_LISTING,
  treeListing,
} from '../fixtures/images.ts';
import { sandboxYaml, TestDaemon } from './daemon-harness.ts';
import { allEvents, condition, until } from './daemon-observations.ts';

const run = promisify(execFile);

/** Where the daemon looks for private authorities, as its documentation says. */
const CERTIFICATES = '/etc/bulkhead/certs.d';
const MACHINE = { cpus: 1, memory: '256Mi', disk: '512Mi' };

let work: string;
before(async () => {
  work = await mkdtemp(join(tmpdir(), 'bulkhead-guest-images-'));
});
after(() => rm(work, { recursive: true }));

/** What the guest mounts over the image: there the tree is the machine's, not the image's. */
const MOUNTED_BY_THE_GUEST = ['dev', 'proc', 'sys'];
/** Files that the agent writes, as container engines do: they tell who this machine is. */
const WRITTEN_BY_THE_AGENT = ['etc/hostname', 'etc/hosts', 'etc/resolv.conf', 'etc/machine-id'];
/** Column of the mtime in a listing. */
const MTIME = 6;

/** A listing without what the machine adds to its image; of /etc only the mtime, which moves with the files in it. */
function imageLines(listing: readonly string[]): string[] {
  return listing
    .filter((line) => {
      const path = line.split('\t', 1)[0] ?? '';
      const isMounted = MOUNTED_BY_THE_GUEST.some((mount) => path === mount || path.startsWith(`${mount}/`));
      return !isMounted && !WRITTEN_BY_THE_AGENT.includes(path);
    })
    .map((line) => {
      const columns = line.split('\t');
      return columns[0] === 'etc' ? columns.toSpliced(MTIME, 1, '-').join('\t') : line;
    });
}

async function umociListing(layout: ImageLayout): Promise<string[]> {
  const bundle = await mkdtemp(join(work, 'umoci-'));
  try {
    await run('umoci', ['raw', 'unpack', '--image', `${layout}:test`, join(bundle, 'root')]);
    return await treeListing(join(bundle, 'root'));
  } finally {
    await rm(bundle, { recursive: true });
  }
}

/** The listing that a program in the guest makes of its own root. */
async function guestListing(daemon: TestDaemon, name: string): Promise<string[]> {
  const script = await readFile(TREE_LISTING, 'utf8');
  const { code, stdout, stderr } = await daemon.cliWithInput(
    script,
    'exec',
    '-i',
    name,
    '--',
    'perl',
    '-',
    '/',
  );
  assert.equal(code, 0, stderr);
  return stdout.trimEnd().split('\n');
}

async function assertTreeOfImage(daemon: TestDaemon, name: string, layout: ImageLayout): Promise<void> {
  const mounts = (await daemon.ok('exec', name, '--', 'cat', '/proc/mounts')).trimEnd().split('\n');
  const points = mounts.map((line) => line.split(' ')[1]?.slice(1) ?? '').filter((point) => point !== '');
  const others = points.filter(
    (point) => !MOUNTED_BY_THE_GUEST.some((mount) => `${point}/`.startsWith(`${mount}/`)),
  );
  assert.deepEqual(others, [], 'nothing else hides the image from the comparison');

  const expected = imageLines(await umociListing(layout));
  const found = imageLines(await guestListing(daemon, name));
  const [missing, extra] = [difference(expected, found), difference(found, expected)];
  assert.deepEqual({ missing: missing.slice(0, 5), extra: extra.slice(0, 5) }, { missing: [], extra: [] });
  assert.ok(expected.length > 3000, 'the listing is of a whole system');
  assert.ok(
    expected.some((line) => line.startsWith('srv/torture/ping\t')),
    'with all that is hard to unpack',
  );
}

function difference(lines: readonly string[], others: readonly string[]): string[] {
  const known = new Set(others);
  return lines.filter((line) => !known.has(line));
}

/** A document of the folder, as `docker login` and `kubectl create secret docker-registry` make it. */
function pullSecretYaml(name: string, registry: TestRegistry, password?: string): string {
  const auths = Object.fromEntries(
    registry.credentials.map((each) => [
      each.registry,
      { username: each.username, password: password ?? each.password },
    ]),
  );
  return `${JSON.stringify({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name },
    type: 'kubernetes.io/dockerconfigjson',
    data: { '.dockerconfigjson': Buffer.from(JSON.stringify({ auths })).toString('base64') },
  })}\n`;
}

test('a Debian image of three layers, from a registry over plain http, is in its guest what umoci unpacks', async () => {
  await using registry = await startRegistry();
  await using daemon = await TestDaemon.start();
  const layout = await debianImage();
  const image = await registry.push(layout, 't/debian:bookworm');
  await daemon.write('debian.yaml', sandboxYaml('debian', { image, resources: MACHINE }));
  await daemon.waitReady('debian');
  await assertTreeOfImage(daemon, 'debian', layout);
});

test('a registry with a private authority and a password', async (t) => {
  await using registry = await startRegistry({ tls: true, auth: true });
  await using daemon = await TestDaemon.start();
  const layout = await debianImage();
  const image = await registry.push(layout, 't/debian:bookworm');
  const certificates = join(CERTIFICATES, registry.host);
  t.after(() => rm(certificates, { recursive: true, force: true }));
  const sandbox = sandboxYaml('private', {
    image,
    resources: MACHINE,
    imagePullSecrets: [{ name: 'login' }],
  });

  await t.test('waits for the Secret that it names, and says which', async () => {
    await daemon.write('private.yaml', sandbox);
    await until(daemon, 'private', ({ conditions }) => {
      const ready = condition(conditions, 'Ready');
      return ready?.reason === 'ReferenceNotFound' && /Secret login/.test(ready.message);
    });
  });

  await t.test('does not trust an authority that nobody vouched for', async () => {
    await daemon.write('secret.yaml', pullSecretYaml('login', registry, 'wrong'));
    await until(daemon, 'private', ({ conditions }) => {
      const ready = condition(conditions, 'Ready');
      return ready?.reason === 'RegistryUnavailable' && /SELF_SIGNED|UNABLE_TO_VERIFY/.test(ready.message);
    });
  });

  await t.test('is trusted as soon as its authority is there, and refuses a wrong password', async () => {
    await mkdir(certificates, { recursive: true });
    await writeFile(join(certificates, 'ca.crt'), registry.authorities.join('\n'));
    const { conditions } = await until(
      daemon,
      'private',
      (status) => condition(status.conditions, 'Stalled')?.reason === 'RegistryUnauthorized',
    );
    assert.equal(condition(conditions, 'Stalled')?.status, 'True');
  });

  await t.test('gives the image when the Secret is mended, and the guest has the whole tree', async () => {
    await daemon.write('secret.yaml', pullSecretYaml('login', registry));
    await daemon.waitReady('private');
    await assertTreeOfImage(daemon, 'private', layout);
  });

  await t.test('never has its password in an event, a status or the log', async () => {
    const password = registry.credentials[0]?.password ?? '';
    assert.notEqual(password, '');
    const said = [await allEvents(daemon), JSON.stringify(await daemon.get('private')), daemon.log()].join(
      '\n',
    );
    assert.doesNotMatch(said, new RegExp(password));
    assert.doesNotMatch(said, new RegExp(Buffer.from(`tester:${password}`).toString('base64')));
  });
});

const PROGRAMS = [
  {
    name: 'python',
    layout: pythonImage,
    command: [
      'python3',
      '-c',
      'import sys, hashlib; print(sys.platform, hashlib.sha256(b"bulkhead").hexdigest()); sys.exit(7)',
    ],
    platform: 'linux',
  },
  {
    name: 'node',
    layout: nodeImage,
    command: [
      'node',
      '-e',
      'console.log(process.platform, require("node:crypto").hash("sha256", "bulkhead")); process.exitCode = 7',
    ],
    platform: 'linux',
  },
] as const;

for (const { name, layout, command, platform } of PROGRAMS) {
  test(`a ${name} image runs its program: its output is in the log, its exit code in the status`, async () => {
    await using registry = await startRegistry();
    await using daemon = await TestDaemon.start();
    const image = await registry.push(await layout(), `t/${name}:test`);
    const resources = { ...MACHINE, memory: '512Mi' };
    await daemon.write(`${name}.yaml`, sandboxYaml(name, { image, resources, main: { command } }));
    await daemon.ok('wait', `sandbox/${name}`, '--for=condition=Finished', '--timeout', '180s');
    const { stdout } = await run('sh', ['-c', 'printf bulkhead | sha256sum']);
    assert.equal(await daemon.ok('logs', name), `${platform} ${stdout.slice(0, 64)}\n`);
    const { status } = await daemon.get(name);
    assert.equal(status.phase, 'Failed');
    assert.equal(status.lastTermination?.exitCode, 7);
  });
}
