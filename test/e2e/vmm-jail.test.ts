// What a VMM that was taken over could still do. libvmm/test/jail_probe.c runs in the VMM's place and tries; each attempt
// has to be refused by the layer that is named here. No KVM is needed, and the host's is not opened.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chownSync,
  closeSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ExitWatcher } from '../../src/vmm/exit-watcher.ts';
import { loadHostLibrary } from '../../src/vmm/ffi.ts';
import { type BindMount, InheritedFds, type LaunchConfig } from '../../src/vmm/launch-config.ts';
import { launch } from '../../src/vmm/launcher.ts';
import { type RunningRecord, readExitRecord, readRunningRecord } from '../../src/vmm/records.ts';
import { readLastExit } from '../../src/vmm/vm-process.ts';
import { BUILD_DIR } from './vmm-support.ts';

type Kind = LaunchConfig['kind'];
const KINDS: readonly Kind[] = ['software', 'libkrun'];

const UID = 1_900_099_999;
const UPPER_BYTES = 1024 * 1024;
const { ENOENT, EPERM, EACCES, EROFS, ENOSYS, ENOSPC, EMFILE, EAGAIN, EFBIG } = constants.errno;

/** Attempts by the layer that refuses them, with the errors that this layer gives. */
interface Layer {
  name: string;
  errors: readonly number[];
  attempts: readonly string[];
}

const ABSENT: Layer = {
  name: 'the root, which holds nothing of the host',
  errors: [ENOENT],
  attempts: [
    ...[
      'read-shadow',
      'read-host-root',
      'read-state',
      'read-sysfs',
      'read-cgroups',
      'climb',
      'climb-by-proc',
    ],
    ...['climb-by-cwd', 'docker-socket', 'open-mem', 'open-disk', 'open-vhost', 'open-tty', 'open-ptmx'],
  ],
};
const OWN_PROC: Layer = {
  name: 'a /proc of its own processes alone',
  errors: [ENOENT],
  attempts: ['read-proc-sys', 'read-kcore', 'read-kallsyms', 'read-supervisor'],
};
const READ_ONLY: Layer = {
  name: 'a read-only mount, or Landlock before it,',
  errors: [EROFS, EACCES],
  attempts: [
    ...[
      'create-file',
      'create-device-file',
      'write-image',
      'truncate-image',
      'write-program',
      'write-oom-score',
    ],
    'write-uid-map',
  ],
};
const MODES: Layer = {
  name: 'the mode of an open file',
  errors: [EACCES],
  attempts: ['reopen-lock', 'mmap-image-shared'],
};
const ALLOW_LIST: Layer = {
  name: 'the seccomp allow-list',
  errors: [EPERM],
  attempts: [
    // names in file systems
    ...['mkdir', 'mknod', 'fifo-in-agent', 'mkdir-in-agent', 'symlink-in-agent', 'link', 'rename-agent'],
    ...[
      'unlink-agent',
      'chmod',
      'chown',
      'touch',
      'truncate',
      'setxattr',
      'name-to-handle',
      'open-by-handle',
    ],
    ...['openat2', 'inotify', 'fanotify', 'unlock-directory'],
    // mounts and namespaces
    ...['chroot', 'pivot-root', 'mount', 'umount', 'open-tree', 'move-mount', 'fsopen', 'mount-setattr'],
    ...['unshare-user', 'unshare-mount', 'unshare-net', 'unshare-pid', 'setns'],
    // processes
    ...['clone-process', 'clone-user-namespace', 'clone-thread-in-namespace', 'fork', 'execveat', 'ptrace'],
    ...['ptrace-attach', 'process-vm-readv', 'process-vm-writev', 'process-madvise', 'kcmp', 'pidfd-open'],
    ...[
      'pidfd-getfd',
      'pidfd-signal',
      'kill-others',
      'kill-all',
      'kill-group',
      'tkill',
      'queue-signal',
      'setsid',
    ],
    // rights and limits
    ...[
      'setuid-root',
      'setresuid',
      'setgid',
      'setfsuid',
      'setgroups',
      'capset',
      'raise-limit',
      'raise-limit-new',
    ],
    ...['renice', 'io-priority', 'scheduler', 'affinity', 'lock-memory', 'keep-alive', 'hide-from-proc'],
    ...['allow-ptrace', 'ambient-capability', 'rewrite-command-line', 'personality'],
    // kernel interfaces, and the machine itself
    ...[
      'bpf',
      'perf',
      'keyctl',
      'add-key',
      'request-key',
      'io-uring',
      'io-uring-enter',
      'aio',
      'userfaultfd',
    ],
    ...['vmsplice', 'splice', 'move-pages', 'mbind', 'remap-file-pages', 'shared-memory', 'message-queue'],
    ...['posix-queue', 'semaphore', 'init-module', 'finit-module', 'delete-module', 'kexec', 'reboot'],
    ...[
      'kernel-log',
      'swapon',
      'process-accounting',
      'quotactl',
      'settime',
      'adjtime',
      'sethostname',
      'hang-up',
    ],
    ...(process.arch === 'x64' ? ['iopl', 'ioperm', 'modify-ldt', 'uselib'] : []),
    // sockets
    ...['socket-inet', 'socket-inet6', 'socket-raw', 'socket-packet', 'socket-netlink', 'socket-vsock'],
    ...['socket-alg', 'socket-bluetooth', 'connect-anywhere'],
    // requests on open files
    ...['inject-input', 'interface-flags', 'freeze-file-system', 'file-flags', 'clone-range', 'tap-persist'],
    ...['tap-owner', 'kvm-device', 'kvm-dirty-log', 'kvm-nested-state'],
  ],
};
const NO_CLONE3: Layer = {
  name: 'the seccomp allow-list, so that libc falls back to clone,',
  errors: [ENOSYS],
  attempts: ['clone3'],
};
const LIMITS: Layer[] = [
  { name: 'the limit of descriptors', errors: [EMFILE], attempts: ['flood-of-descriptors'] },
  { name: 'the limit of threads', errors: [EAGAIN], attempts: ['flood-of-threads'] },
];

