// Ports of one guest that the host publishes.
import type { Socket as Datagrams } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Clock } from '../../controller/clock.ts';
import type { PublishedPort, WantedPort } from '../network-plane.ts';
import { IDLE_MS, PORT_CONNECTIONS_MAX } from './limits.ts';
import { portHolder } from './port-holder.ts';
import { PublishedDatagrams } from './published-datagrams.ts';

interface Listener {
  readonly wanted: WantedPort;
  readonly hostPort: number;
  readonly close: () => void;
}

/** Ways into the guest. */
export interface GuestWays {
  /** Connects to a port of it. */
  readonly dial: (port: number) => Promise<Socket>;
  /** Its IPv4 address. */
  readonly address: string;
  /** A UDP socket of family IPv6 from which its ports can be reached. */
  readonly bind: () => Datagrams;
  readonly clock: Clock;
}

/** Bytes that the guest sent, and that it got. */
export interface Carried {
  readonly egressBytes: number;
  readonly ingressBytes: number;
}

export class PublishedPorts {
  readonly #ways: GuestWays;
  readonly #listeners = new Map<string, Listener>();
  readonly #sockets = new Set<Socket>();
  /** Of connections that stand, the ends that are not the guest's. */
  readonly #clients = new Set<Socket>();
  /** Of datagrams, and of connections that are gone. */
  #carried: Carried = { egressBytes: 0, ingressBytes: 0 };
  /** Since that was last asked. */
  #used = false;
  #closed = false;
  #setting: Promise<unknown> = Promise.resolve();

  constructor(ways: GuestWays) {
    this.#ways = ways;
  }

  /** Publishes these and no others; those that are as they were keep their connections. One result for each, in order. */
  set(wanted: readonly WantedPort[]): Promise<readonly PublishedPort[]> {
    const set = this.#setting.then(() => this.#set(wanted));
    this.#setting = set.catch(() => {});
    return set;
  }

  /** By all ports so far. */
  get carried(): Carried {
    let { egressBytes, ingressBytes } = this.#carried;
    for (const { bytesWritten, bytesRead } of this.#clients) {
      egressBytes += bytesWritten;
      ingressBytes += bytesRead;
    }
    return { egressBytes, ingressBytes };
  }

  /** Whether anybody used a port since this was last asked: a connection stood, or datagrams were carried. */
  takeUsed(): boolean {
    const used = this.#used || this.#clients.size > 0;
    this.#used = false;
    return used;
  }

  close(): void {
    this.#closed = true;
    for (const name of [...this.#listeners.keys()]) this.#unpublish(name);
    for (const socket of this.#sockets) socket.destroy();
  }

  async #set(wanted: readonly WantedPort[]): Promise<readonly PublishedPort[]> {
    for (const [name, { wanted: former }] of this.#listeners)
      if (!wanted.some((each) => isSame(each, former))) this.#unpublish(name);
    const results: PublishedPort[] = [];
    for (const each of wanted) {
      const { name, hostIP } = each;
      try {
        const { hostPort } = this.#listeners.get(name) ?? (await this.#add(each));
        results.push({ name, hostIP, hostPort });
      } catch (error) {
        results.push({ name, problem: await explain(each, error) });
      }
    }
    return results;
  }

  async #add(wanted: WantedPort): Promise<Listener> {
    const { hostPort, close } =
      wanted.protocol === 'UDP'
        ? await PublishedDatagrams.open(wanted, this.#ways, this.#count)
        : await this.#listen(wanted);
    if (this.#closed) {
      close();
      throw new Error('The VM is gone.');
    }
    const listener = { wanted, hostPort, close };
    this.#listeners.set(wanted.name, listener);
    return listener;
  }

  async #listen(wanted: WantedPort): Promise<Pick<Listener, 'hostPort' | 'close'>> {
    let open = 0;
    const server: Server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
      open += 1;
      client.on('close', () => {
        open -= 1;
      });
      client.on('error', () => {});
      if (open > PORT_CONNECTIONS_MAX) client.resetAndDestroy();
      else void this.#carry(client, wanted.port);
    });
    server.listen({ host: wanted.hostIP, port: wanted.hostPort ?? 0, exclusive: true });
    await once(server, 'listening');
    server.on('error', () => {});
    return { hostPort: (server.address() as AddressInfo).port, close: () => void server.close() };
  }

  /** Nobody new comes in; connections that stand go on, which UDP has none of. */
  #unpublish(name: string): void {
    this.#listeners.get(name)?.close();
    this.#listeners.delete(name);
  }

  async #carry(client: Socket, port: number): Promise<void> {
    this.#hold(client);
    let guest: Socket;
    try {
      guest = await this.#ways.dial(port);
    } catch {
      client.resetAndDestroy();
      return;
    }
    this.#hold(guest);
    if (client.destroyed || this.#closed) {
      guest.destroy();
      return;
    }
    this.#clients.add(client);
    client.on('close', () => {
      if (this.#clients.delete(client)) this.#count(client.bytesWritten, client.bytesRead);
    });
    for (const [socket, other] of [
      [client, guest],
      [guest, client],
    ] as const) {
      socket.on('error', () => other.resetAndDestroy());
      socket.on('close', () => {
        if (!socket.readableEnded || !socket.writableFinished) other.destroy();
      });
      socket.setTimeout(IDLE_MS, () => socket.destroy());
      socket.pipe(other);
    }
  }

  readonly #count = (egress: number, ingress: number): void => {
    const { egressBytes, ingressBytes } = this.#carried;
    this.#carried = { egressBytes: egressBytes + egress, ingressBytes: ingressBytes + ingress };
    this.#used = true;
  };

  #hold(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.#sockets.delete(socket));
  }
}

function isSame(a: WantedPort, b: WantedPort): boolean {
  return (
    a.name === b.name &&
    a.protocol === b.protocol &&
    a.port === b.port &&
    a.hostIP === b.hostIP &&
    a.hostPort === b.hostPort
  );
}

async function explain({ protocol, hostIP, hostPort = 0 }: WantedPort, error: unknown): Promise<string> {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  const where = `${hostIP.includes(':') ? `[${hostIP}]` : hostIP}:${hostPort}`;
  if (code === 'EADDRINUSE') {
    const holder = await portHolder(protocol, hostPort);
    return `${where}${protocol === 'UDP' ? ' (UDP)' : ''} is taken${holder === undefined ? '' : ` by ${holder}`}.`;
  }
  if (code === 'EADDRNOTAVAIL') return `${hostIP} is no address of this host.`;
  return error instanceof Error ? error.message : String(error);
}
