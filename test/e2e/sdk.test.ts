// The SDK against a real daemon and real VMs, as a program uses it.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  allSandboxMetrics,
  CommandError,
  CommandLostError,
  configure,
  DaemonUnavailableError,
  type ExecEvent,
  ExecEventType,
  ExecTimeoutError,
  FileError,
  ImageError,
  InvalidConfigError,
  isInstalled,
  Mount,
  NotFoundError,
  Patch,
  Sandbox,
  SandboxNotRunningError,
  SandboxStillRunningError,
  Volume,
} from '../../src/sdk/index.ts';
import { BUILTIN_IMAGE, TestDaemon } from './daemon-harness.ts';

const PROJECT = join(import.meta.dirname, '..', '..');
const NODE = join(PROJECT, 'node_modules', '.bin', 'node');
const SDK = join(PROJECT, 'src', 'sdk', 'index.ts');
const SMALL = { image: BUILTIN_IMAGE, memoryMib: 128, diskMib: 256 };

/** Of the file that shows whether memory is bounded: far more than may be taken for it. */
const LARGE_MIB = process.env.BULKHEAD_SOAK ? 1024 : 96;
const LARGE = { timeout: 600_000 };
/** What a transfer may take in each process: its windows, and garbage that is not collected yet. */
const STREAMING_MIB = 64;

let daemon: TestDaemon;
let dir: string;
let box: Sandbox;

before(async () => {
  daemon = await TestDaemon.start();
  dir = await mkdtemp(join(tmpdir(), 'bulkhead-sdk-'));
  configure({ socketPath: daemon.socket });
  box = await Sandbox.create({
    ...{
      ...SMALL,
      diskMib: 96,
      name: 'shared',
      env: { MODE: 'test' },
      workdir: '/work',
      labels: { team: 'sdk' },
    },
    scripts: { hello: '#!/bin/sh\necho "hello $1"\n' },
  });
});

after(async () => {
  await box?.removePersisted();
  await daemon?.[Symbol.asyncDispose]();
  if (dir !== undefined) await rm(dir, { recursive: true, force: true });
});

async function eventsOf(handle: AsyncIterable<ExecEvent>): Promise<ExecEvent[]> {
  const events: ExecEvent[] = [];
  for await (const event of handle) events.push(event);
  return events;
}

/** Runs a program that uses the SDK in a process of its own. */
function program(source: string) {
  const head = `import * as sdk from ${JSON.stringify(SDK)};\nsdk.configure(${JSON.stringify({ socketPath: daemon.socket })});\n`;
  return spawn(NODE, ['--input-type=module', '-e', head + source], { stdio: ['ignore', 'pipe', 'inherit'] });
}

async function outputOf(child: ReturnType<typeof program>): Promise<string> {
  const pieces: Buffer[] = [];
  child.stdout?.on('data', (piece: Buffer) => pieces.push(piece));
  const [code] = (await once(child, 'close')) as [number];
  assert.equal(code, 0, Buffer.concat(pieces).toString());
  return Buffer.concat(pieces).toString();
}

/** The most memory that a process had since `resetHighestMemory`, in MiB. */
async function highestMemory(pid: number): Promise<number> {
  const [, kib] = /^VmHWM:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kib) / 1024;
}

async function resetHighestMemory(pid: number): Promise<number> {
  await writeFile(`/proc/${pid}/clear_refs`, '5');
  return highestMemory(pid);
}

