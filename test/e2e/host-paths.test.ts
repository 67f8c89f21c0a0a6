// Directories of the host in a sandbox, with a real daemon and a real VM: many mounts at once, what no guest can reach by
// them, and what becomes of them when the daemon or their server is killed.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { READY_TIMEOUT, sandboxYaml, TestDaemon } from './daemon-harness.ts';
import { condition, until } from './daemon-observations.ts';
import { TEST_DRIVER } from './test-driver.ts';

const SECRET = 'only-for-the-host';
/** Owner of what is shared: nobody that the host knows. */
const OWNER = 12_345;
const NAMES_OF_MEMORY = Array.from({ length: 12 }, (_, index) => `t${index}`);
const SWAPS = 400;

const skip =
  TEST_DRIVER === 'libkrun' &&
  'minutes of ways out where Node is slow; vmm-volumes.test.ts has directories of the host with each driver';

let daemon: TestDaemon;
let root: string;
let outside: string;
const at = (...parts: string[]) => join(root, ...parts);
const shell = (line: string) => daemon.cli('exec', 'box', '--', 'sh', '-c', line);

before(async () => {
  if (skip) return;
  const dir = fs.mkdtempSync('/var/tmp/bulkhead-shared-');
  root = join(dir, 'root');
  outside = join(dir, 'outside');
  for (const path of [root, outside, at('a'), at('a/real'), at('a/x'), at('a/x/y'), at('b'), at('sub')])
    fs.mkdirSync(path);
  fs.writeFileSync(join(outside, 'secret'), SECRET);
  fs.writeFileSync(at('secret'), SECRET); // beside what is shared, below the root that is allowed
  fs.writeFileSync(at('a/real/inner'), 'inner');
  fs.writeFileSync(at('a/file'), 'host');
  fs.writeFileSync(at('b/file'), 'kept');
  fs.writeFileSync(at('single'), 'single');
  execFileSync('chown', ['-R', `${OWNER}:${OWNER}`, at('a'), at('b'), at('single')]);
  fs.writeFileSync(at('a/others'), SECRET, { mode: 0o600 }); // root's
  fs.mkdirSync(at('sub/under'));
  execFileSync('mknod', [at('a/null'), 'c', '1', '3']);
  fs.chmodSync(at('a/null'), 0o666);
  execFileSync('mkfifo', ['-m', '666', at('a/fifo')]);
  fs.copyFileSync('/bin/busybox', at('a/suid'));
  fs.chmodSync(at('a/suid'), 0o4755);
  for (const [name, target] of Object.entries({
    absolute: outside,
    relative: '../../outside',
    beside: '../secret',
    magic: `/proc/self/root${outside}`,
    inside: '/real',
  }))
    fs.symlinkSync(target, at('a', name));
  fs.symlinkSync(outside, at('away'));
  daemon = await TestDaemon.start({ extraArgs: ['--host-path-root', root] });
});

after(async () => {
  if (skip) return;
  await daemon[Symbol.asyncDispose]();
  fs.rmSync(join(root, '..'), { recursive: true, force: true });
});

function manifest(): string {
  const hostPath = (path: string, type = 'Directory') => ({ path: at(path), type });
  const volumes = [
    { name: 'a', hostPath: hostPath('a') },
    { name: 'b', hostPath: hostPath('b') },
    { name: 'single', hostPath: hostPath('single', 'File') },
    { name: 'sub', hostPath: hostPath('sub') },
    { name: 'disk1', volume: { name: 'disk1' } },
    { name: 'disk2', volume: { name: 'disk2' } },
    { name: 'conf', configMap: { name: 'conf' } },
    { name: 'keys', secret: { name: 'keys' } },
    ...NAMES_OF_MEMORY.map((name) => ({ name, tmpfs: { size: '1Mi' } })),
  ];
  const volumeMounts = [
    ...volumes.map(({ name }) => ({
      ...{ name, mountPath: `/m/${name}`, readOnly: name === 'b' || name === 'single' },
    })),
    { name: 'a', mountPath: '/m/inner', subPath: 'inside' },
    { name: 'a', mountPath: '/m/read', subPath: 'real', readOnly: true },
    { name: 'disk1', mountPath: '/m/part', subPath: 'deep/er' },
    { name: 'conf', mountPath: '/m/key', subPath: 'greeting' },
  ];
  return sandboxYaml('box', { main: { command: ['sleep', 'infinity'] }, volumes, volumeMounts });
}

