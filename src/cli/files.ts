// The documents of -f: files, folders and standard input, validated with their places.
import { readdir, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import type { Command } from 'commander';
import { kindNamed } from '../api/kinds.ts';
import { formatManifestError, type ManifestError } from '../api/manifest/manifest-error.ts';
import type { ManifestDocument } from '../api/manifest/read.ts';
import { readManifestFile, readManifestStream } from '../api/manifest/read-file.ts';
import type { ResourceKind } from '../api/meta.ts';
import { CommandFailure, EXIT, pathProblem, usage } from './failure.ts';

const EXTENSIONS = ['.yaml', '.yml', '.json'];
/** A folder of manifests, not a file system. */
const FILES_MAX = 10_000;

/** Adds -f, which may be repeated. */
export function fileOption(command: Command): Command {
  return command.option(
    '-f, --filename <path>',
    'file, folder or - for standard input; may be repeated',
    (path: string, paths: string[] = []) => [...paths, path],
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

export interface Documents {
  objects: ManifestDocument[];
  errors: ManifestError[];
}

/** Reads every document of every path. Mistakes are collected, not thrown; a path that is not there is. */
export async function readDocuments(
  paths: readonly string[] | undefined,
  namespace: string,
): Promise<Documents> {
  if (paths === undefined || paths.length === 0) throw usage('say which files, with -f');
  const documents: Documents = { objects: [], errors: [] };
  const add = ({ objects, errors }: Documents) => {
    documents.objects.push(...objects);
    documents.errors.push(...errors);
  };
  for (const path of paths) {
    if (path === '-') {
      add(await readManifestStream(process.stdin, 'standard input', { namespace }));
      continue;
    }
    const found = await stat(path).catch((error: unknown) => {
      throw new CommandFailure(EXIT.usage, pathProblem(path, error));
    });
    const files = found.isDirectory() ? await filesOf(path) : [path];
    for (const file of files) add(await readManifestFile(file, { namespace }));
  }
  return documents;
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