describe('commands', () => {
  test('output, errors and code come back; a code other than 0 is no failure', async () => {
    const output = await box.exec('sh', ['-c', 'echo out; echo err >&2; exit 3']);
    assert.deepEqual(
      [output.code, output.success, output.stdout(), output.stderr()],
      [3, false, 'out\n', 'err\n'],
    );
    assert.deepEqual(output.status(), { code: 3, success: false });
    assert.deepEqual(
      [output.stdoutBytes(), output.stderrBytes()],
      [Buffer.from('out\n'), Buffer.from('err\n')],
    );
    assert.ok((await box.exec('true')).success);
    const killed = await box.shell('kill -9 $$');
    assert.deepEqual([killed.code, killed.signal], [137, 'SIGKILL']);
  });

  test('environment, directory, user, input and the shell are as asked', async () => {
    assert.equal((await box.shell('echo $MODE; pwd')).stdout(), 'test\n/work\n');
    const output = await box.execWithConfig({
      ...{ cmd: 'sh', args: ['-c', 'echo $X; pwd; id -u; cat'], cwd: '/tmp', user: '12', env: { X: 'a b' } },
      stdin: Buffer.from('input'),
    });
    assert.equal(output.stdout(), 'a b\n/tmp\n12\ninput');
    assert.equal((await box.exec('hello', ['you'])).stdout(), 'hello you\n');
  });

  test('a command that is not there, one that takes too long, and one that is given up', async () => {
    await assert.rejects(box.exec('no-such-command'), (error) => {
      assert.ok(error instanceof CommandError);
      return error.code === 'COMMAND_NOT_FOUND' && error.hint !== '';
    });
    await assert.rejects(box.exec('sleep', ['600'], { timeoutMs: 500 }), ExecTimeoutError);
    const stop = new AbortController();
    const running = box.exec('sleep', ['600'], { signal: stop.signal });
    stop.abort(new Error('no longer wanted'));
    await assert.rejects(running, /no longer wanted/);
    await assert.rejects(box.exec('cat', ['/dev/zero'], { maxOutputBytes: 1000 }), { code: 'TOO_LARGE' });
  });

  test('events come in order, with the process id first and the code last', async () => {
    const events = await eventsOf(await box.shellStream('echo one; exit 7'));
    const [first, ...rest] = events;
    assert.ok(first?.eventType === 'started' && first.pid > 1);
    assert.deepEqual(rest.at(-1), { eventType: 'exited', code: 7 });
    assert.equal(rest.map((event) => ('data' in event ? event.data.toString() : '')).join(''), 'one\n');
  });

  test('input is written piece by piece, signals and kill arrive', async () => {
    const cat = await box.execStream('cat', [], { stdin: 'pipe' });
    const sink = cat.takeStdin();
    assert.equal(cat.takeStdin(), null);
    await sink?.write('a');
    await sink?.write(Buffer.from('b'));
    await sink?.close();
    assert.equal((await cat.collect()).stdout(), 'ab');
    const trap = await box.shellStream('trap "exit 9" TERM; echo ready; while :; do sleep 0.05; done');
    for await (const event of trap) {
      if (event.eventType === 'stdout') await trap.signal(15);
      if (event.eventType === 'exited') assert.equal(event.code, 9);
    }
    const sleep = await box.execStream('sleep', ['600']);
    await sleep.kill();
    assert.deepEqual(await sleep.wait(), { code: 137, success: false });
  });

  test('a slow reader holds its own command back and no other', async () => {
    const slow = await box.execStream('cat', ['/dev/zero']);
    for (let piece = 0; piece < 4; piece++) await slow.recv();
    assert.equal((await box.exec('echo', ['quick'])).stdout(), 'quick\n');
    await slow[Symbol.asyncDispose]();
  });

  test('200 commands at once all come through, beside one whose reader does not read', async () => {
    const slow = await box.execStream('cat', ['/dev/zero']);
    for (let piece = 0; piece < 4; piece++) await slow.recv();
    const outputs = await Promise.all(Array.from({ length: 200 }, (_, i) => box.exec('echo', [String(i)])));
    assert.deepEqual(
      outputs.map((output) => output.stdout()),
      Array.from({ length: 200 }, (_, i) => `${i}\n`),
    );
    await slow[Symbol.asyncDispose]();
  });

  test('web streams carry events and input', async () => {
    const sort = await box.execStream('sort', [], { stdin: 'pipe' });
    const writer = sort.takeStdin()?.toWeb().getWriter();
    await writer?.write(Buffer.from('b\na\n'));
    await writer?.close();
    const types: string[] = [];
    for await (const event of sort.toWeb()) {
      types.push(event.eventType);
      if (event.eventType === 'stdout') assert.equal(event.data.toString(), 'a\nb\n');
    }
    assert.deepEqual(types, [ExecEventType.Started, ExecEventType.Stdout, ExecEventType.Exited]);
  });
});

