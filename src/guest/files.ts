// Files of the guest, as sessions: the flow control and the resuming of exec serve them too.
import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { BulkheadError } from '../api/errors.ts';
import type { GuestProcess } from './agent.ts';
import type { HostBody } from './connection.ts';
import { MAX_TEXT, OUTPUT_WINDOW_BYTES } from './limits.ts';

/** Starts a session; see Sessions. */
export interface SessionStarter {
  start(sessionId: string, body: HostBody, stdin: boolean, signal?: AbortSignal): Promise<GuestProcess>;
}

function fileSessionId(): string {
  return `file-${randomBytes(12).toString('hex')}`;
}

/** The content as a stream. Rejects with NOT_FOUND or INVALID when it cannot be opened; destroying it ends the transfer. */
export async function readGuestFile(
  starter: SessionStarter,
  path: string,
  signal?: AbortSignal,
): Promise<Readable> {
  const sessionId = fileSessionId();
  const process = await starter.start(
    sessionId,
    { case: 'readFile', value: { sessionId, path, outputCredit: OUTPUT_WINDOW_BYTES } },
    false,
    signal,
  );
  return Readable.from(content(process, path), { objectMode: false, highWaterMark: OUTPUT_WINDOW_BYTES / 4 });
}

async function* content(process: GuestProcess, path: string): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    let complaint = '';
    for await (const chunk of process.output()) {
      if (chunk.lostBefore > 0)
        throw new BulkheadError(
          'AGENT_UNREACHABLE',
          `part of ${path} was lost while the guest could not be reached`,
        );
      if (chunk.stream === 'stdout') yield chunk.data;
      else complaint = appendText(complaint, chunk.data);
    }
    const exit = await process.exited;
    if (exit.exitCode !== 0)
      throw new BulkheadError('INTERNAL', `reading ${path} in the guest failed: ${complaint.trim()}`);
  } finally {
    // The transfer is over either way; a guest that is gone has nothing to release.
    await process.release().catch(() => {});
  }
}

function appendText(text: string, data: Uint8Array): string {
  return (text + Buffer.from(data).toString('utf8')).slice(0, MAX_TEXT);
}

/** Resolves when the whole content is in place under its name; before that the old file, if any, stays. */
export async function writeGuestFile(
  starter: SessionStarter,
  path: string,
  source: AsyncIterable<Uint8Array>,
  options: { mode: number; user?: string },
  signal?: AbortSignal,
): Promise<void> {
  const sessionId = fileSessionId();
  const process = await starter.start(
    sessionId,
    { case: 'writeFile', value: { sessionId, path, mode: options.mode, user: options.user ?? '' } },
    true,
    signal,
  );
  const { stdin } = process;
  if (!stdin) throw new BulkheadError('INTERNAL', 'a file transfer without a stream');
  try {
    const complaint = collectText(process);
    const sending = pipeline(Readable.from(source, { objectMode: false }), stdin, signal ? { signal } : {});
    // A disk that fills up ends the process before the content; then its own words say why.
    const failure = await sending.then(
      () => undefined,
      (error: unknown) => error,
    );
    if (failure !== undefined && !isPrematureClose(failure)) throw failure;
    const exit = await process.exited;
    if (exit.exitCode !== 0) {
      throw new BulkheadError('INTERNAL', `writing ${path} in the guest failed: ${(await complaint).trim()}`);
    }
  } finally {
    await process.release().catch(() => {});
  }
}

async function collectText(process: GuestProcess): Promise<string> {
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