const LAYERS: Record<Kind, readonly Layer[]> = {
  software: [
    { ...ABSENT, attempts: [...ABSENT.attempts, 'open-kvm', 'open-tun', 'open-agent-directory'] },
    ...[READ_ONLY, OWN_PROC, MODES, ALLOW_LIST, NO_CLONE3, ...LIMITS],
  ],
  libkrun: [
    ...[ABSENT, OWN_PROC, READ_ONLY, MODES, NO_CLONE3, ...LIMITS],
    {
      ...ALLOW_LIST,
      attempts: [
        ...ALLOW_LIST.attempts,
        ...[
          'socket-pair',
          'socket-datagram',
          'memory-file',
          'pass-descriptors',
          'list-directory',
          'shrink-upper',
        ],
      ],
    },
    { name: 'the lack of CAP_NET_ADMIN', errors: [EPERM], attempts: ['make-tap'] },
    {
      name: 'a file system of two inodes, or Landlock before it,',
      errors: [ENOSPC, EACCES],
      attempts: ['second-socket', 'file-beside-socket'],
    },
    { name: 'the read-only root or Landlock', errors: [EROFS, EACCES], attempts: ['socket-elsewhere'] },
    { name: 'the limit of file sizes', errors: [EFBIG], attempts: ['grow-upper', 'grow-upper-far'] },
    { name: 'the mount option noexec', errors: [EPERM], attempts: ['map-upper-executable'] },
    {
      name: "bulkhead-krun's own lock-down",
      errors: [EPERM],
      attempts: ['make-memory-executable', 'map-executable', 'exec'],
    },
  ],
};

/** What kind libkrun has to be able to do, so that the refusals above prove something. */
const ALLOWED: Record<Kind, readonly string[]> = {
  software: [],
  libkrun: [
    ...['allowed-open-tun', 'allowed-open-kvm', 'allowed-open-upper', 'allowed-write-upper'],
    ...['allowed-agent-socket', 'allowed-own-tap', 'allowed-memory'],
  ],
};

interface Tried {
  answers: Map<string, number>;
  /** /proc/self/status. */
  status: string;
  limitations: readonly string[];
}

let parent: string;
before(() => {
  execFileSync('make', ['-C', join(BUILD_DIR, '../libvmm'), '../build/libvmm/jail-probe'], { stdio: 'pipe' });
  parent = mkdtempSync(join(tmpdir(), 'bulkhead-jail-'));
});
after(() => rmSync(parent, { recursive: true }));