describe('a terminal', {
  skip: spawnSync('script', ['--version']).status === 0 ? false : 'needs script(1)',
}, () => {
  /** Runs a program on a terminal of its own. */
  async function onTerminal(name: string, source: string) {
    const file = join(dir, `${name}.ts`);
    const head = `import * as sdk from ${JSON.stringify(SDK)};
      sdk.configure(${JSON.stringify({ socketPath: daemon.socket })});
      const box = await (await sdk.Sandbox.get('shared')).connect();\n`;
    await writeFile(file, head + source);
    const command = `${NODE} --disable-warning=ExperimentalWarning ${file}`;
    const child = spawn('script', ['-qec', command, '/dev/null'], { env: { ...process.env, TERM: 'vt100' } });
    let output = '';
    const listeners = new Set<() => void>();
    child.stdout.on('data', (piece: Buffer) => {
      output += piece.toString();
      for (const listener of listeners) listener();
    });
    const ended = once(child, 'close');
    const printed = (pattern: RegExp) =>
      new Promise<RegExpExecArray>((resolve, reject) => {
        const look = () => {
          const found = pattern.exec(output);
          if (found !== null) resolve(found);
        };
        listeners.add(look);
        void ended.then(() => reject(new Error(`it ended with:\n${output}`)));
        look();
      });
    return { type: (text: string) => child.stdin.write(text), printed };
  }

  test('attach passes keys, type and size on, and ends with the code; attachShell is the shell', async () => {
    const attached = await onTerminal(
      'attach',
      `console.log('code ' + (await box.attach('sh', ['-c', 'echo "ready $TERM $X"; read x; echo "got <$x>"; exit 6'], { env: { X: 'y' } })));
       console.log('shell ' + (await box.attachShell({ cwd: '/tmp' })));`,
    );
    await attached.printed(/ready vt100 y/);
    attached.type('a word\r');
    await attached.printed(/got <a word>/);
    await attached.printed(/code 6/);
    attached.type('pwd; exit 7\r');
    await attached.printed(/^\/tmp\r$/m);
    await attached.printed(/shell 7/);
  });

  test('the detach keys leave the command, and tell how to go on with it', async () => {
    const attached = await onTerminal(
      'detach',
      `const code = await box.attachWithConfig({
         cmd: 'sh',
         args: ['-c', 'echo ready; read x; echo "late <$x>"; exit 8'],
         detachKeys: 'ctrl-a,d',
         onDetach: (command) => console.log(JSON.stringify(command)),
       });
       console.log('left ' + code);`,
    );
    await attached.printed(/ready/);
    attached.type('\u0001d');
    const [json] = await attached.printed(/\{"id".*\}/);
    await attached.printed(/left 0/);
    const { id, stdoutOffset } = JSON.parse(json) as { id: string; stdoutOffset: number };
    const handle = await box.resumeExec(id, { stdoutOffset });
    await handle.takeStdin()?.write('word\r');
    const output = await handle.collect();
    assert.match(output.stdout(), /late <word>/);
    assert.equal(output.code, 8);
  });
});

