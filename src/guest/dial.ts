// TCP connections that the guest makes for the host, as sessions.
import { randomBytes } from 'node:crypto';
import { Duplex } from 'node:stream';
import { BulkheadError } from '../api/errors.ts';
import { parseIp } from './addresses.ts';
import type { GuestProcess } from './agent.ts';
import type { SessionStarter } from './file-sessions.ts';
import { OUTPUT_WINDOW_BYTES } from './limits.ts';

/** What agents that know connections say of themselves. */
const DIAL_FEATURE = 'dial';

/** See `GuestAgent.dial`. */
export async function dialGuest(
  starter: SessionStarter,
  features: readonly string[],
  { address, port }: { address: string; port: number },
  signal?: AbortSignal,
): Promise<Duplex> {
  if (!features.includes(DIAL_FEATURE)) {
    throw new BulkheadError(
      'NOT_SUPPORTED',
      'the agent of this VM is of an earlier release, which makes no connections; restart the sandbox.',
    );
  }
  const sessionId = `dial-${randomBytes(12).toString('hex')}`;
  const value = { sessionId, ip: parseIp(address), port, outputCredit: OUTPUT_WINDOW_BYTES };
  try {
    return new GuestConnection(
      await starter.start(sessionId, { case: 'dial', value }, { stdin: true }, signal),
    );
  } catch (error) {
    // What the network of a guest says is no fault of this host.
    if (error instanceof BulkheadError && error.code === 'INTERNAL')
      throw new BulkheadError('DIAL_FAILED', error.message, { cause: error });
    throw error;
  }
}

/** The session as a socket would be. Destroying it ends the connection. */
class GuestConnection extends Duplex {
  readonly #process: GuestProcess;
  #wanted: (() => void) | undefined;

  constructor(process: GuestProcess) {
    super({ allowHalfOpen: true });
    this.#process = process;
    void this.#receive();
  }

  override _read(): void {
    this.#wanted?.();
    this.#wanted = undefined;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    // A side that takes no more may still have something to say: its end tells.
    this.#process.stdin?.write(chunk, () => done());
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#process.stdin?.end();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this._read();
    this.#process.release().catch(() => {});
    done(error);
  }

  async #receive(): Promise<void> {
    try {
      for await (const { stream, data, lostBefore } of this.#process.output()) {
        if (this.destroyed) return;
        if (lostBefore > 0) throw new BulkheadError('AGENT_UNREACHABLE', 'part of a connection was lost');
        if (stream === 'stdout' && !this.push(data)) {
          await new Promise<void>((resolve) => {
            this.#wanted = resolve;
          });
        }
      }
      this.push(null);
    } catch (error) {
      this.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  }
}