test('two dozen mounts of all kinds are there in one sandbox', { skip }, async () => {
  const document = (kind: string, name: string, rest: object) =>
    `${JSON.stringify({ apiVersion: 'v1', kind, metadata: { name }, ...rest })}\n`;
  const volume = (name: string) =>
    `${JSON.stringify({ apiVersion: 'bulkhead.dev/v1alpha1', kind: 'Volume', metadata: { name }, spec: { capacity: '64Mi' } })}\n`;
  await daemon.write('conf.yaml', document('ConfigMap', 'conf', { data: { greeting: 'hello' } }));
  await daemon.write('keys.yaml', document('Secret', 'keys', { data: { key: 'a2V5' } }));
  for (const name of ['disk1', 'disk2']) await daemon.write(`${name}.yaml`, volume(name));
  await daemon.write('box.yaml', manifest());
  await daemon.ok('wait', 'sandbox', 'box', '--for=condition=Ready', '--timeout', READY_TIMEOUT);
  const { stdout } = await shell(
    'grep -c " /m/" /proc/mounts; cat /m/a/file /m/b/file /m/single /m/inner/inner /m/read/inner /m/key /m/keys/key;' +
      'echo made > /m/a/made && echo disk > /m/part/file && cat /m/disk1/deep/er/file && echo t > /m/t11/file',
  );
  assert.equal(stdout, '24\nhostkeptsingleinnerinnerhellokeydisk\n');
  const { uid, gid, mode } = fs.statSync(at('a/made'));
  assert.deepEqual([uid, gid, mode & 0o7777], [OWNER, OWNER, 0o644]);
});

/** Ways out; each says what the guest does, and what must not have come of it. */
type Way = [name: string, attempt: () => Promise<boolean> | boolean];
const refused = (line: string) => async () => (await shell(line)).code !== 0;
const unseen = (line: string) => async () => {
  const { stdout, stderr } = await shell(line);
  return !`${stdout}${stderr}`.includes(SECRET);
};