describe('files', () => {
  test('all that can be done to them', async () => {
    const fs = box.fs();
    await fs.mkdir('/f/deep/er');
    await fs.write('/f/a.txt', 'hello', { mode: 0o600 });
    assert.equal(await fs.readString('/f/a.txt'), 'hello');
    assert.deepEqual(await fs.read('/f/a.txt', { offset: 1, length: 3 }), Buffer.from('ell'));
    await fs.copy('/f/a.txt', '/f/b.txt');
    await fs.rename('/f/b.txt', '/f/c.txt');
    assert.deepEqual(
      (await fs.list('/f')).map(({ path, kind, size }) => [path, kind, size > 0]),
      [
        ['/f/a.txt', 'file', true],
        ['/f/c.txt', 'file', true],
        ['/f/deep', 'directory', true],
      ],
    );
    const { kind, size, mode, readonly, modified } = await fs.stat('/f/a.txt');
    assert.deepEqual([kind, size, mode, readonly], ['file', 5, 0o600, false]);
    assert.ok(Math.abs(modified.getTime() - Date.now()) < 300_000);
    assert.deepEqual([await fs.exists('/f/c.txt'), await fs.exists('/f/none')], [true, false]);
    await fs.remove('/f/c.txt');
    await assert.rejects(fs.remove('/f/deep'), InvalidConfigError);
    await fs.removeDir('/f');
    await assert.rejects(fs.read('/f/a.txt'), NotFoundError);
    await assert.rejects(fs.write('/proc/none', 'x'), FileError);
  });

  test('many files go in and out in few round trips', async () => {
    const fs = box.fs();
    const made = Array.from({ length: 300 }, (_, index) => ({
      path: `/lot/${index % 3}/${index}`,
      data: `${index}`,
    }));
    await assert.rejects(fs.writeMany(made), NotFoundError);
    await fs.writeMany(made, { parents: true, user: '12:13' });
    await fs.writeMany([{ path: '/lot/large', data: Buffer.alloc(3 * 1024 * 1024, 'x'), mode: 0o700 }]);
    const paths = ['/lot/large', ...made.map(({ path }) => path)];
    const [large, ...rest] = await fs.readMany(paths);
    assert.equal(large?.length, 3 * 1024 * 1024);
    assert.deepEqual(
      rest.map((each) => each.toString()),
      made.map(({ data }) => data),
    );
    assert.equal(
      (await box.exec('stat', ['-c', '%u:%g %a', '/lot/1/1', '/lot/large'])).stdout(),
      '12:13 644\n0:0 700\n',
    );
    await assert.rejects(fs.readMany(['/lot/large', '/lot/none']), NotFoundError);
  });

  test('a file larger than the memory that anybody may take goes in and out unchanged', LARGE, async () => {
    await using large = await Sandbox.create({ ...SMALL, diskMib: 2 * LARGE_MIB });
    const highest = await resetHighestMemory(daemon.pid);
    // A program of its own: what it takes is not this test's.
    const child = program(`
      import { createHash, randomBytes } from 'node:crypto';
      const fs = (await (await sdk.Sandbox.get('${large.name}')).connect()).fs();
      const sent = createHash('sha256');
      const before = process.resourceUsage().maxRSS;
      const sink = fs.writeStream('/large');
      for (let piece = 0; piece < ${LARGE_MIB}; piece++) {
        const data = randomBytes(1024 * 1024);
        sent.update(data);
        await sink.write(data);
      }
      await sink.close();
      const received = createHash('sha256');
      for await (const piece of await fs.readStream('/large')) received.update(piece);
      const grownMib = (process.resourceUsage().maxRSS - before) / 1024;
      console.log(JSON.stringify({ isSame: sent.digest('hex') === received.digest('hex'), grownMib }));
    `);
    const { isSame, grownMib } = JSON.parse(await outputOf(child)) as { isSame: boolean; grownMib: number };
    assert.ok(isSame);
    assert.ok(grownMib < STREAMING_MIB, `the program took ${grownMib} MiB more`);
    const daemonMib = (await highestMemory(daemon.pid)) - highest;
    assert.ok(daemonMib < STREAMING_MIB, `the daemon took ${daemonMib} MiB more`);
  });

  test('one that is given up leaves what was there', async () => {
    const fs = box.fs();
    await fs.write('/kept', 'old');
    const broken = fs.writeStream('/kept');
    await broken.write(Buffer.alloc(2 * 1024 * 1024));
    await broken.abort();
    assert.equal(await fs.readString('/kept'), 'old');
  });

  test('a disk that is full is a FileError with the guest’s words', async () => {
    const zeros = async function* () {
      const piece = Buffer.alloc(1024 * 1024);
      for (let count = 0; count < 1024; count++) yield piece;
    };
    await assert.rejects(box.fs().write('/full', zeros()), (error) => {
      assert.ok(error instanceof FileError, String(error));
      return /No space left/.test(error.message);
    });
    assert.equal(await box.fs().exists('/full'), false);
  });

  test('trees are copied both ways; links and odd names stay what they are', async () => {
    const source = join(dir, 'tree');
    await mkdir(join(source, 'sub'), { recursive: true });
    await writeFile(join(source, 'sub', 'run.sh'), '#!/bin/sh\necho ran\n', { mode: 0o755 });
    await writeFile(join(source, 'odd \n name'), 'odd');
    await symlink('sub/run.sh', join(source, 'inward'));
    await box.fs().mkdir('/in');
    assert.equal(await box.fs().copyFromHost(source, '/in'), '/in/tree');
    assert.equal((await box.exec('/in/tree/sub/run.sh')).stdout(), 'ran\n');
    assert.equal((await box.exec('readlink', ['/in/tree/inward'])).stdout(), 'sub/run.sh\n');
    await box.shell(
      'ln -s /etc/passwd /in/tree/link; mkfifo /in/tree/pipe; mknod /in/tree/zero c 1 5; ln -s / /in/tree/root',
    );
    const skipped: string[] = [];
    const target = await box
      .fs()
      .copyToHost('/in/tree', join(dir, 'out'), { onSkipped: (path) => skipped.push(path) });
    assert.equal(target, join(dir, 'out'));
    assert.equal(await readFile(join(target, 'odd \n name'), 'utf8'), 'odd');
    assert.equal(await readlink(join(target, 'link')), '/etc/passwd');
    assert.equal(await readlink(join(target, 'root')), '/');
    assert.deepEqual(skipped.toSorted(), ['/in/tree/pipe', '/in/tree/zero']);
    assert.deepEqual(
      (await readdir(dir)).filter((name) => name.startsWith('.')),
      [],
    );
  });

  test('what patches say is there when the sandbox is: texts, links, and copies of files and trees of the host', async () => {
    const source = join(dir, 'patched');
    await mkdir(join(source, 'sub'), { recursive: true });
    await writeFile(join(source, 'sub', 'file'), 'of a tree');
    await writeFile(join(source, 'tool'), '#!/bin/sh\necho tool ran\n');
    await using sandbox = await Sandbox.create({
      ...SMALL,
      patches: [
        Patch.text('/etc/greeting', 'hello'),
        Patch.symlink('/etc/greeting', '/etc/link'),
        Patch.copyFile(join(source, 'tool'), '/opt/bin/tool', { mode: 0o755 }),
        Patch.copyDir(source, '/opt/tree'),
      ],
    });
    const fs = sandbox.fs();
    assert.equal(await fs.readString('/etc/link'), 'hello');
    assert.equal((await sandbox.exec('/opt/bin/tool')).stdout(), 'tool ran\n');
    assert.equal(await fs.readString('/opt/tree/sub/file'), 'of a tree');
  });

  test('a guest that swaps directories for links while they are copied reaches nothing outside the target', async () => {
    const beside = join(dir, 'beside');
    await mkdir(beside);
    const swapping = await box.shellStream(
      `mkdir -p /swap/a; for i in $(seq 40); do echo evil > /swap/a/$i; done; echo ready
       while :; do mv /swap/a /swap/b; ln -s ${beside} /swap/a; rm /swap/a; mv /swap/b /swap/a; done`,
    );
    for (let event = await swapping.recv(); event?.eventType !== 'stdout'; event = await swapping.recv());
    for (let round = 0; round < 5; round++) {
      const target = join(dir, `swap-${round}`);
      // What is gone when it is looked at fails the copy, and nothing of it is left.
      await box
        .fs()
        .copyToHost('/swap', target)
        .catch(async (error) => {
          assert.ok(error instanceof NotFoundError || error instanceof FileError, String(error));
          assert.equal(await lstat(target).catch(() => undefined), undefined);
        });
    }
    await swapping[Symbol.asyncDispose]();
    assert.deepEqual(await readdir(beside), []);
    assert.deepEqual(
      (await readdir(dir)).filter((name) => name.startsWith('.')),
      [],
    );
  });

  test('a link in the way on the host is replaced, never written through', async () => {
    const precious = join(dir, 'precious');
    await writeFile(precious, 'precious');
    await symlink(precious, join(dir, 'lure'));
    await box.fs().write('/bait', 'evil');
    await box.fs().copyToHost('/bait', join(dir, 'lure'));
    assert.equal(await readFile(precious, 'utf8'), 'precious');
    assert.equal(await readFile(join(dir, 'lure'), 'utf8'), 'evil');
  });
});

