// The words between the daemon and its gateway: JSON, one message a line, on a socket that only their user may open.
import type { Socket } from 'node:net';
import type { NamespaceHolder, PublishedPort, WantedPort } from '../network-plane.ts';
import type { EffectivePolicy } from '../policy/effective.ts';
import type { InterceptionInputs } from './interceptor.ts';
import { CONTROL_MESSAGE_MAX } from './limits.ts';

/** Of these messages. A daemon does not use a gateway of another version. */
export const CONTROL_VERSION = 4;

/** The descriptor on which a gateway finds its listening socket: its daemon made it, so that nobody waits for it to be there. */
export const LISTENER_FD = 3;

export type ControlRequest =
  | { readonly method: 'hello' }
  /** Opens a sandbox's network, or takes it as it is where the same process holds it, and programs its policy. */
  | {
      readonly method: 'attach';
      readonly uid: string;
      readonly holder: NamespaceHolder;
      readonly policy: EffectivePolicy;
      readonly interception: InterceptionInputs;
      readonly ports: readonly WantedPort[];
    }
  | { readonly method: 'detach' | 'log'; readonly uid: string }
  /** `refusals` gives those since it was last asked; `uses` the uids of sandboxes whose published ports were used since then. */
  | { readonly method: 'counters' | 'refusals' | 'uses' };

/** Answer to `attach`. */
export interface Attached {
  /** Of the policy that is in force. */
  readonly hash: string;
  readonly ports: readonly PublishedPort[];
}

export type ControlCall = ControlRequest & { readonly id: number };

export type ControlReply =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: string };

/** Calls back with each message; destroys the socket at the first that is none or too long. */
export function readMessages(socket: Socket, receive: (message: unknown) => void): void {
  let held: Buffer[] = [];
  let size = 0;
  socket.on('data', (chunk: Buffer) => {
    let rest = chunk;
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      const line = Buffer.concat([...held, rest.subarray(0, end)]).toString();
      held = [];
      size = 0;
      rest = rest.subarray(end + 1);
      let message: unknown;
      try {
        message = JSON.parse(line);
      } catch {
        socket.destroy();
        return;
      }
      receive(message);
    }
    held.push(rest);
    size += rest.length;
    if (size > CONTROL_MESSAGE_MAX) socket.destroy();
  });
}

export function writeMessage(socket: Socket, message: ControlCall | ControlReply): void {
  socket.write(`${JSON.stringify(message)}\n`);
}
