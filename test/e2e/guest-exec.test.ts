// The agent in a real VM: start, programs, terminals, signals, users, files.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import type { ExecRequest, GuestAgent, GuestProcess } from '../../src/guest/agent.ts';
import { makeDisks, type TestDisks, TestVm, text } from './guest-harness.ts';

let disks: TestDisks;
let vm: TestVm;
let agent: GuestAgent;
let count = 0;

before(async () => {
  disks = await makeDisks();
  vm = new TestVm(disks, { network: true });
  agent = await vm.agent();
  await agent.mountRoot({ imageDevice: 'vda', upperDevice: 'vdb' });
  await agent.personalize({
    hostname: 'box',
    timeMs: Date.UTC(2031, 4, 6),
    entropy: new Uint8Array(32),
    network: {
      mac: '52:54:00:00:00:09',
      addresses: ['10.0.2.15/24', 'fd00::2/64'],
      gateways: ['10.0.2.2'],
      mtu: 1400,
    },
    nameservers: ['10.0.2.3'],
    searchDomains: ['example.internal'],
    extraHosts: [{ address: '10.1.2.3', names: ['db', 'db.internal'] }],
  });
});

after(async () => {
  await agent?.close();
  await vm?.kill();
  await disks?.remove();
});

function start(argv: string[], more: Partial<ExecRequest> = {}): Promise<GuestProcess> {
  return agent.exec({ sessionId: `t-${++count}`, argv, env: [], stdin: false, overflow: 'block', ...more });
}

async function run(
  argv: string[],
  more: Partial<ExecRequest> = {},
): Promise<{
  out: string;
  err: string;
  exitCode: number;
  signal: string;
  timedOut: boolean;
  oomKilled: boolean;
}> {
  const process = await start(argv, more);
  const [out, err, exit] = await Promise.all([text(process.stdout), text(process.stderr), process.exited]);
  await process.release();
  return { out, err, ...exit };
}

const sh = (script: string, more?: Partial<ExecRequest>): ReturnType<typeof run> =>
  run(['sh', '-c', script], more);

describe('personality', () => {
  test('host name, clock, addresses and routes are the ones asked for', async () => {
    assert.equal((await sh('hostname; cat /etc/hostname')).out, 'box\nbox\n');
    assert.match((await sh('date -u +%Y-%m-%d')).out, /^2031-05-06/);
    const { out } = await sh('ip addr show eth0; ip route');
    for (const part of [
      '52:54:00:00:00:09',
      'mtu 1400',
      'inet 10.0.2.15/24',
      'inet6 fd00::2/64',
      'default via 10.0.2.2',
    ]) {
      assert.ok(out.includes(part), `${part} in ${out}`);
    }
  });

  test('resolv.conf replaces a hostile link instead of following it', async () => {
    const { out } = await sh('test -L /etc/resolv.conf && echo link; cat /etc/resolv.conf; ls /tmp');
    assert.equal(out, 'search example.internal\nnameserver 10.0.2.3\n');
  });

  test('hosts names the sandbox and the extra hosts', async () => {
    const { out } = await sh('cat /etc/hosts');
    assert.match(out, /^127\.0\.0\.1\tlocalhost$/m);
    assert.match(out, /^10\.0\.2\.15\tbox$/m);
    assert.match(out, /^10\.1\.2\.3\tdb db\.internal$/m);
  });

  test('the agent port and the disks below the root are out of reach by name', async () => {
    assert.equal((await sh('ls /dev | grep -E "^(vd|vport|hvc)" | wc -l')).out.trim(), '0');
  });
});