describe('figures and lists', () => {
  test('metrics, their stream, and those of all', async () => {
    const metrics = await box.metrics();
    assert.ok(
      metrics.memoryBytes > 0 && metrics.memoryLimitBytes >= 128 * 1024 * 1024 && metrics.uptimeMs > 0,
    );
    await using stream = box.metricsStream(20);
    const first = await stream.recv();
    const second = await stream.recv();
    assert.ok((second?.timestampMs ?? 0) > (first?.timestampMs ?? 0));
    assert.ok('shared' in (await allSandboxMetrics()));
    const slow = box.metricsStream(3_600_000);
    await slow.recv();
    const next = slow.recv();
    await slow.close();
    assert.equal(await next, null, 'nobody waits for an interval that nobody wants');
  });

  test('list, get and connect find what runs', async () => {
    const [info] = await Sandbox.list({ labelSelector: 'team=sdk' });
    assert.deepEqual([info?.name, info?.status], ['shared', 'running']);
    assert.equal(JSON.parse(info?.configJson ?? '').image, BUILTIN_IMAGE);
    const handle = await Sandbox.get('shared');
    assert.deepEqual([handle.status, handle.labels.team], ['running', 'sdk']);
    const other = await handle.connect();
    assert.equal(other.ownsLifecycle, false);
    assert.equal((await other.exec('echo', ['again'])).stdout(), 'again\n');
    await assert.rejects(Sandbox.get('nobody'), NotFoundError);
    await assert.rejects(Sandbox.remove('shared'), SandboxStillRunningError);
    assert.ok(isInstalled());
  });

  test('volumes are made, found and removed', async () => {
    const volume = await Volume.create({ name: 'sdk-data', quotaMib: 64, labels: { a: 'b' } });
    assert.deepEqual([volume.name, volume.quotaMib, volume.labels], ['sdk-data', 64, { a: 'b' }]);
    assert.ok((await Volume.list()).some(({ name }) => name === 'sdk-data'));
    await (await Volume.get('sdk-data')).remove();
    await daemon.ok('wait', 'volume/sdk-data', '--for=delete', '--timeout', '60s');
    await assert.rejects(Volume.get('sdk-data'), NotFoundError);
  });
});

