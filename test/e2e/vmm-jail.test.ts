// What a VMM that was taken over could still do. libvmm/test/jail_probe.c runs in QEMU's place and tries.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { ExitWatcher } from '../../src/vmm/exit-watcher.ts';
import { loadHostLibrary } from '../../src/vmm/ffi.ts';
import { InheritedFds } from '../../src/vmm/launch-config.ts';
import { launch } from '../../src/vmm/launcher.ts';
import { readExitRecord, readRunningRecord } from '../../src/vmm/records.ts';
import { readLastExit } from '../../src/vmm/vm-process.ts';
import { BUILD_DIR } from './vmm-support.ts';

const UID = 1_900_099_999;
const { ENOENT, EPERM, EACCES, EROFS, ENOSYS } = constants.errno;

let answers: Map<string, number>;
let status: string;
let limitations: string[];

/** Runs the probe in QEMU's place and hands its directory to `look` when it has ended. */
async function probe<T>(argument: string, look: (dir: string) => Promise<T>): Promise<T> {
  const parent = mkdtempSync(join(tmpdir(), 'bulkhead-jail-'));
  const dir = join(parent, 'probe');
  mkdirSync(dir, { mode: 0o700 });
  const host = loadHostLibrary(BUILD_DIR);
  const watcher = new ExitWatcher(host);
  const { tapFd, consoleFd } = new InheritedFds().launcherMade();
  try {
    const launched = await launch(
      { host, watcher, launcherPath: join(BUILD_DIR, 'libvmm/bulkhead-vmm') },
      {
        ...{ id: 'probe', directory: dir, kind: 'software', uid: UID, gid: UID, argv: ['/probe', argument] },
        binds: [{ source: join(BUILD_DIR, 'libvmm/jail-probe'), target: '/probe', executable: true }],
        ...{ vmmCgroups: [], supervisorCgroups: [], vmmFds: 0, tapFd, consoleFd, tapAddress: '10.77.0.1/24' },
        ...{ logBytes: 65536, annotations: '{}', limitations: [] },
      },
      [],
      AbortSignal.timeout(30_000),
    );
    await launched.supervisorExited;
    await launched.vmmExited;
    return await look(dir);
  } finally {
    await watcher.close();
    rmSync(parent, { recursive: true });
  }
}

before(async () => {
  execFileSync('make', ['-C', join(BUILD_DIR, '../libvmm'), '../build/libvmm/jail-probe'], { stdio: 'pipe' });
  await probe('try', async (dir) => {
    assert.equal((await readExitRecord(dir))?.exitCode, 42, 'the probe ran to its end');
    limitations = (await readRunningRecord(dir))?.limitations ?? [];
    const log = readFileSync(join(dir, 'vmm.log'), 'utf8');
    answers = new Map(
      [...log.matchAll(/^([a-z0-9-]+) (\d+)$/gm)].map((match) => [match[1] ?? '', Number(match[2])]),
    );
    status = log.slice(log.indexOf('Name:'));
  });
});

test('a VMM that crashes is told with its signal and its last words', async () => {
  const exit = await probe('crash', (dir) => readLastExit(dir));
  assert.equal(exit?.kind, 'crashed');
  assert.equal(exit.signal, 'SIGSEGV');
  assert.match(exit.message, /SIGSEGV: last words/);
});

function refused(layer: string, names: string[], ...errors: number[]): void {
  test(`${layer} refuses ${names.join(', ')}`, () => {
    for (const name of names) {
      const answer = answers.get(name);
      assert.ok(answer !== undefined && errors.includes(answer), `${name} was answered with ${answer}`);
    }
  });
}

refused(
  'the empty root',
  [
    'read-shadow',
    'read-host-root',
    'read-state',
    'read-sysfs',
    'read-proc-sys',
    'read-kcore',
    'climb',
    'open-tun',
    'open-kvm',
  ],
  ENOENT,
  EACCES, // Landlock answers first where it knows the parent
);
refused('the read-only root or Landlock', ['create-file', 'create-in-lib'], EROFS, EACCES, ENOENT);
refused(
  'the seccomp allow-list',
  [
    ...['mkdir', 'mknod', 'setuid-root', 'setgroups', 'chroot', 'mount', 'umount', 'pivot-root', 'open-tree'],
    ...[
      'unshare-user',
      'unshare-net',
      'setns',
      'clone-process',
      'fork',
      'raise-limit',
      'keep-alive',
      'sethostname',
    ],
    ...[
      'ptrace',
      'process-vm-readv',
      'bpf',
      'perf',
      'keyctl',
      'add-key',
      'io-uring',
      'userfaultfd',
      'init-module',
    ],
    ...['kexec', 'reboot', 'iopl', 'settime', 'swapon', 'personality', 'name-to-handle', 'inject-input'],
    ...[
      'unlock-directory',
      'socket-inet',
      'socket-raw',
      'socket-packet',
      'socket-netlink',
      'socket-vsock',
      'socket-alg',
    ],
    ...['kill-others', 'kill-all', 'renice', 'scheduler'],
  ],
  EPERM,
);
refused('the seccomp allow-list, so that libc falls back,', ['clone3'], ENOSYS);

test('it runs as its own user without capabilities, under seccomp, and cannot gain any', () => {
  const field = (name: string) => new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1];
  assert.equal(field('Uid'), `${UID}\t${UID}\t${UID}\t${UID}`);
  assert.equal(field('Gid'), `${UID}\t${UID}\t${UID}\t${UID}`);
  assert.equal(field('Groups')?.trim(), '');
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
    assert.match(field(set) ?? '', /^0+$/);
  assert.equal(field('NoNewPrivs'), '1');
  assert.equal(field('Seccomp'), '2');
  assert.equal(field('NSpid')?.trim(), '1', 'it sees itself as the first of its pid namespace');
});

test('nothing is lacking that this kernel has', () => {
  for (const sentence of limitations) assert.match(sentence, /Landlock|cgroup namespaces/);
});