describe('programs', () => {
  test('exit codes come back whole', async () => {
    for (const code of [0, 1, 42, 255]) assert.equal((await sh(`exit ${code}`)).exitCode, code);
  });

  test('a signal is told by name and as 128 plus its number', async () => {
    const result = await sh('kill -SEGV $$');
    assert.deepEqual([result.exitCode, result.signal], [139, 'SIGSEGV']);
  });

  test('stdout and stderr are told apart', async () => {
    const result = await sh('echo out; echo err >&2');
    assert.deepEqual([result.out, result.err], ['out\n', 'err\n']);
  });

  test('arguments and variables arrive unchanged, the last of a name wins', async () => {
    const odd = 'a "b" \'c\' $d\n\t\\ ü';
    const result = await run(['sh', '-c', 'printf %s "$1"; printf "|%s|%s" "$X" "$HOME"', 'sh', odd], {
      env: ['X=1', `X=${odd}`],
    });
    assert.equal(result.out, `${odd}|${odd}|/root`);
  });

  test('a missing command and one that cannot run are different errors', async () => {
    await assert.rejects(start(['no-such-command']), { code: 'COMMAND_NOT_FOUND' });
    await assert.rejects(start(['/no/such/path']), { code: 'COMMAND_NOT_FOUND' });
    await assert.rejects(start(['']), { code: 'COMMAND_NOT_FOUND' });
    for (const command of ['noexec', '/bin/noexec', 'noformat', 'lostinterp', '/tmp']) {
      await assert.rejects(start([command]), { code: 'COMMAND_NOT_EXECUTABLE' }, command);
    }
  });

  test('a failed start leaves no session', async () => {
    await assert.rejects(start(['no-such-command'], { sessionId: 'again' }), { code: 'COMMAND_NOT_FOUND' });
    const result = await run(['true'], { sessionId: 'again' });
    assert.equal(result.exitCode, 0);
  });

  test('the working directory is entered, and made on request', async () => {
    assert.equal((await run(['pwd'], { cwd: '/usr/bin' })).out, '/usr/bin\n');
    await assert.rejects(start(['pwd'], { cwd: '/not/there' }), { code: 'INVALID' });
    assert.equal((await run(['pwd'], { cwd: '/made/for/it', createCwd: true })).out, '/made/for/it\n');
  });

  test('resource limits hold', async () => {
    const result = await sh('ulimit -n; ulimit -Hn', { rlimits: [{ name: 'nofile', soft: 100, hard: 200 }] });
    assert.equal(result.out, '100\n200\n');
    await assert.rejects(start(['true'], { rlimits: [{ name: 'WISHES', soft: 3, hard: 3 }] }), {
      code: 'INVALID',
    });
  });

  test('a time limit kills the whole session, children that left it included', async () => {
    const result = await sh('setsid sh -c "echo \\$\\$ >/tmp/left; exec sleep 1000" & exec sleep 1000', {
      timeoutMs: 500,
    });
    assert.deepEqual([result.signal, result.timedOut], ['SIGKILL', true]);
    assert.equal((await sh('test -s /tmp/left && kill -0 $(cat /tmp/left)')).exitCode, 1);
  });

  test('what a command leaves in the background goes on after its session', async () => {
    await sh(
      'sh -c "echo \\$\\$ >/tmp/back; exec sleep 2000" >/dev/null 2>&1 & until test -s /tmp/back; do :; done',
    );
    assert.equal((await sh('kill -0 $(cat /tmp/back) && kill $(cat /tmp/back)')).exitCode, 0);
  });

  test('running out of memory is told as such and leaves the agent alive', async () => {
    const result = await sh('tail /dev/zero');
    assert.deepEqual([result.signal, result.oomKilled], ['SIGKILL', true]);
    assert.equal((await sh('echo fine')).out, 'fine\n');
  });

  test('a fork bomb is bounded and can be killed', async () => {
    const bomb = await start(['sh', '-c', 'f() { f | f & }; f; sleep 1000'], { timeoutMs: 3000 });
    await bomb.exited;
    await bomb.release();
    assert.equal((await sh('echo fine')).out, 'fine\n');
  });

  test('kill -9 -1 by root does not reach the agent', async () => {
    await sh('kill -9 -1');
    assert.equal((await sh('echo fine')).out, 'fine\n');
  });
});

describe('users', () => {
  test('names and numbers resolve in the image with their groups and home', async () => {
    const id = async (user: string): Promise<string> =>
      (await sh('id -u; id -g; id -G; echo $HOME', { user })).out.replaceAll('\n', ' ');
    assert.equal(await id('dev'), '1000 1000 1000 10 44 /home/dev ');
    assert.equal(await id('1000'), '1000 1000 1000 10 44 /home/dev ');
    assert.equal(await id('dev:video'), '1000 44 44 /home/dev ');
    assert.equal(await id('4321:8765'), '4321 8765 8765 / ');
    assert.equal(await id('4321'), '4321 0 0 / ');
  });

  test('an unknown name is refused', async () => {
    await assert.rejects(start(['id'], { user: 'nobody-here' }), { code: 'INVALID' });
    await assert.rejects(start(['id'], { user: 'dev:no-group' }), { code: 'INVALID' });
  });
});

