// A snapshot's files as documents. A broken document is that document's failure; its file then freezes what it declared.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type CopyKeeper, withCopies } from './copies.ts';
import type { SourceDocument, SourceProblem } from './model.ts';
import type { FolderReading, FrozenPath } from './plan-parts.ts';
import type { Snapshot, SnapshotFile } from './snapshot.ts';

export interface ParsedFile {
  /** Good documents, in their order. */
  documents: SourceDocument[];
  problems: SourceProblem[];
}

/** Reads the documents of one file; never throws for what the bytes are. */
export type ParseFile = (bytes: Uint8Array, file: string) => ParsedFile;

/** Parsing is synchronous, and the daemon serves others meanwhile. */
const FILES_PER_TURN = 16;

/** Remembers what each file parsed to, so that a pass costs parsing only where bytes changed. */
export class FolderReader {
  readonly #parse: ParseFile;
  readonly #copies: CopyKeeper;
  #parsed = new Map<string, { digest: string; file: ParsedFile }>();

  constructor(parse: ParseFile, copies: CopyKeeper) {
    this.#parse = parse;
    this.#copies = copies;
  }

  async read(snapshot: Snapshot): Promise<FolderReading> {
    const parsed = new Map<string, { digest: string; file: ParsedFile }>();
    const documents: SourceDocument[] = [];
    const frozen: FrozenPath[] = [];
    for (const [index, file] of snapshot.files.entries()) {
      if (index % FILES_PER_TURN === FILES_PER_TURN - 1) await nextTurn();
      const known = this.#parsed.get(file.path);
      const entry =
        known?.digest === file.digest
          ? known
          : { digest: file.digest, file: this.#parse(file.bytes, file.path) };
      parsed.set(file.path, entry);
      const problems = [...entry.file.problems];
      for (const document of entry.file.documents) {
        // The files that a patch copies change without their manifest.
        const copied = await withCopies(document, snapshot.realRoot, this.#copies);
        if (copied.type === 'read') documents.push(copied.document);
        else problems.push(copied.problem);
      }
      if (problems.length > 0) frozen.push(frozenFile(file, problems));
    }
    this.#parsed = parsed;

    let pruneBlocked: string | undefined;
    for (const { path, kind, message } of snapshot.failures) {
      const text = `${path === '' ? 'the folder' : path}: ${message}`;
      const problem: SourceProblem = { reason: 'SourceInvalid', message: text, file: path };
      if (kind === 'unreadable') pruneBlocked ??= `not everything could be read (${text})`;
      // What is refused is left out on purpose: a claim elsewhere is no guess about it.
      frozen.push({ path, problems: [problem], mentions: () => kind === 'unreadable' });
    }
    return { documents, frozen, ...(pruneBlocked === undefined ? {} : { pruneBlocked }) };
  }
}

function frozenFile(file: SnapshotFile, problems: SourceProblem[]): FrozenPath {
  let text: string | undefined;
  return {
    path: file.path,
    problems,
    mentions(name) {
      text ??= file.bytes.toString('latin1');
      return hasWord(text, name);
    },
  };
}

const NAME_CHARACTER = /[a-z0-9.-]/;

/** True when `name` stands in the text as a whole name, not as a part of a longer one. */
function hasWord(text: string, name: string): boolean {
  for (let at = text.indexOf(name); at >= 0; at = text.indexOf(name, at + 1)) {
    const before = text.charAt(at - 1);
    const after = text.charAt(at + name.length);
    if (!NAME_CHARACTER.test(before) && !NAME_CHARACTER.test(after)) return true;
  }
  return false;
}
