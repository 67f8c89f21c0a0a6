// Many files in one session of the guest: what each costs by itself is a process there, and two ways to it and back.
import { buffer } from 'node:stream/consumers';
import { create } from '@bufbuild/protobuf';
import { sizeDelimitedEncode } from '@bufbuild/protobuf/wire';
import { BulkheadError } from '../api/errors.ts';
import type { FileContent, GuestFile, GuestFiles, NewFile } from './agent.ts';
import { FileEntryDecoder } from './file-entries.ts';
import {
  failureOfMany,
  fileSessionId,
  guestPath,
  output,
  type SessionStarter,
  send,
  startFileSession,
} from './file-sessions.ts';
import { protocolError } from './frames.ts';
import { FileHeadSchema, FileKind } from './generated/agent_pb.js';
import { MANY_FILES_CONTENT_BYTES, MANY_FILES_MAX, OUTPUT_WINDOW_BYTES } from './limits.ts';

/** The operations that do it one by one. */
type OneByOne = Pick<GuestFiles, 'write' | 'makeDirectory' | 'symlink' | 'stat' | 'read'>;
type WriteOptions = { user?: string };

/** See `GuestFiles.writeMany`. Without a starter the agent knows no such session. */
export async function writeMany(
  files: OneByOne,
  starter: SessionStarter | undefined,
  all: Iterable<NewFile>,
  options: WriteOptions,
  signal?: AbortSignal,
): Promise<void> {
  const rest = new Rest(all, starter !== undefined);
  while (!rest.isEmpty) {
    signal?.throwIfAborted();
    if (starter !== undefined && rest.isSmall)
      await writeTogether(starter, rest.takeSmall(), options, signal);
    else await writeOne(files, rest.take(), options, signal);
  }
}

/** What is yet to be made. */
class Rest {
  readonly #files: Iterator<NewFile>;
  readonly #canJoin: boolean;
  #next: IteratorResult<NewFile>;

  constructor(files: Iterable<NewFile>, canJoin: boolean) {
    this.#files = files[Symbol.iterator]();
    this.#canJoin = canJoin;
    this.#next = this.#files.next();
  }

  get isEmpty(): boolean {
    return this.#next.done === true;
  }

  /** Can the next one be made together with others? */
  get isSmall(): boolean {
    const { done, value } = this.#next;
    return (
      done !== true &&
      this.#canJoin &&
      (value.kind !== 'file' || value.content.length <= MANY_FILES_CONTENT_BYTES)
    );
  }

  take(): NewFile {
    const { value } = this.#next as IteratorYieldResult<NewFile>;
    this.#next = this.#files.next();
    return value;
  }

  *takeSmall(): Generator<NewFile> {
    while (this.isSmall) yield this.take();
  }
}

function writeOne(
  files: OneByOne,
  file: NewFile,
  options: WriteOptions,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { path } = file;
  if (file.kind === 'directory') return files.makeDirectory(path, { mode: file.mode, parents: true }, signal);
  if (file.kind === 'symlink') return files.symlink(path, file.target, signal);
  return files.write(path, once(file.content), { mode: file.mode, ...options }, signal);
}

async function* once(content: Uint8Array): AsyncGenerator<Uint8Array> {
  if (content.length > 0) yield content;
}

async function writeTogether(
  starter: SessionStarter,
  files: Iterable<NewFile>,
  { user = '' }: WriteOptions,
  signal: AbortSignal | undefined,
): Promise<void> {
  const value = { sessionId: fileSessionId(), user };
  const process = await startFileSession(starter, { case: 'writeFiles', value }, true, signal);
  await send(
    process,
    encoded(files),
    (exit, words) => failureOfMany('writing files failed', exit, words),
    signal,
  );
}

const KINDS = {
  file: FileKind.REGULAR,
  directory: FileKind.DIRECTORY,
  symlink: FileKind.SYMLINK,
} as const;

