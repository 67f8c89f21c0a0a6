// Ports of one guest that the host publishes.
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { PublishedPort, WantedPort } from '../network-plane.ts';
import { IDLE_MS, PORT_CONNECTIONS_MAX } from './limits.ts';
import { portHolder } from './port-holder.ts';

interface Listener {
  readonly wanted: WantedPort;
  readonly server: Server;
  readonly hostPort: number;
}

export class PublishedPorts {
  readonly #dial: (port: number) => Promise<Socket>;
  readonly #listeners = new Map<string, Listener>();
  readonly #sockets = new Set<Socket>();
  #closed = false;
  #setting: Promise<unknown> = Promise.resolve();

  /** `dial` connects to a port of the guest. */
  constructor(dial: (port: number) => Promise<Socket>) {
    this.#dial = dial;
  }

  /** Publishes these and no others; those that are as they were keep their connections. One result for each, in order. */
  set(wanted: readonly WantedPort[]): Promise<readonly PublishedPort[]> {
    const set = this.#setting.then(() => this.#set(wanted));
    this.#setting = set.catch(() => {});
    return set;
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
        const { hostPort } = this.#listeners.get(name) ?? (await this.#publish(each));
        results.push({ name, hostIP, hostPort });
      } catch (error) {
        results.push({ name, problem: await explain(each, error) });
      }
    }
    return results;
  }

  async #publish(wanted: WantedPort): Promise<Listener> {
    let open = 0;
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
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
    if (this.#closed) {
      server.close();
      throw new Error('The VM is gone.');
    }
    const { port } = server.address() as AddressInfo;
    const listener = { wanted, server, hostPort: port };
    this.#listeners.set(wanted.name, listener);
    return listener;
  }

  /** Nobody new comes in; connections that stand go on. */
  #unpublish(name: string): void {
    this.#listeners.get(name)?.server.close();
    this.#listeners.delete(name);
  }

  async #carry(client: Socket, port: number): Promise<void> {
    this.#hold(client);
    let guest: Socket;
    try {
      guest = await this.#dial(port);
    } catch {
      client.resetAndDestroy();
      return;
    }
    this.#hold(guest);
    if (client.destroyed || this.#closed) {
      guest.destroy();
      return;
    }
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

  #hold(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.#sockets.delete(socket));
  }
}

function isSame(a: WantedPort, b: WantedPort): boolean {
  return a.name === b.name && a.port === b.port && a.hostIP === b.hostIP && a.hostPort === b.hostPort;
}

async function explain({ hostIP, hostPort = 0 }: WantedPort, error: unknown): Promise<string> {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  const where = `${hostIP.includes(':') ? `[${hostIP}]` : hostIP}:${hostPort}`;
  if (code === 'EADDRINUSE') {
    const holder = await portHolder(hostPort);
    return `${where} is taken${holder === undefined ? '' : ` by ${holder}`}.`;
  }
  if (code === 'EADDRNOTAVAIL') return `${hostIP} is no address of this host.`;
  return error instanceof Error ? error.message : String(error);
}
