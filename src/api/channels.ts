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
  /** Server to client, Bulkhead's own, only where `started` was asked for: `{"pid": 42}`, before any output. */
  started: 6,
  /** v5: the payload is the one channel that will carry nothing more. */
  close: 255,
} as const;

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
