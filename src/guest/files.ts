// Files of the guest, as sessions: the flow control and the resuming of exec serve them too.
import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { BulkheadError } from '../api/errors.ts';
import type { FileRemoval, GuestFile, GuestFiles, GuestProcess, ProcessExit } from './agent.ts';
import type { HostBody } from './connection.ts';
import { FileEntryDecoder } from './file-entries.ts';
import { type FileAction, Removal } from './generated/agent_pb.js';
import { MAX_PATH_BYTES, MAX_TEXT, OUTPUT_WINDOW_BYTES } from './limits.ts';

/** Starts a session; see Sessions. */
export interface SessionStarter {
  start(
    sessionId: string,
    body: HostBody,
    how: { stdin: boolean },
    signal?: AbortSignal,
  ): Promise<GuestProcess>;
}

const REMOVALS: Record<FileRemoval, Removal> = {
  file: Removal.FILE,
  'empty-directory': Removal.EMPTY_DIRECTORY,
  tree: Removal.TREE,
};

function fileSessionId(): string {
  return `file-${randomBytes(12).toString('hex')}`;
}

/** A path that the guest can take, without slashes at its end. Throws INVALID. */
function guestPath(path: string): string {
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
function failure(what: string, words: string): BulkheadError {
  return new BulkheadError('FILE_FAILED', `${what}: ${words.trim() || 'the guest gave no reason'}`);
}

export class SessionFiles implements GuestFiles {
  readonly #starter: SessionStarter;

  constructor(starter: SessionStarter) {
    this.#starter = starter;
  }

  async read(
    path: string,
    options: { offset?: number; length?: number } = {},
    signal?: AbortSignal,
  ): Promise<Readable> {
    const { offset = 0, length = 0 } = options;
    const process = await this.#start(
      {
        case: 'readFile',
        value: {
          sessionId: fileSessionId(),
          path: guestPath(path),
          outputCredit: OUTPUT_WINDOW_BYTES,
          offset: BigInt(offset),
          // 0 means to the end.
          length: BigInt(length),
        },
      },
      false,
      signal,
    );
    const bytes = output(process, `reading ${path} failed`);
    return Readable.from(bytes, { objectMode: false, highWaterMark: OUTPUT_WINDOW_BYTES / 4 });
  }

  async write(
    path: string,
    content: AsyncIterable<Uint8Array>,
    options: { mode: number; user?: string },
    signal?: AbortSignal,
  ): Promise<void> {
    const { mode, user = '' } = options;
    const process = await this.#start(
      { case: 'writeFile', value: { sessionId: fileSessionId(), path: guestPath(path), mode, user } },
      true,
      signal,
    );
    const { stdin } = process;
    if (!stdin) throw new BulkheadError('INTERNAL', 'a file transfer without a stream');
    try {
      const complaint = collectText(process);
      const sending = pipeline(
        Readable.from(content, { objectMode: false }),
        stdin,
        signal ? { signal } : {},
      );
      // A disk that fills up ends the process before the content; then its own words say why.
      const broken = await sending.then(
        () => undefined,
        (error: unknown) => error,
      );
      if (broken !== undefined && !isPrematureClose(broken)) throw broken;
      const exit = await process.exited;
      if (exit.exitCode !== 0) throw failure(`writing ${path} failed`, await complaint);
    } finally {
      await process.release().catch(() => {});
    }
  }

  async stat(path: string, options: { follow?: boolean } = {}, signal?: AbortSignal): Promise<GuestFile> {
    const action = { case: 'stat', value: { follow: options.follow === true } } as const;
    for await (const entry of this.#entries(path, action, signal)) return entry;
    throw failure(`looking at ${path} failed`, '');
  }

  list(path: string, signal?: AbortSignal): AsyncIterable<GuestFile> {
    return this.#entries(path, { case: 'list', value: {} }, signal);
  }

  makeDirectory(
    path: string,
    options: { mode: number; parents: boolean },
    signal?: AbortSignal,
  ): Promise<void> {
    return this.#act(path, { case: 'makeDirectory', value: options }, 'making the directory', signal);
  }

  remove(path: string, what: FileRemoval, signal?: AbortSignal): Promise<void> {
    return this.#act(path, { case: 'remove', value: { what: REMOVALS[what] } }, 'removing', signal);
  }

  rename(from: string, to: string, signal?: AbortSignal): Promise<void> {
    return this.#act(from, { case: 'rename', value: { to: guestPath(to) } }, 'renaming', signal);
  }

  copy(from: string, to: string, signal?: AbortSignal): Promise<void> {
    return this.#act(from, { case: 'copy', value: { to: guestPath(to) } }, 'copying', signal);
  }

  symlink(path: string, target: string, signal?: AbortSignal): Promise<void> {
    return this.#act(path, { case: 'symlink', value: { target } }, 'making the link', signal);
  }

  sync(signal?: AbortSignal): Promise<void> {
    return this.#act('/etc', { case: 'sync', value: {} }, 'syncing the disk of', signal);
  }

  async #act(path: string, action: Action, verb: string, signal?: AbortSignal): Promise<void> {
    const process = await this.#startAction(path, action, signal);
    try {
      const complaint = collectText(process);
      const exit = await ended(process, signal);
      if (exit.exitCode !== 0) throw failure(`${verb} ${path} failed`, await complaint);
    } finally {
      await process.release().catch(() => {});
    }
  }

  async *#entries(path: string, action: Action, signal?: AbortSignal): AsyncGenerator<GuestFile> {
    const process = await this.#startAction(path, action, signal);
    const decoder = new FileEntryDecoder();
    for await (const chunk of output(process, `listing ${path} failed`)) yield* decoder.push(chunk);
    decoder.end();
  }

  #startAction(path: string, action: Action, signal?: AbortSignal): Promise<GuestProcess> {
    const head = { sessionId: fileSessionId(), path: guestPath(path), outputCredit: OUTPUT_WINDOW_BYTES };
    return this.#start({ case: 'fileAction', value: { ...head, action } }, false, signal);
  }

  async #start(
    body: HostBody & { value: { sessionId?: string } },
    stdin: boolean,
    signal?: AbortSignal,
  ): Promise<GuestProcess> {
    try {
      return await this.#starter.start(body.value.sessionId ?? '', body, { stdin }, signal);
    } catch (error) {
      // What the file system of a guest says is no fault of this host.
      if (error instanceof BulkheadError && error.code === 'INTERNAL')
        throw new BulkheadError('FILE_FAILED', error.message, { cause: error });
      throw error;
    }
  }
}

type Action =
  Exclude<FileAction['action'], { case: undefined }> extends infer Each
    ? Each extends { case: infer Case; value: infer Value }
      ? { case: Case; value: Omit<Value, '$typeName' | '$unknown'> }
      : never
    : never;

/** What comes on stdout; then how it ended. Returning early ends the transfer. */
async function* output(process: GuestProcess, what: string): AsyncGenerator<Uint8Array, void, undefined> {
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
async function ended(process: GuestProcess, signal?: AbortSignal): Promise<ProcessExit> {
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