describe('life', () => {
  test('what cannot start says why, and leaves nothing', async () => {
    const waits: string[] = [];
    await assert.rejects(
      Sandbox.create(
        { ...SMALL, image: 'bulkhead.local/none:1', pullPolicy: 'never' },
        { onProgress: (m) => waits.push(m) },
      ),
      ImageError,
    );
    await assert.rejects(Sandbox.create({ ...SMALL, cpus: 100_000 }), (error) => {
      assert.ok(error instanceof InvalidConfigError);
      return error.causes.some(({ field }) => field === 'spec.resources.cpus');
    });
    const stop = AbortSignal.timeout(1);
    await assert.rejects(Sandbox.create({ ...SMALL, name: 'given-up' }, { signal: stop }), {
      name: 'TimeoutError',
    });
    await daemon.ok('wait', 'sandbox/given-up', '--for=delete', '--timeout', '60s');
    assert.deepEqual(
      (await Sandbox.list()).map(({ name }) => name),
      ['shared'],
    );
  });

  test('stop keeps the disks, start finds them, kill needs no grace, remove takes all', async () => {
    const sandbox = await Sandbox.create({ ...SMALL, name: 'life' });
    await sandbox.fs().write('/kept', 'kept');
    assert.deepEqual(await sandbox.stopAndWait(), { code: 0, success: true });
    await assert.rejects(sandbox.exec('true'), SandboxNotRunningError);
    await assert.rejects((await Sandbox.get('life')).connect(), SandboxNotRunningError);
    const again = await Sandbox.startDetached('life');
    assert.equal(await again.fs().readString('/kept'), 'kept');
    const stubborn = await again.shellStream('trap "" TERM HUP; while :; do sleep 1; done');
    await stubborn.recv();
    await again.kill();
    assert.equal((await Sandbox.get('life')).status, 'stopped');
    await Sandbox.remove('life');
    await assert.rejects(Sandbox.get('life'), NotFoundError);
  });

  test('a directory of the host that the operator has not allowed is refused, and that is said', async () => {
    const volumes = { '/host': Mount.bind('/etc') };
    await assert.rejects(Sandbox.create({ ...SMALL, volumes }), {
      code: 'HOST_PATH_NOT_ALLOWED',
      message: /the operator allows no directory of the host/,
    });
  });

  test('replace takes the place of an older one; using removes it at the end', async () => {
    const older = await Sandbox.createDetached({ ...SMALL, name: 'twice' });
    await older.fs().write('/old', '');
    {
      await using newer = await Sandbox.create({ ...SMALL, name: 'twice', replace: true });
      assert.equal(await newer.fs().exists('/old'), false);
    }
    await assert.rejects(Sandbox.get('twice'), NotFoundError);
  });

  test('a program of its own: logs, and wait tells how it ended', async () => {
    await using sandbox = await Sandbox.create({
      ...SMALL,
      cmd: ['sh', '-c', 'echo working; read -t 5 x; exit 4'],
    });
    const lines: string[] = [];
    for await (const piece of sandbox.logs({ follow: true })) lines.push(piece.toString());
    assert.equal(lines.join(''), 'working\n');
    assert.deepEqual(await sandbox.wait(), { code: 4, success: false });
  });

  test('drain lets what runs end, and takes nothing new', async () => {
    await using sandbox = await Sandbox.create(SMALL);
    const running = await sandbox.shellStream('sleep 0.5; exit 5');
    const connecting = sandbox.shell('sleep 0.5; exit 6');
    const draining = sandbox.drain();
    await assert.rejects(sandbox.exec('true'), SandboxNotRunningError);
    assert.equal((await running.wait()).code, 5);
    assert.equal((await connecting).code, 6);
    await draining;
    await sandbox.wait();
  });

  test('a program that has done its work ends by itself, and takes an attached sandbox with it', async () => {
    const child = program(`
      const box = await sdk.Sandbox.create({ image: ${JSON.stringify(BUILTIN_IMAGE)}, memoryMib: 128, diskMib: 256 });
      console.log(box.name, (await box.exec('echo', ['done'])).stdout());
    `);
    const [name = ''] = (await outputOf(child)).split(' ');
    await daemon.ok('wait', `sandbox/${name}`, '--for=delete', '--timeout', '90s');
  });

  test('killed programs: an attached sandbox ends, a detached one and one that was let go live', async () => {
    const child = program(`
      const small = { image: ${JSON.stringify(BUILTIN_IMAGE)}, memoryMib: 128, diskMib: 256 };
      await sdk.Sandbox.create({ ...small, name: 'kept' });
      await sdk.Sandbox.createDetached({ ...small, name: 'detached' });
      await (await sdk.Sandbox.create({ ...small, name: 'let-go' })).detach();
      console.log('up');
      setInterval(() => {}, 1000);
    `);
    await once(child.stdout ?? child, 'data');
    child.kill('SIGKILL');
    await daemon.ok('wait', 'sandbox/kept', '--for=condition=Suspended', '--timeout', '90s');
    for (const name of ['detached', 'let-go']) {
      assert.equal(
        (await (await (await Sandbox.get(name)).connect()).exec('echo', ['alive'])).stdout(),
        'alive\n',
      );
      await daemon.ok('delete', 'sandbox', name);
    }
    await Sandbox.remove('kept');
  });

  test('a daemon that is killed in mid-stream: every byte arrives once it is back, the sandbox is kept and goes on', async () => {
    await using sandbox = await Sandbox.create({ ...SMALL, name: 'survivor' });
    // Both ways at once: what goes in comes out, numbered, with a sum that shows anything lost or repeated.
    const lines = Array.from({ length: 40_000 }, (_, line) => `line ${line}\n`).join('');
    const cat = await sandbox.execStream('cat', [], { stdin: 'pipe', resumeMs: 60_000 });
    const sink = cat.takeStdin();
    assert.ok(sink);
    const writing = (async () => {
      for (let at = 0; at < lines.length; at += 10_000) await sink.write(lines.slice(at, at + 10_000));
      await sink.close();
    })();
    const received: Buffer[] = [];
    let bytes = 0;
    let restarted: Promise<void> | undefined;
    for await (const event of cat) {
      assert.notEqual(event.eventType, 'lost');
      if (event.eventType !== 'stdout') continue;
      received.push(event.data);
      bytes += event.data.length;
      if (bytes > lines.length / 4) restarted ??= daemon.crash().then(() => daemon.launch());
    }
    await writing;
    await restarted;
    assert.ok(restarted, 'the daemon was killed while the command ran');
    assert.equal(Buffer.concat(received).toString(), lines);
    assert.equal((await sandbox.exec('echo', ['back'])).stdout(), 'back\n');
    // Longer than the daemon waits for clients to come back.
    await new Promise((resolve) => setTimeout(resolve, 20_000));
    assert.equal((await sandbox.exec('echo', ['still'])).stdout(), 'still\n');
  });

  test('a daemon that does not come back is a failure of its own; a command that ends with its connection says so at once', async () => {
    await using sandbox = await Sandbox.create({ ...SMALL, name: 'silent' });
    const plain = await sandbox.shellStream('echo up; sleep 600', { resumeMs: 0 });
    const patient = await sandbox.shellStream('echo up; sleep 600', { resumeMs: 2_000 });
    for (const handle of [plain, patient]) for (let event = 0; event < 2; event++) await handle.recv();
    const fs = sandbox.fs();
    await fs.write('/file', 'old');
    await sandbox.shell('dd if=/dev/zero of=/large bs=1M count=32');
    const reading = await fs.readStream('/large');
    await reading.recv();
    const writing = fs.writeStream('/file');
    await writing.write(Buffer.alloc(4 * 1024 * 1024));
    await daemon.crash();
    // Files are not resumed: what is not whole says so.
    await assert.rejects(async () => {
      while ((await reading.recv()) !== null);
    }, DaemonUnavailableError);
    await assert.rejects(writing.close(), DaemonUnavailableError);
    const ends = [plain, patient].map((handle) =>
      assert.rejects(async () => {
        while ((await handle.recv()) !== null);
      }, DaemonUnavailableError),
    );
    await Promise.all(ends);
    await daemon.launch();
    await daemon.waitReady('silent');
    assert.equal(await fs.readString('/file'), 'old');
    // What nobody comes back for is ended by the next daemon.
    const deadline = Date.now() + 60_000;
    const sleeping = async () => (await sandbox.shell('pgrep -x sleep | wc -l')).stdout().trim();
    while ((await sleeping()) !== '0' && Date.now() < deadline)
      await new Promise((go) => setTimeout(go, 200));
    assert.equal(await sleeping(), '0');
  });

  test('a command is let go of by one program and gone on with by another', async () => {
    const child = program(`
      const box = await (await sdk.Sandbox.get('shared')).connect();
      const handle = await box.shellStream('echo one; read x; echo "$x"; exit 6', { stdin: 'pipe', resumeMs: 600_000 });
      await handle.recv();
      await handle.recv();
      console.log(JSON.stringify(handle.detach()));
    `);
    const { id, stdoutOffset } = JSON.parse(await outputOf(child)) as { id: string; stdoutOffset: number };
    assert.equal(stdoutOffset, 4);
    const handle = await box.resumeExec(id, { stdoutOffset });
    const sink = handle.takeStdin();
    await sink?.write('two\n');
    await sink?.close();
    const output = await handle.collect();
    assert.deepEqual([output.stdout(), output.code, output.lost], ['two\n', 6, { stdout: 0, stderr: 0 }]);
    // The daemon forgets the command when the connection that has its result closes, which nobody waits for.
    const forgotten = async () => {
      for (let asked = 0; asked < 1_000; asked++) await (await box.resumeExec(id)).collect();
    };
    await assert.rejects(forgotten(), CommandLostError);
  });
});