function* encoded(files: Iterable<NewFile>): Generator<Uint8Array> {
  for (const file of files) {
    const content = file.kind === 'file' ? file.content : undefined;
    const head = create(FileHeadSchema, {
      path: guestPath(file.path),
      kind: KINDS[file.kind],
      ...(file.kind === 'symlink' ? { target: file.target } : { mode: file.mode }),
      ...(content === undefined ? {} : { size: content.length }),
    });
    yield sizeDelimitedEncode(FileHeadSchema, head);
    if (content !== undefined && content.length > 0) yield content;
  }
}

/** See `GuestFiles.readMany`. */
export async function* readMany(
  files: OneByOne,
  starter: SessionStarter | undefined,
  paths: readonly string[],
  { contentMax }: { contentMax: number },
  signal?: AbortSignal,
): AsyncGenerator<FileContent> {
  if (paths.length > MANY_FILES_MAX)
    throw new BulkheadError('TOO_LARGE', `${paths.length} files are more than ${MANY_FILES_MAX}`);
  const guestPaths = paths.map(guestPath);
  if (guestPaths.length === 0) return;
  if (starter === undefined) yield* readOneByOne(files, guestPaths, contentMax, signal);
  else yield* readTogether(starter, guestPaths, contentMax, signal);
}

async function* readOneByOne(
  files: OneByOne,
  paths: readonly string[],
  contentMax: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<FileContent> {
  for (const path of paths) {
    const file = await files.stat(path, { follow: true }, signal);
    if (file.kind !== 'file') throw new BulkheadError('INVALID', `${path} is no regular file`);
    if (file.sizeBytes > contentMax) yield { file };
    // The length of none is that to the end.
    else if (file.sizeBytes === 0) yield { file, content: Buffer.alloc(0) };
    else yield { file, content: await buffer(await files.read(path, { length: file.sizeBytes }, signal)) };
  }
}

async function* readTogether(
  starter: SessionStarter,
  paths: readonly string[],
  contentMax: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<FileContent> {
  const value = {
    sessionId: fileSessionId(),
    paths: [...paths],
    contentMax,
    outputCredit: OUTPUT_WINDOW_BYTES,
  };
  const process = await startFileSession(starter, { case: 'readFiles', value }, false, signal);
  const decoder = new ManyFilesDecoder(paths.length, contentMax);
  for await (const piece of output(process, 'reading files failed')) yield* decoder.push(piece);
  decoder.end();
}

/** Files out of the bytes of a session. Memory: one content, whatever a guest says of its size. */
export class ManyFilesDecoder {
  readonly #entries = new FileEntryDecoder();
  readonly #contentMax: number;
  #missing: number;
  #current: { file: GuestFile; pieces: Buffer[]; rest: number } | undefined;

  /** `count`: files that were asked for. */
  constructor(count: number, contentMax: number) {
    this.#missing = count;
    this.#contentMax = contentMax;
  }

  /** The files that are complete with this piece. Throws AGENT_PROTOCOL. */
  *push(piece: Uint8Array): Generator<FileContent> {
    this.#entries.add(piece);
    for (let file = this.#next(); file !== undefined; file = this.#next()) yield file;
  }

  #next(): FileContent | undefined {
    if (this.#current === undefined) {
      const file = this.#entries.entry();
      if (file === undefined) return undefined;
      if (file.kind !== 'file' || --this.#missing < 0) throw protocolError('a file that was not asked for');
      if (file.sizeBytes > this.#contentMax) return { file };
      this.#current = { file, pieces: [], rest: file.sizeBytes };
    }
    const current = this.#current;
    const piece = this.#entries.content(current.rest);
    if (piece.length > 0) current.pieces.push(Buffer.from(piece));
    current.rest -= piece.length;
    if (current.rest > 0) return undefined;
    this.#current = undefined;
    return { file: current.file, content: Buffer.concat(current.pieces) };
  }

  /** Nothing follows. Throws AGENT_PROTOCOL where something is missing. */
  end(): void {
    this.#entries.end();
    if (this.#current !== undefined || this.#missing > 0) throw protocolError('fewer files than it promised');
  }
}
