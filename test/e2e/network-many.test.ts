// As many networks as a host may have on one gateway: all with the same addresses, and each with its own policy alone. Namespaces
// stand for VMs, since so many of those would need a larger machine than a test may ask for.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { GATEWAY_V4, GUEST_MAC, GUEST_V4 } from '../../src/network/gateway/address-plan.ts';
import { GatewayClient } from '../../src/network/gateway/client.ts';
import { allow, effectiveOf } from '../../src/network/testing/policies.ts';
import { type HostLibrary, loadHostLibrary } from '../../src/vmm/ffi.ts';
import { NetworkWorld, WORLD } from './network-world.ts';

const PROJECT = join(import.meta.dirname, '..', '..');
const BUILD = join(PROJECT, 'build');
/** What the design promises for one host, and enough to see a clash. */
const SANDBOXES = process.env.BULKHEAD_SOAK === '1' ? 4_000 : 48;
/** Each of these is all that one of the guests may reach. */
const SERVERS = [WORLD.allowed, WORLD.other].flatMap((address) =>
  [22, 80, 443].map((port) => ({ address, port })),
);
/** A listener of each protocol for connections, datagrams, questions and echoes, in each family where they differ. */
const SOCKETS_EACH = 6;
const AT_ONCE = 16;

let world: NetworkWorld;
let library: HostLibrary;
let gateway: ChildProcess;
let client: GatewayClient;
const folder = mkdtempSync(join(tmpdir(), 'bulkhead-many-'));
const children: ChildProcess[] = [];

/** A process that holds a namespace of its own, in which the script has run. */
async function holder(script: string): Promise<number> {
  const command = `set -e; ${script}; echo ready; exec sleep 1000000`;
  const child = spawn('unshare', ['--net', 'sh', '-c', command], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  const [first] = (await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])) as [unknown];
  assert.ok(Buffer.isBuffer(first) && child.pid !== undefined, `the namespace did not come up: ${script}`);
  return child.pid;
}

const inside = (pid: number, ...command: string[]) =>
  execFileSync('nsenter', ['-t', String(pid), '-n', ...command], { encoding: 'utf8' });

const VM = `ip addr add ${GATEWAY_V4}/24 dev tap0; ip link set tap0 up; ip link set lo up`;

/** The namespace of a VM whose guest does nothing. */
const idleVm = () => holder(`ip tuntap add dev tap0 mode tap; ${VM}`);

/** The namespace of a VM, and one that is its guest. */
async function vmWithGuest(): Promise<{ vm: number; guest: number }> {
  const vm = await holder(`ip link add tap0 type veth peer name eth0; ${VM}`);
  const guest = await holder('ip link set lo up');
  inside(vm, 'ip', 'link', 'set', 'eth0', 'netns', String(guest));
  inside(guest, 'ip', 'link', 'set', 'eth0', 'address', GUEST_MAC, 'up');
  inside(guest, 'ip', 'addr', 'add', `${GUEST_V4}/24`, 'dev', 'eth0');
  inside(guest, 'ip', 'route', 'add', 'default', 'via', GATEWAY_V4);
  return { vm, guest };
}

const reaches = (guest: number, { address, port }: { address: string; port: number }) => {
  const script = `exec 3<>/dev/tcp/${address}/${port} && echo hi >&3 && head -n 1 <&3`;
  try {
    return inside(guest, 'timeout', '5', 'bash', '-c', `{ ${script}; } 2>/dev/null`).includes('reached');
  } catch {
    return false;
  }
};

before(async () => {
  world = await NetworkWorld.open();
  library = loadHostLibrary(BUILD);
  const socket = join(folder, 'gateway.sock');
  const listener = library.unixListen(socket);
  const [command = '', ...prefix] = world.prefix;
  const main = join(PROJECT, 'src/network/gateway/main.ts');
  gateway = spawn(
    command,
    [...prefix, process.execPath, '--disable-warning=ExperimentalWarning', main, BUILD],
    {
      stdio: ['ignore', 'inherit', 'inherit', listener],
    },
  );
  closeSync(listener);
  client = await GatewayClient.connect(socket);
});

after(async () => {
  client?.close();
  for (const child of [...children, gateway]) child?.kill('SIGKILL');
  await world?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

function attach(pid: number, only: { address: string; port: number }) {
  const policy = effectiveOf({
    egress: {
      mode: 'Deny',
      rules: [allow([{ cidr: `${only.address}/32` }], [{ protocol: 'TCP', port: only.port }])],
    },
  });
  const process = { pid, startTime: String(library.processStartTime(pid)) };
  return client.attach(`sandbox-${pid}`, process, {
    ...{ policy, ports: [] },
    interception: { secrets: [] },
  });
}

test(`${SANDBOXES} networks with the same addresses on one gateway`, { timeout: 1_800_000 }, async (t) => {
  const guests: { guest: number; only: (typeof SERVERS)[number] }[] = [];
  const spread = Math.floor(SANDBOXES / SERVERS.length);
  const start = performance.now();
  for (let at = 0; at < SANDBOXES; at += AT_ONCE) {
    const some = Array.from({ length: Math.min(AT_ONCE, SANDBOXES - at) }, async (_, index) => {
      const talks = (at + index) % spread === 0 && guests.length < SERVERS.length;
      const only = SERVERS[talks ? guests.length : index % SERVERS.length];
      assert.ok(only !== undefined);
      if (!talks) {
        await attach(await idleVm(), only);
        return;
      }
      const mine = { guest: 0, only };
      guests.push(mine);
      const { vm, guest } = await vmWithGuest();
      mine.guest = guest;
      await attach(vm, only);
    });
    await Promise.all(some);
  }
  const seconds = (performance.now() - start) / 1000;
  const { sandboxes } = await client.counters();
  assert.equal(Object.keys(sandboxes).length, SANDBOXES);
  assert.ok(gateway.pid !== undefined);
  const files = readdirSync(`/proc/${gateway.pid}/fd`).length;
  const memory = Number(
    /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${gateway.pid}/status`, 'utf8'))?.[1],
  );
  t.diagnostic(
    `attached in ${seconds.toFixed(1)} s; ${files} descriptors, ${(memory / 1024).toFixed()} MiB resident`,
  );
  assert.ok(files >= SANDBOXES * SOCKETS_EACH, `${files} descriptors`);
  assert.equal(guests.length, SERVERS.length);
  for (const { guest, only } of guests) {
    assert.equal(inside(guest, 'ip', '-br', '-4', 'addr', 'show', 'eth0').includes(`${GUEST_V4}/24`), true);
    assert.deepEqual(
      SERVERS.filter((server) => reaches(guest, server)),
      [only],
    );
  }
});
