// The daemon's side of the gateway.
import { connect, type Socket } from 'node:net';
import { BulkheadError } from '../../api/errors.ts';
import type { FlowEntry } from '../../api/wire.ts';
import type { Gateway, GatewayNetwork } from '../host-networks.ts';
import type { NamespaceHolder } from '../network-plane.ts';
import {
  type Attached,
  CONTROL_VERSION,
  type ControlRequest,
  readMessages,
  writeMessage,
} from './control.ts';
import type { GatewayCounters, SandboxRefusals } from './flow-log.ts';
import { CONTROL_TIMEOUT_MS } from './limits.ts';

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

export class GatewayClient implements Gateway {
  readonly #socket: Socket;
  readonly #waiting = new Map<number, Waiting>();
  #next = 1;
  /** Of the gateway. */
  pid = 0;
  /** Resolves when the gateway is gone or no longer answers. */
  readonly closed: Promise<void>;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    socket.on('error', () => {});
    socket.on('close', () => this.#lost());
    readMessages(socket, (message) => this.#receive(message));
  }

  /** Fails with NETWORK_UNAVAILABLE where no gateway of this version listens. */
  static async connect(path: string): Promise<GatewayClient> {
    const socket = connect(path);
    const client = new GatewayClient(socket);
    try {
      const hello = await client.#call({ method: 'hello' });
      if (!isRecord(hello) || hello.version !== CONTROL_VERSION || typeof hello.pid !== 'number')
        throw unavailable('it is of another version');
      client.pid = hello.pid;
      return client;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  /** Opens the network of a sandbox under this policy, with these ports. Safe to repeat. */
  async attach(uid: string, holder: NamespaceHolder, wanted: GatewayNetwork): Promise<Attached> {
    const call = { method: 'attach', uid, holder, ...wanted } as const;
    return (await this.#call(call)) as Attached;
  }

  async detach(uid: string): Promise<void> {
    await this.#call({ method: 'detach', uid });
  }

  /** The last decisions, oldest first. */
  async log(uid: string): Promise<readonly FlowEntry[]> {
    // The gateway is the same build's and speaks the same version.
    return (await this.#call({ method: 'log', uid })) as readonly FlowEntry[];
  }

  async refusals(): Promise<readonly SandboxRefusals[]> {
    return (await this.#call({ method: 'refusals' })) as readonly SandboxRefusals[];
  }

  async uses(): Promise<readonly string[]> {
    return (await this.#call({ method: 'uses' })) as readonly string[];
  }

  async counters(): Promise<GatewayCounters> {
    return (await this.#call({ method: 'counters' })) as GatewayCounters;
  }

  /** Lets go of the connection; the gateway goes on. */
  close(): void {
    this.#socket.destroy();
  }

  #call(request: ControlRequest): Promise<unknown> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) {
        reject(unavailable('it is gone'));
        return;
      }
      // A gateway that is stuck is as good as none.
      const late = setTimeout(() => this.#socket.destroy(), CONTROL_TIMEOUT_MS);
      const settle =
        <T>(done: (value: T) => void) =>
        (value: T) => {
          clearTimeout(late);
          this.#waiting.delete(id);
          done(value);
        };
      this.#waiting.set(id, { resolve: settle(resolve), reject: settle(reject) });
      writeMessage(this.#socket, { ...request, id });
    });
  }

  #receive(message: unknown): void {
    if (!isRecord(message) || typeof message.id !== 'number') {
      this.#socket.destroy();
      return;
    }
    const waiting = this.#waiting.get(message.id);
    if (typeof message.error === 'string') waiting?.reject(unavailable(message.error));
    else waiting?.resolve(message.result);
  }

  #lost(): void {
    for (const { reject } of [...this.#waiting.values()]) reject(unavailable('it is gone'));
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function unavailable(why: string): BulkheadError {
  return new BulkheadError('NETWORK_UNAVAILABLE', `The gateway did not do it: ${why}`);
}
