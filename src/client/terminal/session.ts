// Connects this process's terminal, or pipes, to a command in a sandbox, and puts the terminal back whatever happens.
import { constants } from 'node:os';
import { Transform, type Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { deferred } from '../deferred.ts';
import type { StreamConnection, StreamExit } from '../stream.ts';

export interface SessionOptions {
  /** Sends standard input. */
  stdin: boolean;
  /** The command has a terminal: input goes to it key by key, and its size follows the window. */
  tty: boolean;
  /** Passes INT, TERM, HUP and QUIT on; without it they end the session only. */
  forwardSignals: boolean;
  /** Keys that end the session and not the command. */
  detachKeys?: Uint8Array;
  /** How to end it so; default: the connection is closed. */
  leave?: () => void;
}

/** `detached`: the command goes on. `abandoned`: it was not waited for any longer; `exitCode` is 128 + the signal's number. */
export type SessionEnd =
  | { type: 'exited'; exit: StreamExit }
  | { type: 'detached' }
  | { type: 'abandoned'; exitCode: number };

const FORWARDED: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'];
/** So many INTs and TERMs end the session itself, as with `docker run`: a command may ignore them, or be past hearing them. */
const PATIENCE_SIGNALS = 3;
const ENDING: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM'];
/** Output that stays unread for so long after the command's end has no reader. */
const DRAIN_MS = 10_000;

/** The size of the window, where there is one. */
export function windowSize(): { columns: number; rows: number } | undefined {
  const { columns, rows } = process.stdout;
  return process.stdout.isTTY && columns > 0 && rows > 0 ? { columns, rows } : undefined;
}

/** Runs until the command ends, or the user detaches or has asked for the end again and again. */
export async function runSession(connection: StreamConnection, options: SessionOptions): Promise<SessionEnd> {
  const cleanUp: (() => void)[] = [];
  try {
    return await connectStreams(connection, options, (undo) => cleanUp.unshift(undo));
  } finally {
    for (const undo of cleanUp) undo();
  }
}

async function connectStreams(
  connection: StreamConnection,
  options: SessionOptions,
  defer: (undo: () => void) => void,
): Promise<SessionEnd> {
  const { promise: left, resolve: leave } = deferred<SessionEnd>();
  if (options.tty) defer(rawMode());
  if (options.tty) defer(followWindow(connection));
  defer(
    options.forwardSignals
      ? forwardSignals(connection, (exitCode) => leave({ type: 'abandoned', exitCode }))
      : onSignals(() => leave({ type: 'detached' })),
  );
  if (options.stdin) {
    const input = sendInput(connection.stdin, options.detachKeys, () => leave({ type: 'detached' }));
    defer(input);
  } else connection.stdin.end();
  const output = Promise.all([
    copy(connection.stdout, process.stdout),
    copy(connection.stderr, process.stderr),
  ]);
  const exited = connection.exited.then(async (exit): Promise<SessionEnd> => {
    await Promise.race([output, timeout(DRAIN_MS)]);
    return { type: 'exited', exit };
  });
  const end = await Promise.race([exited, left]);
  if (end.type !== 'exited') {
    exited.catch(() => {});
    if (end.type === 'detached' && options.leave !== undefined) options.leave();
    else connection.close();
  }
  return end;
}

function timeout(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}

async function copy(from: NodeJS.ReadableStream, to: Writable): Promise<void> {
  // The target is this process's own stream: it is not ended, and a reader that is gone is main's affair.
  from.pipe(to, { end: false });
  await finished(from).catch(() => {});
}

/** Key-by-key input without echo. The returned function, and the end of the process in any way, put it back. */
function rawMode(): () => void {
  const { stdin } = process;
  if (!stdin.isTTY) return () => {};
  const restore = () => {
    stdin.setRawMode(false);
  };
  stdin.setRawMode(true);
  process.once('exit', restore);
  return () => {
    process.off('exit', restore);
    restore();
  };
}

function followWindow(connection: StreamConnection): () => void {
  const resize = () => {
    const size = windowSize();
    if (size !== undefined) connection.resize(size);
  };
  process.stdout.on('resize', resize);
  resize();
  return () => {
    process.stdout.off('resize', resize);
  };
}

function onSignals(handle: (name: NodeJS.Signals) => void): () => void {
  const handlers = FORWARDED.map((name) => {
    const handler = () => handle(name);
    process.on(name, handler);
    return () => process.off(name, handler);
  });
  return () => {
    for (const off of handlers) off();
  };
}

function forwardSignals(connection: StreamConnection, giveUp: (exitCode: number) => void): () => void {
  let asked = 0;
  return onSignals((name) => {
    if (ENDING.includes(name)) asked++;
    if (asked < PATIENCE_SIGNALS) connection.signal(name);
    else giveUp(128 + constants.signals[name]);
  });
}

/** Ends the stream at the detach keys, which are not sent. */
function detachFilter(keys: Uint8Array, detach: () => void): Transform {
  const wanted = Buffer.from(keys);
  let held: Buffer = Buffer.alloc(0);
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const input = Buffer.concat([held, chunk]);
      const found = input.indexOf(wanted);
      if (found !== -1) {
        this.push(input.subarray(0, found));
        detach();
        done();
        return;
      }
      const keep = partialMatch(input, wanted);
      held = input.subarray(input.length - keep);
      done(null, input.subarray(0, input.length - keep));
    },
    flush(done) {
      done(null, held);
    },
  });
}

/** How many bytes at the end of the input may be the beginning of the keys. */
function partialMatch(input: Buffer, keys: Buffer): number {
  for (let length = Math.min(keys.length - 1, input.length); length > 0; length--) {
    if (input.subarray(input.length - length).equals(keys.subarray(0, length))) return length;
  }
  return 0;
}

/** Until the returned function is called, which leaves standard input to whoever reads it next. */
function sendInput(to: Writable, detachKeys: Uint8Array | undefined, detach: () => void): () => void {
  const { stdin } = process;
  const filter =
    detachKeys === undefined || detachKeys.length === 0 ? undefined : detachFilter(detachKeys, detach);
  const first = filter ?? to;
  filter?.pipe(to);
  // A standard input that broke has no more to say.
  const end = () => first.end();
  stdin.once('error', end);
  stdin.ref?.();
  stdin.pipe(first);
  return () => {
    stdin.off('error', end);
    stdin.unpipe(first);
    filter?.unpipe(to);
    stdin.pause();
    // A pipe or terminal that is still open would keep this process alive.
    stdin.unref?.();
  };
}

/** `ctrl-]`, `ctrl-p,ctrl-q` or single characters. */
export function parseDetachKeys(text: string): Uint8Array | undefined {
  if (text === '') return new Uint8Array();
  const bytes = text.split(',').map((key) => {
    const [, letter] = /^ctrl-([a-z@[\\\]^_])$/.exec(key) ?? [];
    if (letter !== undefined) return letter.toUpperCase().charCodeAt(0) & 0x1f;
    return key.length === 1 ? key.charCodeAt(0) : Number.NaN;
  });
  return bytes.some((byte) => Number.isNaN(byte) || byte > 255) ? undefined : Uint8Array.from(bytes);
}