describe('streams', () => {
  test('stdin reaches the program, and its end too', async () => {
    const process = await start(['sha256sum'], { stdin: true });
    process.stdin?.end('hello');
    assert.match(await text(process.stdout), /^2cf24dba5fb0a30e26e83b2ac5b9e29e/);
    await process.release();
  });

  test('a terminal has a size, follows it and tells the program', async () => {
    const process = await start(
      ['sh', '-c', 'stty size; trap "stty size; exit 3" WINCH; echo ready; while :; do sleep 0.1; done'],
      {
        tty: { columns: 81, rows: 25 },
      },
    );
    let seen = '';
    process.stdout.setEncoding('utf8').on('data', (part: string) => {
      seen += part;
      process.stdout.emit('seen');
    });
    while (!seen.includes('ready')) await once(process.stdout, 'seen');
    await process.resize({ columns: 132, rows: 43 });
    assert.equal((await process.exited).exitCode, 3);
    assert.equal(seen, '25 81\r\nready\r\n43 132\r\n');
    await process.release();
  });

  test('a terminal is the controlling one: ^C interrupts, ^D ends input', async () => {
    const sleeper = await start(['sh', '-c', 'echo go; sleep 1000'], { tty: { columns: 80, rows: 24 } });
    await once(sleeper.stdout, 'data');
    sleeper.stdin?.write('\u0003');
    assert.equal((await sleeper.exited).signal, 'SIGINT');
    await sleeper.release();
    const reader = await start(['cat'], { tty: { columns: 80, rows: 24 } });
    reader.stdin?.end('x\n');
    assert.equal((await reader.exited).exitCode, 0);
    await reader.release();
  });

  test('the output of a terminal ends with its program, though it has no stderr', async () => {
    const process = await start(['sh', '-c', 'echo out; echo err >&2; exit 3'], {
      tty: { columns: 80, rows: 24 },
    });
    let seen = '';
    for await (const { stream, data } of process.output()) seen += `${stream} ${data}`;
    assert.equal(seen.replaceAll('stdout ', ''), 'out\r\nerr\r\n');
    assert.equal((await process.exited).exitCode, 3);
    await process.release();
  });

  test('a signal goes to the program by name', async () => {
    const process = await start(['sh', '-c', 'trap "exit 9" USR1; echo ready; while :; do sleep 0.05; done']);
    await once(process.stdout, 'data');
    await process.signal('SIGUSR1');
    assert.equal((await process.exited).exitCode, 9);
    await process.release();
  });
});

describe('files', () => {
  test('a file goes in with mode and owner and comes out the same', async () => {
    const content = Buffer.alloc(3_000_000, 'bulkhead ');
    await agent.files.write(
      '/srv/data',
      [content.subarray(0, 999_999), content.subarray(999_999)].values() as never,
      {
        mode: 0o640,
        user: 'dev:video',
      },
    );
    assert.equal((await sh('stat -c "%a %u %g %s" /srv/data')).out, '640 1000 44 3000000\n');
    const parts: Buffer[] = [];
    for await (const part of await agent.files.read('/srv/data')) parts.push(part as Buffer);
    assert.ok(Buffer.concat(parts).equals(content));
  });

  test('links lead nowhere outside the container root', async () => {
    assert.match(await text(await agent.files.read('/srv/climb/../../../../etc/passwd')), /^root:/);
    await assert.rejects(agent.files.read('/srv/nothing'), { code: 'NOT_FOUND' });
    await assert.rejects(agent.files.read('/srv'), { code: 'INVALID' });
    await assert.rejects(agent.files.read('/dev/zero'), { code: 'INVALID' });
  });

  test('a transfer that is given up leaves no file', async () => {
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('half');
      throw new Error('the source broke');
    }
    await assert.rejects(agent.files.write('/srv/half', broken(), { mode: 0o644 }), /the source broke/);
    assert.equal((await sh('ls -A /srv | grep -v -e climb -e data | wc -l')).out.trim(), '0');
  });

  test('a transfer whose worker is killed leaves no file', async () => {
    // The worker is named after its unfinished file.
    const kill =
      'until set -- /srv/.bulkhead-* && test -e "$1"; do sleep 0.01; done; kill -9 $(echo "$1" | cut -d- -f2); echo killed';
    async function* endless(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('half');
      assert.equal((await sh(kill)).out, 'killed\n');
      yield Buffer.from('rest');
    }
    await assert.rejects(agent.files.write('/srv/half', endless(), { mode: 0o644 }));
    const gone = await sh('while ls -A /srv | grep bulkhead > /dev/null; do sleep 0.01; done; ls -A /srv', {
      timeoutMs: 30_000,
    });
    assert.equal(gone.timedOut, false);
    assert.doesNotMatch(gone.out, /half/);
  });
});

describe('statistics', () => {
  test('they tell memory, the root file system and the interface', async () => {
    const stats = await agent.stats();
    assert.ok(stats.memory.totalBytes > 200e6 && stats.memory.availableBytes < stats.memory.totalBytes);
    assert.equal(stats.fileSystems[0]?.mountPath, '/');
    assert.ok(stats.interfaces.some((entry) => entry.name === 'eth0'));
    assert.ok(stats.uptimeSeconds > 0 && stats.cpu.userSeconds > 0);
  });
});