function binds(kind: Kind, dir: string): BindMount[] {
  writeFileSync(join(dir, 'image'), Buffer.alloc(4096), { mode: 0o644 });
  const always = [
    { source: join(BUILD_DIR, 'libvmm/jail-probe'), target: '/probe', executable: true },
    { source: join(dir, 'image'), target: '/image' },
  ];
  if (kind === 'software') return always;
  const upper = join(dir, 'upper');
  writeFileSync(upper, '', { mode: 0o600 });
  truncateSync(upper, UPPER_BYTES);
  chownSync(upper, UID, UID);
  return [
    ...always,
    { source: upper, target: '/upper', writable: true },
    { source: '/dev/net/tun', target: '/dev/net/tun', device: true },
    // Any device will do: requests on it are refused before it sees them.
    { source: '/dev/zero', target: '/dev/kvm', device: true },
  ];
}

/**
 * Runs the probe in a VMM's place and hands its directory to `look` when it has ended. `meanwhile` sees it run; one that
 * waits has to be ended there.
 */
async function probe<T>(
  kind: Kind,
  task: string,
  look: (dir: string) => Promise<T>,
  meanwhile?: (record: RunningRecord) => void,
): Promise<T> {
  const files = mkdtempSync(join(parent, 'files-'));
  const dir = mkdtempSync(join(parent, 'vm-'));
  const host = loadHostLibrary(BUILD_DIR);
  const watcher = new ExitWatcher(host);
  const { tapFd, consoleFd } = new InheritedFds().launcherMade();
  try {
    const launched = await launch(
      { host, watcher, launcherPath: join(BUILD_DIR, 'libvmm/bulkhead-vmm') },
      {
        ...{ id: 'probe', directory: dir, kind, uid: UID, gid: UID, argv: ['/probe', task, kind] },
        ...{ binds: binds(kind, files), vmmCgroups: [], supervisorCgroups: [], vmmFds: 0, consoleFd },
        ...(kind === 'software' ? { tapFd } : {}),
        ...{ tapAddress: '10.77.0.1/24', logBytes: 65536, annotations: '{}', limitations: [] },
      },
      [],
      AbortSignal.timeout(30_000),
    );
    meanwhile?.(launched.record);
    await launched.supervisorExited;
    await launched.vmmExited;
    return await look(dir);
  } finally {
    await watcher.close();
  }
}

async function tryAll(kind: Kind): Promise<Tried> {
  return probe(kind, 'try', async (dir) => {
    const log = readFileSync(join(dir, 'vmm.log'), 'utf8');
    assert.equal((await readExitRecord(dir))?.exitCode, 42, `the probe ran to its end: ${log.slice(-500)}`);
    const lines = [...log.matchAll(/^([a-z0-9-]+) (\d+)$/gm)];
    return {
      answers: new Map(lines.map((match) => [match[1] ?? '', Number(match[2])])),
      status: log.slice(log.indexOf('Name:')),
      limitations: (await readRunningRecord(dir))?.limitations ?? [],
    };
  });
}

