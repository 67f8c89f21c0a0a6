// A world for tests of the network: a namespace for the daemon and its gateway, and one with servers behind it. Nothing of
// it reaches the host's own network.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Public addresses, which only this world has. */
export const WORLD = {
  allowed: '20.0.0.10',
  other: '20.0.0.11',
  dns: '20.0.0.53',
  otherDns: '20.0.0.54',
  router: '20.0.1.2',
  /** Of the daemon's namespace: the host, as sandboxes see it. */
  host: '20.0.1.1',
  private: '10.1.2.3',
  allowed6: '2600::10',
  other6: '2600::11',
  dns6: '2600::53',
};
/** Of secrets, the second after the first; what servers take as passwords. */
export const SECRET_VALUES = ['first-Value&1', 'second/Value+2'] as const;
const METADATA = ['169.254.169.254', '169.254.170.2', '168.63.129.16', '100.100.100.200', '192.0.0.192'];

const ip = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
const inside = (space: string, ...command: string[]) =>
  execFileSync('nsenter', [`--net=/var/run/netns/${space}`, ...command], { encoding: 'utf8' });

export class NetworkWorld implements AsyncDisposable {
  readonly #daemonSpace = `bhd${process.pid}`;
  readonly #serverSpace = `bhs${process.pid}`;
  readonly #children: ChildProcess[] = [];
  readonly #folder = mkdtempSync(join(tmpdir(), 'bulkhead-world-'));

  static async open(): Promise<NetworkWorld> {
    const world = new NetworkWorld();
    const [here, there] = [world.#daemonSpace, world.#serverSpace];
    for (const space of [here, there]) {
      ip('netns', 'add', space);
      ip('-n', space, 'link', 'set', 'lo', 'up');
    }
    ip('-n', here, 'link', 'add', 'out', 'type', 'veth', 'peer', 'name', 'in', 'netns', there);
    ip('-n', here, 'addr', 'add', `${WORLD.host}/24`, 'dev', 'out');
    ip('-n', there, 'addr', 'add', `${WORLD.router}/24`, 'dev', 'in');
    ip('-n', here, '-6', 'addr', 'add', '2600:1::1/64', 'dev', 'out', 'nodad');
    ip('-n', there, '-6', 'addr', 'add', '2600:1::2/64', 'dev', 'in', 'nodad');
    ip('-n', here, 'link', 'set', 'out', 'up');
    ip('-n', there, 'link', 'set', 'in', 'up');
    for (const address of [WORLD.allowed, WORLD.other, WORLD.dns, WORLD.otherDns, WORLD.private, ...METADATA])
      ip('-n', there, 'addr', 'add', `${address}/32`, 'dev', 'lo');
    for (const address of [WORLD.allowed6, WORLD.other6, WORLD.dns6, 'fd00::7', 'fd00:ec2::254'])
      ip('-n', there, '-6', 'addr', 'add', `${address}/128`, 'dev', 'lo', 'nodad');
    ip('-n', here, 'route', 'add', 'default', 'via', WORLD.router);
    // Sockets for echoes of ICMP are given to groups of the host's choice.
    inside(here, 'sh', '-c', 'echo 0 0 > /proc/sys/net/ipv4/ping_group_range');
    // Frames of the daemon's side other than those by which neighbours are found.
    inside(
      there,
      'nft',
      `table netdev seen { counter frames {}; chain in { type filter hook ingress device "in" priority 0; ether type arp accept; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld2-listener-report } accept; counter name frames; }; }`,
    );
    ip('-n', here, '-6', 'route', 'add', 'default', 'via', '2600:1::2');
    await world.#serve(there, 'servers');
    // What the host itself serves, to which no sandbox is to come.
    await world.#serve(here, 'host');
    return world;
  }

  /** Runs a command in the daemon's namespace. */
  get prefix(): readonly string[] {
    return ['nsenter', `--net=/var/run/netns/${this.#daemonSpace}`];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) {
      const gone = once(child, 'exit');
      child.kill('SIGTERM');
      await gone;
    }
    rmSync(this.#folder, { recursive: true });
    ip('netns', 'del', this.#daemonSpace);
    ip('netns', 'del', this.#serverSpace);
  }

  /** Frames that came to the servers' side so far, without those by which neighbours are found. */
  get framesSeen(): number {
    const text = inside(this.#serverSpace, 'nft', 'list', 'counter', 'netdev', 'seen', 'frames');
    return Number(/packets (\d+)/.exec(text)?.[1]);
  }

  /** PEM: vouches for the servers' certificates. */
  get authority(): string {
    return readFileSync(join(this.#folder, 'servers.crt'), 'utf8');
  }

  async #serve(space: string, name: string): Promise<void> {
    const servers = join(import.meta.dirname, 'network-servers.ts');
    const child = spawn(
      'nsenter',
      [
        `--net=/var/run/netns/${space}`,
        process.execPath,
        '--disable-warning=ExperimentalWarning',
        servers,
        join(this.#folder, `${name}.crt`),
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    this.#children.push(child);
    await once(child.stdout, 'data');
  }
}
