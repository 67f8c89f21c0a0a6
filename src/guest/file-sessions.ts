// What every session about files of the guest has in common.
import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { BulkheadError } from '../api/errors.ts';
import type { GuestProcess, ProcessExit } from './agent.ts';
import type { HostBody } from './connection.ts';
import { FailureCode } from './generated/agent_pb.js';
import { MAX_PATH_BYTES, MAX_TEXT } from './limits.ts';
import { toError } from './messages.ts';

/** Starts a session; see Sessions. */
export interface SessionStarter {
  start(
    sessionId: string,
    body: HostBody,
    how: { stdin: boolean },
    signal?: AbortSignal,
  ): Promise<GuestProcess>;
}

export function fileSessionId(): string {
  return `file-${randomBytes(12).toString('hex')}`;
}

/** A path that the guest can take, without slashes at its end. Throws INVALID. */
export function guestPath(path: string): string {
  const problem = !path.startsWith('/')
    ? 'must be absolute'
    : path.includes('\0')
      ? 'must not contain NUL'
      : Buffer.byteLength(path) > MAX_PATH_BYTES
        ? `must have at most ${MAX_PATH_BYTES} bytes`
        : '';
  if (problem !== '') throw new BulkheadError('INVALID', `the path "${path.slice(0, 64)}" ${problem}`);
  return path.replace(/\/+$/, '') || '/';
}

/** The guest's words for what went wrong, as the failure of this operation alone. */
export function failure(what: string, words: string): BulkheadError {
  return new BulkheadError('FILE_FAILED', `${what}: ${words.trim() || 'the guest gave no reason'}`);
}

/** Starts a session about files. */
export async function startFileSession(
  starter: SessionStarter,
  body: HostBody & { value: { sessionId?: string } },
  stdin: boolean,
  signal?: AbortSignal,
): Promise<GuestProcess> {
  try {
    return await starter.start(body.value.sessionId ?? '', body, { stdin }, signal);
  } catch (error) {
    // What the file system of a guest says is no fault of this host.
    if (error instanceof BulkheadError && error.code === 'INTERNAL')
      throw new BulkheadError('FILE_FAILED', error.message, { cause: error });
    throw error;
  }
}

/** Sends the content and waits for the end. `failed` makes a failure of how the session ended and what it said. */
export async function send(
  process: GuestProcess,
  content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  failed: (exit: ProcessExit, words: string) => BulkheadError,
  signal?: AbortSignal,
): Promise<void> {
  const { stdin } = process;
  if (!stdin) throw new BulkheadError('INTERNAL', 'a file transfer without a stream');
  try {
    const complaint = collectText(process);
    const sending = pipeline(Readable.from(content, { objectMode: false }), stdin, signal ? { signal } : {});
    // A disk that fills up ends the process before the content; then its own words say why.
    const broken = await sending.then(
      () => undefined,
      (error: unknown) => error,
    );
    if (broken !== undefined && !isPrematureClose(broken)) throw broken;
    const exit = await process.exited;
    if (exit.exitCode !== 0) throw failed(exit, await complaint);
  } finally {
    await process.release().catch(() => {});
  }
}

/** What a session about many files ended with: its exit code is a FailureCode. */
export function failureOfMany(what: string, { exitCode }: ProcessExit, words: string): BulkheadError {
  const code = FailureCode[exitCode ?? 0] === undefined ? FailureCode.FAILURE_IO : (exitCode ?? 0);
  if (code === FailureCode.FAILURE_IO || code === FailureCode.FAILURE_UNSPECIFIED)
    return failure(what, words);
  const { code: ours, message } = toError({ code, message: words.trim() } as Parameters<typeof toError>[0]);
  return new BulkheadError(ours, message);
}

/** What comes on stdout; then how it ended. Returning early ends the transfer. */
export async function* output(
  process: GuestProcess,
  what: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    let complaint = '';
    for await (const chunk of process.output()) {
      if (chunk.lostBefore > 0)
        throw new BulkheadError('AGENT_UNREACHABLE', `${what}: part was lost while the guest was away`);
      if (chunk.stream === 'stdout') yield chunk.data;
      else complaint = appendText(complaint, chunk.data);
    }
    const exit = await process.exited;
    if (exit.exitCode !== 0) throw failure(what, complaint);
  } finally {
    // The transfer is over either way; a guest that is gone has nothing to release.
    await process.release().catch(() => {});
  }
}

/** The end of the process, or TIMEOUT when nobody waits any longer; its release then ends it. */
export async function ended(process: GuestProcess, signal?: AbortSignal): Promise<ProcessExit> {
  if (signal === undefined) return await process.exited;
  const { promise, reject } = Promise.withResolvers<never>();
  const giveUp = (): void =>
    reject(new BulkheadError('TIMEOUT', 'waiting for the guest to finish was given up'));
  signal.addEventListener('abort', giveUp, { once: true });
  if (signal.aborted) giveUp();
  try {
    return await Promise.race([process.exited, promise]);
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}

function appendText(text: string, data: Uint8Array): string {
  return (text + Buffer.from(data).toString('utf8')).slice(0, MAX_TEXT);
}

export async function collectText(process: GuestProcess): Promise<string> {
  let text = '';
  try {
    for await (const chunk of process.output()) text = appendText(text, chunk.data);
  } catch {
    // Whoever waits for the exit is told the same.
  }
  return text;
}

function isPrematureClose(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_STREAM_PREMATURE_CLOSE';
}
