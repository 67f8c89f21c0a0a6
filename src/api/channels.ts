// The frames of an exec or attach stream: Kubernetes' WebSocket protocol `v5.channel.k8s.io`. Every binary message is
// one channel byte and a payload.

/** WebSocket subprotocols, best first. v4 lacks the close signal, so its stdin ends only with the connection. */
export const STREAM_PROTOCOLS = ['v5.channel.k8s.io', 'v4.channel.k8s.io'] as const;
export type StreamProtocol = (typeof STREAM_PROTOCOLS)[number];

/** First byte of every message. */
export const CHANNEL = {
  stdin: 0,
  stdout: 1,
  stderr: 2,
  /** Server to client, once, last: a `Status` that tells how the command ended. */
  error: 3,
  /** Client to server: `{"Width": 80, "Height": 24}`. */
  resize: 4,
  /** Client to server, Bulkhead's own: a signal name such as `SIGTERM`. Kubernetes' clients never send it. */
  signal: 5,
  /** Server to client, Bulkhead's own, only where `started` was asked for or the command is resumable: a `StartedMessage`. */
  started: 6,
  /** Server to client, of resumable commands: a `LostMessage`, before the output that follows the gap. */
  lost: 7,
  /**
   * Of resumable commands. Client to server: an `AckMessage`; the server sends at most one window ahead of it. Server to client:
   * an `InputAckMessage`; the client sends at most INPUT_WINDOW_BYTES ahead of it. So neither direction is ever held back on
   * the socket, where it would hold the other's acknowledgements back too.
   */
  ack: 8,
  /** v5: the payload is the one channel that will carry nothing more. */
  close: 255,
} as const;

/** What comes before any output. */
export interface StartedMessage {
  /** In the guest. */
  pid: number;
  /** Of resumable commands: how many bytes of stdin have arrived; what was sent behind them is to be sent again. */
  stdin?: number;
  /** How much of that the guest has been given. */
  stdinTaken?: number;
  /** Whether the end of stdin has not arrived yet. */
  stdinOpen?: boolean;
}

/** How much of stdin the guest has been given, counted from the command's first byte. */
export interface InputAckMessage {
  stdin: number;
}

/** Input of a resumable command that may be on its way to the guest: as much as the guest itself takes ahead. */
export const INPUT_WINDOW_BYTES = 256 * 1024;

/** So many bytes of the stream are gone: its next byte is that much further on. */
export interface LostMessage {
  stream: 'stdout' | 'stderr';
  bytes: number;
}

/** How much of each stream has arrived, lost bytes included, counted from the command's first byte. */
export interface AckMessage {
  stdout: number;
  stderr: number;
}

/**
 * How a client leaves a resumable command. `normal` (RFC 6455): it is to end, or has ended and its result has arrived. By any
 * other end of the connection it waits to be resumed. `resumedElsewhere`, by the server: another connection has it now.
 */
export const CLOSE_CODE = { normal: 1000, goingAway: 1001, resumedElsewhere: 4001 } as const;

/** Causes in the details of the `Status` on the error channel; the first is Kubernetes' own. */
export const EXIT_CAUSE = {
  exitCode: 'ExitCode',
  signal: 'Signal',
  timedOut: 'TimedOut',
  oomKilled: 'OOMKilled',
} as const;

/** One message of a channel. */
export function frame(channel: number, payload: Uint8Array): Buffer {
  const message = Buffer.allocUnsafe(payload.byteLength + 1);
  message[0] = channel;
  message.set(payload, 1);
  return message;
}