for (const kind of KINDS) {
  describe(`a VMM of kind ${kind} that was taken over`, () => {
    let tried: Tried;
    before(async () => {
      tried = await tryAll(kind);
    });

    for (const layer of LAYERS[kind])
      test(`${layer.name} refuses ${layer.attempts.join(', ')}`, () => {
        for (const attempt of layer.attempts) {
          const answer = tried.answers.get(attempt);
          assert.ok(answer !== undefined && layer.errors.includes(answer), `${attempt}: ${answer}`);
        }
      });

    test('no attempt goes unjudged, and what its work needs is allowed', () => {
      const judged = LAYERS[kind].flatMap((layer) => layer.attempts);
      assert.deepEqual([...tried.answers.keys()].toSorted(), [...judged, ...ALLOWED[kind]].toSorted());
      for (const name of ALLOWED[kind]) assert.equal(tried.answers.get(name), 0, name);
    });

    test('its supervisor may only signal, and that under an allow-list of its own', async () => {
      let status = '';
      const record = await probe(kind, 'wait', readExitRecord, ({ supervisor }) => {
        status = readFileSync(`/proc/${supervisor.pid}/status`, 'utf8');
        process.kill(supervisor.pid, 'SIGTERM');
      });
      assert.match(status, /^CapEff:\t0000000000000020$/m, 'CAP_KILL alone');
      assert.match(status, /^CapBnd:\t0000000000000020$/m);
      assert.match(status, /^Seccomp:\t2$/m);
      assert.equal(record?.asked, true, 'and it still ends its VMM and writes how');
      assert.equal(record.signal, 9);
    });

    test('it runs as its own user without capabilities, under seccomp, and cannot gain any', () => {
      const field = (name: string) => new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(tried.status)?.[1];
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
      for (const sentence of tried.limitations) assert.match(sentence, /Landlock|cgroup namespaces/);
    });

    test('Landlock, where this kernel has it, refuses what the file system alone would not', (t) => {
      if (tried.limitations.some((sentence) => sentence.includes('no Landlock')))
        return t.skip('this kernel has no Landlock');
      if (kind === 'software') return t.skip('its jail has no file system that it may write');
      assert.equal(tried.answers.get('file-beside-socket'), EACCES, 'ENOSPC would come after it');
    });

    for (const abi of process.arch === 'x64' ? ['x32', 'i386'] : [])
      test(`a call of the ABI ${abi} kills it`, async () => {
        const exit = await probe(kind, abi, readLastExit);
        assert.equal(exit?.kind, 'crashed');
        assert.equal(exit.signal, 'SIGSYS');
      });

    test('when it crashes, its signal and its last words are told', async () => {
      const exit = await probe(kind, 'crash', readLastExit);
      assert.equal(exit?.kind, 'crashed');
      assert.equal(exit.signal, 'SIGSEGV');
      assert.match(exit.message, /SIGSEGV: last words/);
    });
  });
}

/** What a file server may do and a VMM may not, none of which leads anywhere. */
const OF_A_FILE_SERVER = [
  'read-proc-sys', // it reads a limit there before it starts
  'read-kallsyms', // with every address 0, as for any user
  'chroot', // into what it serves; there is nothing else in its root
  'setresuid', // to the one user of its namespace, who it is
];

test('a file server that was taken over has the directories it serves, and nothing else', async () => {
  const dir = mkdtempSync(join(parent, 'vm-'));
  const shared = mkdtempSync(join(parent, 'shared-'));
  chownSync(shared, UID + 1, UID + 1);
  const host = loadHostLibrary(BUILD_DIR);
  const watcher = new ExitWatcher(host);
  const { tapFd, consoleFd, serverFd } = new InheritedFds().launcherMade();
  const share = host.openDirectory(shared);
  try {
    const binds = [{ source: join(BUILD_DIR, 'libvmm/jail-probe'), target: '/probe', executable: true }];
    const launched = await launch(
      { host, watcher, launcherPath: join(BUILD_DIR, 'libvmm/bulkhead-vmm') },
      {
        ...{
          id: 'probe',
          directory: dir,
          kind: 'software',
          uid: UID,
          gid: UID,
          argv: ['/probe', 'wait'],
          binds,
        },
        ...{ vmmCgroups: [], supervisorCgroups: [], vmmFds: 0, consoleFd, tapFd },
        ...{ tapAddress: '10.77.0.1/24', logBytes: 65536, annotations: '{}', limitations: [] },
        shares: [{ readOnly: false }],
        server: { argv: ['/probe', 'try', 'software'], binds, fd: serverFd },
      },
      [share],
      AbortSignal.timeout(30_000),
    );
    // Its VMM waits for ever, so the supervisor ends it, after a grace, when the server is gone.
    await launched.supervisorExited;
    const log = readFileSync(join(dir, 'vmm.log'), 'utf8');
    assert.equal((await readExitRecord(dir))?.fileServerLost, true, log);
    const answers = [...log.matchAll(/^([a-z0-9-]+) (\d+)$/gm)];
    const done = answers.flatMap(([, name = '', error]) => (error === '0' ? [name] : []));
    assert.ok(answers.length > 100, log);
    assert.deepEqual(
      done.filter((name) => !name.startsWith('allowed-')),
      OF_A_FILE_SERVER,
    );
    assert.deepEqual(readdirSync(shared), []);
  } finally {
    closeSync(share);
    await watcher.close();
  }
});
