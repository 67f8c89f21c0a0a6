// The host's end of the agent port: see host/agent for what goes over it.
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';

/** Token and status of at most three digits, with the line ends around them. */
const STATUS_DIGITS = 3;

export class AgentPort {
  readonly #socket: Socket;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Runs a shell command; its exit status. `onOutput` gets standard output and standard error as they come. */
  run(command: string, onOutput: (text: Buffer) => void): Promise<number> {
    const token = randomBytes(12).toString('hex');
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const trailer = new RegExp(`\\n${token} (\\d+)\\n`);
    const held = token.length + STATUS_DIGITS + 2;
    let pending = Buffer.alloc(0);
    const onData = (data: Buffer): void => {
      pending = Buffer.concat([pending, data]);
      const end = trailer.exec(pending.toString('latin1'));
      const known = end === null ? Math.max(0, pending.length - held) : end.index;
      if (known > 0) onOutput(pending.subarray(0, known));
      pending = pending.subarray(known);
      if (end !== null) resolve(Number(end[1]));
    };
    const onGone = (): void => reject(new Error('the agent port was closed'));
    this.#socket.on('data', onData).once('close', onGone).once('error', onGone);
    this.#socket.write(`${token} ${Buffer.from(command).toString('base64')}\n`);
    return promise.finally(() => {
      this.#socket.off('data', onData).off('close', onGone).off('error', onGone);
    });
  }

  close(): void {
    this.#socket.destroy();
  }
}