const WAYS: Way[] = [
  ['an absolute link out of the directory', unseen('cat /m/a/absolute/secret')],
  ['a relative link out of it', unseen('cat /m/a/relative/secret')],
  ['a link to what lies beside it', unseen('cat /m/a/beside')],
  ['a link through /proc/self/root', unseen('cat /m/a/magic/secret')],
  ['a link that the guest makes', unseen(`ln -s ../secret /m/a/own; cat /m/a/own /m/a/own2`)],
  [
    'a link that the guest makes to the place on the host',
    unseen(`ln -s ${'/var/tmp'} /m/a/tmp; cat /m/a/tmp/*/outside/secret`),
  ],
  ['".." from the directory', unseen('cat /m/a/../secret /m/a/real/../../secret')],
  ['".." after cd', unseen('cd /m/a && cat ../secret ../../secret')],
  ['".." from a subPath', unseen('cd /m/read && cat ../others ../../secret ../file')],
  ['".." from a subPath through a link', unseen('cd /m/inner && cat ../others ../secret')],
  ["the agent's own mount", refused('ls /mnt/shares || ls /mnt/volumes')],
  [
    'the virtiofs mounted once more, which has nothing else, and not as writable',
    async () => {
      const { stdout } = await shell(
        'mkdir /z; mount -t virtiofs bulkhead /z && ls /z; echo x > /z/1/file; cat /z/../secret /z/0/../../secret; umount /z',
      );
      return stdout === '0\n1\n2\n3\n' && fs.readFileSync(at('b/file'), 'utf8') === 'kept';
    },
  ],
  ["another one's file", refused('cat /m/a/others')],
  ["writing another one's file", refused('echo x >> /m/a/others')],
  ['a change of its owner', refused('chown 0 /m/a/others')],
  ['a change of the owner of an own file', refused('chown 1 /m/a/file')],
  ['a change of the mode of a file of others', refused('chmod 777 /m/a/others')],
  ['set-user-ID by chmod', refused('cp /bin/busybox /m/a/s1; chmod 4755 /m/a/s1')],
  ['set-group-ID by chmod', refused('chmod 2755 /m/a/s1')],
  ['set-group-ID on a directory', refused('mkdir /m/a/sd; chmod 2777 /m/a/sd')],
  [
    'set-user-ID that survives cp -p',
    async () => {
      await shell('cp -p /m/a/suid /m/a/s2');
      return !fs.existsSync(at('a/s2')) || (fs.statSync(at('a/s2')).mode & 0o6000) === 0;
    },
  ],
  [
    'set-user-ID of the host for a user of the guest',
    async () => {
      const { stdout } = await daemon.cli('exec', 'box', '--user', '1000', '--', '/m/a/suid', 'id', '-u');
      return stdout.trim() !== '0';
    },
  ],
  ['a character device', refused('mknod /m/a/dev c 1 1')],
  ['a block device', refused('mknod /m/a/disk b 254 0')],
  ['a device node of the host', refused('echo x > /m/a/null')],
  [
    'a FIFO of the host',
    async () => {
      const reader = fs.openSync(at('a/fifo'), fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
      await shell(`(echo ${SECRET} > /m/a/fifo) & sleep 1; kill %1`);
      try {
        return fs.readSync(reader, Buffer.alloc(64)) === 0;
      } finally {
        fs.closeSync(reader);
      }
    },
  ],
  [
    'a socket of the host',
    async () => {
      let met = false;
      const server = createServer(() => {
        met = true;
      }).listen(at('a/socket'));
      await shell('nc local:/m/a/socket </dev/null; nc -U /m/a/socket </dev/null');
      await new Promise((resolve) => server.close(resolve));
      return !met;
    },
  ],
  ['a write to what is read-only', refused('echo x > /m/b/file')],
  ['a new file there', refused('echo x > /m/b/new')],
  ['a removal there', refused('rm -f /m/b/file')],
  [
    'a write after a remount',
    async () => {
      await shell('mount -o remount,rw /m/b; echo x > /m/b/file; echo x > /m/b/new');
      return fs.readFileSync(at('b/file'), 'utf8') === 'kept' && !fs.existsSync(at('b/new'));
    },
  ],
  [
    'a write to a file that is read-only',
    async () => {
      await shell('mount -o remount,rw /m/single; echo x > /m/single');
      return fs.readFileSync(at('single'), 'utf8') === 'single';
    },
  ],
  [
    'the removal of a file that is mounted',
    async () => {
      await shell('rm -f /m/single; mv /m/single /m/moved');
      return fs.readFileSync(at('single'), 'utf8') === 'single';
    },
  ],
  ['a hard link from one directory into another', refused('ln /m/b/file /m/a/linked || ln /m/sub /m/a/l2')],
  [
    'a hard link to a file of others that is then written',
    async () => {
      await shell('ln /m/a/others /m/a/h1; echo x >> /m/a/h1');
      return fs.readFileSync(at('a/others'), 'utf8') === SECRET;
    },
  ],
  [
    'a user of the guest that is not root',
    async () => {
      const { code } = await daemon.cli(
        'exec',
        'box',
        '--user',
        '1000',
        '--',
        'sh',
        '-c',
        'echo x > /m/a/u1',
      );
      return code !== 0 && !fs.existsSync(at('a/u1'));
    },
  ],
  [
    'a name with a newline',
    async () => {
      await shell(
        'touch "$(printf \'/m/a/new\\nline\')"; mkdir "$(printf \'/m/a/..\\n\')"; cat "$(printf \'/m/a/..\\n\')/../secret"',
      );
      return fs.existsSync(at('a/new\nline')) && !fs.existsSync(join(outside, 'new\nline'));
    },
  ],
  [
    'a deep tree climbed up',
    async () => {
      const { stdout } = await shell(
        `cd /m/a; for i in $(seq 100); do mkdir d; cd d; done; for i in $(seq 101); do cd ..; done; cat secret; pwd -P`,
      );
      return stdout.trim() === '/m';
    },
  ],
  [
    'a mount of the host below the directory',
    async () => {
      execFileSync('mount', ['--bind', outside, at('sub/under')]);
      try {
        return !(await shell('cat /m/sub/under/secret')).stdout.includes(SECRET);
      } finally {
        execFileSync('umount', [at('sub/under')]);
      }
    },
  ],
  [
    'a parent that is renamed away under the guest',
    async () => {
      const leaving = shell(
        `cd /m/a/x/y; touch /m/a/here; while [ -e /m/a/here ]; do :; done; cat ../secret ../../secret; ls -a ..`,
      );
      while (!fs.existsSync(at('a/here'))) await new Promise((resolve) => setImmediate(resolve));
      fs.renameSync(at('a/x/y'), join(outside, 'y'));
      fs.rmSync(at('a/here'));
      return !(await leaving).stdout.includes(SECRET);
    },
  ],
  [
    'a directory that becomes a link while the guest reads below it',
    () => swapped('swap', 'cat /m/a/swap/secret'),
  ],
  [
    'a directory that becomes a link while the guest writes below it',
    async () => {
      const closed = await swapped('swap2', 'echo x > /m/a/swap2/written');
      return closed && !fs.existsSync(join(outside, 'written'));
    },
  ],
  [
    'the directory itself replaced by a link',
    async () => {
      fs.renameSync(at('sub'), at('sub-before'));
      fs.symlinkSync(outside, at('sub'));
      try {
        return (
          !(await shell('cat /m/sub/secret; echo x > /m/sub/new')).stdout.includes(SECRET) &&
          !fs.existsSync(join(outside, 'new'))
        );
      } finally {
        fs.rmSync(at('sub'));
        fs.renameSync(at('sub-before'), at('sub'));
      }
    },
  ],
];

/** The host changes a directory into a link to the outside and back, over and over, while the guest uses it. */
async function swapped(name: string, line: string): Promise<boolean> {
  fs.mkdirSync(at('a', name));
  fs.chownSync(at('a', name), OWNER, OWNER);
  fs.symlinkSync(outside, at('a', `${name}-link`));
  const using = shell(`n=0; while [ $n -lt 300 ]; do ${line}; n=$((n+1)); done 2>/dev/null`);
  for (let swap = 0; swap < SWAPS; swap += 1) {
    const [from, to] = [at('a', name), at('a', `${name}-link`)];
    fs.renameSync(from, `${from}-t`);
    fs.renameSync(to, from);
    fs.renameSync(`${from}-t`, to);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return !(await using).stdout.includes(SECRET);
}

test('no way leads out of a directory of the host', { skip }, async (t) => {
  const open: string[] = [];
  for (const [name, attempt] of WAYS) if (!(await attempt())) open.push(name);
  t.diagnostic(`${WAYS.length} ways out tried by the guest, ${WAYS.length - open.length} closed`);
  assert.deepEqual(open, []);
  assert.equal(fs.readFileSync(join(outside, 'secret'), 'utf8'), SECRET);
  assert.deepEqual(fs.readdirSync(outside).sort(), ['secret', 'y']);
});

test('a path that is not allowed, or leads out, stalls the sandbox with the reason', { skip }, async () => {
  for (const [name, path, reason] of [
    ['etc', '/etc', 'HostPathNotAllowed'],
    ['away', at('away'), 'HostPathNotAllowed'],
    ['none', at('nothing'), 'HostPathNotFound'],
  ] as const) {
    await daemon.write(
      `${name}.yaml`,
      sandboxYaml(name, {
        volumes: [{ name: 'v', hostPath: { path } }],
        volumeMounts: [{ name: 'v', mountPath: '/v' }],
      }),
    );
    await until(daemon, name, ({ conditions }) => condition(conditions, 'VolumesReady')?.reason === reason);
    await daemon.remove(`${name}.yaml`);
  }
});

test('the next daemon finds the directories served, and a server that is killed ends its VM with the reason', {
  skip,
}, async () => {
  const { vm } = (await daemon.get('box')).status;
  await daemon.crash();
  await daemon.launch(['--host-path-root', root]);
  await daemon.ok('wait', 'sandbox', 'box', '--for=condition=Ready', '--timeout', READY_TIMEOUT);
  assert.equal((await daemon.get('box')).status.vm?.pid, vm?.pid);
  assert.equal((await shell('echo again > /m/a/again && cat /m/a/again')).stdout, 'again\n');
  if (TEST_DRIVER === 'libkrun') return; // no process beside the VMM
  const supervisor = /^PPid:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${vm?.pid}/status`, 'utf8'))?.[1];
  const server = fs
    .readFileSync(`/proc/${supervisor}/task/${supervisor}/children`, 'utf8')
    .trim()
    .split(' ')
    .find((pid) => pid !== String(vm?.pid));
  assert.ok(server !== undefined, 'there is a server beside the VMM');
  const status = fs.readFileSync(`/proc/${server}/status`, 'utf8');
  assert.match(status, /^NoNewPrivs:\s+1$/m);
  assert.match(status, /^Seccomp:\s+2$/m);
  assert.match(fs.readFileSync(`/proc/${server}/uid_map`, 'utf8'), /^\s*0\s+19\d{8}\s+1\n$/);
  process.kill(Number(server), 'SIGKILL');
  const { lastTermination } = await until(
    daemon,
    'box',
    ({ lastTermination }) => lastTermination !== undefined,
  );
  assert.match(lastTermination?.message ?? '', /process that serves directories of the host/);
});
