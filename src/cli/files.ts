// The documents of -f: files, folders and standard input, validated with their places.
import { readdir, stat } from 'node:fs/promises';
import { dirname, extname, join } from 'node:path';
import type { Command } from 'commander';
import { copiesOf } from '../api/copies/manifest.ts';
import { type PackedCopy, packCopy } from '../api/copies/pack.ts';
import { asBulkheadError } from '../api/errors.ts';
import { kindNamed } from '../api/kinds.ts';
import { formatManifestError, type ManifestError } from '../api/manifest/manifest-error.ts';
import type { ManifestDocument, ReadOptions, ReadResult } from '../api/manifest/read.ts';
import { readManifestFile, readManifestStream } from '../api/manifest/read-file.ts';
import type { ResourceKind } from '../api/meta.ts';
import { CommandFailure, EXIT, pathProblem, usage } from './failure.ts';
import { repeat } from './repeat.ts';

const EXTENSIONS = ['.yaml', '.yml', '.json'];
/** A folder of manifests, not a file system. */
const FILES_MAX = 10_000;

/** Adds -f, which may be repeated. */
export function fileOption(command: Command): Command {
  return command.option(
    '-f, --filename <path>',
    'file, folder or - for standard input; may be repeated',
    repeat,
  );
}

/** Manifest files of a folder and all below, in a stable order; what begins with a dot is left out. */
async function filesOf(folder: string): Promise<string[]> {
  const files: string[] = [];
  const entries = await readdir(folder, { withFileTypes: true });
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    if (entry.name.startsWith('.')) continue;
    const path = join(folder, entry.name);
    if (entry.isDirectory()) files.push(...(await filesOf(path)));
    else if (EXTENSIONS.includes(extname(entry.name))) files.push(path);
    if (files.length > FILES_MAX) throw usage(`${folder} holds more than ${FILES_MAX} manifests`);
  }
  return files;
}

/** A document with the digests of what its patches copy. */
export interface ReadDocument extends ManifestDocument {
  /** Read again when they are sent: all of them at once could be more than memory. */
  copies: (() => Promise<PackedCopy>)[];
}

export interface Documents {
  objects: ReadDocument[];
  errors: ManifestError[];
}

/** Reads every document of every path. Mistakes are collected, not thrown; a path that is not there is. */
export async function readDocuments(
  paths: readonly string[] | undefined,
  namespace: string,
  { asWritten = false }: Pick<ReadOptions, 'asWritten'> = {},
): Promise<Documents> {
  const options = { namespace, asWritten };
  if (paths === undefined || paths.length === 0) throw usage('say which files, with -f');
  const documents: Documents = { objects: [], errors: [] };
  const add = async ({ objects, errors }: ReadResult, base: string) => {
    documents.errors.push(...errors);
    for (const object of objects) {
      const read = await withCopies(object, base);
      if ('copies' in read) documents.objects.push(read);
      else documents.errors.push(read);
    }
  };
  for (const path of paths) {
    if (path === '-') {
      await add(await readManifestStream(process.stdin, 'standard input', options), process.cwd());
      continue;
    }
    const found = await stat(path).catch((error: unknown) => {
      throw new CommandFailure(EXIT.usage, pathProblem(path, error));
    });
    const files = found.isDirectory() ? await filesOf(path) : [path];
    for (const file of files) await add(await readManifestFile(file, options), dirname(file));
  }
  return documents;
}

/** What its patches copy is read from `base`; the first that cannot be is the document's mistake. */
async function withCopies(document: ManifestDocument, base: string): Promise<ReadDocument | ManifestError> {
  const { manifest, digests } = copiesOf(document.manifest);
  const copies: ReadDocument['copies'] = [];
  for (const { index, from, setDigest } of digests) {
    try {
      const { digest } = await packCopy(base, from);
      setDigest(digest);
      copies.push(() => packCopy(base, from));
    } catch (error) {
      const { source, document: number, line, column } = document;
      const path = `spec.patches[${index}].copy.from`;
      return { source, document: number, line, column, path, message: asBulkheadError(error).message };
    }
  }
  return { ...document, manifest, copies };
}

/** Says each mistake on stderr, one line each. */
export function reportMistakes(errors: readonly ManifestError[]): void {
  for (const error of errors) process.stderr.write(`${formatManifestError(error)}\n`);
}

/** The row of a document's kind; documents that were read have one. */
export function kindOfDocument({ manifest }: ManifestDocument): ResourceKind {
  const kind = kindNamed(manifest.kind);
  if (kind === undefined) throw usage(`unknown kind "${manifest.kind}"`);
  return kind;
}
