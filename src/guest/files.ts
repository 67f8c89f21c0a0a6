// Files of the guest, as sessions: the flow control and the resuming of exec serve them too.
import { Readable } from 'node:stream';
import type { FileContent, FileRemoval, GuestFile, GuestFiles, GuestProcess, NewFile } from './agent.ts';
import { FileEntryDecoder } from './file-entries.ts';
import {
  collectText,
  ended,
  failure,
  fileSessionId,
  guestPath,
  output,
  type SessionStarter,
  send,
  startFileSession,
} from './file-sessions.ts';
import { type FileAction, Removal } from './generated/agent_pb.js';
import { OUTPUT_WINDOW_BYTES } from './limits.ts';
import { readMany, writeMany } from './many-files.ts';

/** Of agents that read and write many files in one session. */
const MANY_FILES_FEATURE = 'many-files';
const REMOVALS: Record<FileRemoval, Removal> = {
  file: Removal.FILE,
  'empty-directory': Removal.EMPTY_DIRECTORY,
  tree: Removal.TREE,
};

export class SessionFiles implements GuestFiles {
  readonly #starter: SessionStarter;
  readonly #hasMany: () => boolean;

  /** `features`: what the agent says that it can do. */
  constructor(starter: SessionStarter, features: () => readonly string[]) {
    this.#starter = starter;
    this.#hasMany = () => features().includes(MANY_FILES_FEATURE);
  }

  async read(
    path: string,
    options: { offset?: number; length?: number } = {},
    signal?: AbortSignal,
  ): Promise<Readable> {
    const { offset = 0, length = 0 } = options;
    const process = await startFileSession(
      this.#starter,

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
    const process = await startFileSession(
      this.#starter,

      { case: 'writeFile', value: { sessionId: fileSessionId(), path: guestPath(path), mode, user } },
      true,
      signal,
    );
    const failed = (_exit: unknown, words: string) => failure(`writing ${path} failed`, words);
    await send(process, content, failed, signal);
  }

  writeMany(files: Iterable<NewFile>, options: { user?: string } = {}, signal?: AbortSignal): Promise<void> {
    const starter = this.#hasMany() ? this.#starter : undefined;
    return writeMany(this, starter, files, options, signal);
  }

  readMany(
    paths: readonly string[],
    options: { contentMax: number },
    signal?: AbortSignal,
  ): AsyncIterable<FileContent> {
    return readMany(this, this.#hasMany() ? this.#starter : undefined, paths, options, signal);
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
    return startFileSession(this.#starter, { case: 'fileAction', value: { ...head, action } }, false, signal);
  }
}

type Action =
  Exclude<FileAction['action'], { case: undefined }> extends infer Each
    ? Each extends { case: infer Case; value: infer Value }
      ? { case: Case; value: Omit<Value, '$typeName' | '$unknown'> }
      : never
    : never;
