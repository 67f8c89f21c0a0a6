// bulkhead diff
import type { Command } from 'commander';
import { formatDiff } from '../api/diff.ts';
import { asBulkheadError } from '../api/errors.ts';
import type { ManifestDocument } from '../api/manifest/read.ts';
import type { ObjectManifest, StoredObject } from '../api/meta.ts';
import type { BulkheadClient } from '../client/client.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { CommandFailure, describeFailure, EXIT } from './failure.ts';
import { fileOption, kindOfDocument, readDocuments, reportMistakes } from './files.ts';

interface Options extends ConnectionOptions {
  filename?: string[];
  against?: string;
}

/** Marks that the folder source and controllers put on objects; no file says them. */
const OWN_PREFIX = 'bulkhead.dev/';

export function define(command: Command): void {
  fileOption(connectionOptions(command))
    .option('--against <path>', 'compare with this file or folder, without a daemon')
    .addHelpText('after', '\nExit codes: 0 the same, 1 there are differences, 2 a failure.')
    .action(diff);
}

async function diff(options: Options): Promise<void> {
  let differences: string;
  try {
    differences =
      options.against === undefined
        ? await againstDaemon(options)
        : await againstFiles(options, options.against);
  } catch (error) {
    throw new CommandFailure(EXIT.usage, describeFailure(error));
  }
  process.stdout.write(differences);
  if (differences !== '') throw new CommandFailure(EXIT.failed);
}

async function valid(paths: readonly string[] | undefined, namespace: string): Promise<ManifestDocument[]> {
  const { objects, errors } = await readDocuments(paths, namespace);
  reportMistakes(errors);
  if (errors.length > 0) throw new CommandFailure(EXIT.usage, 'nothing is compared while files are invalid');
  return objects;
}

function againstDaemon(options: Options): Promise<string> {
  return withClient(options, async (client) => {
    const documents = await valid(options.filename, options.namespace);
    const texts: string[] = [];
    for (const document of documents) texts.push(await differenceToLive(client, document));
    return texts.join('');
  });
}

async function differenceToLive(client: BulkheadClient, document: ManifestDocument): Promise<string> {
  const { manifest } = document;
  const { name, namespace = 'default' } = manifest.metadata;
  try {
    const live = await client.get(kindOfDocument(document), namespace, name);
    return formatDiff(withoutOwnMarks(live, manifest), manifest);
  } catch (error) {
    if (asBulkheadError(error).code === 'NOT_FOUND') return formatDiff(undefined, manifest);
    throw error;
  }
}

/** The live object without the marks that are Bulkhead's own, unless the file says them itself. */
function withoutOwnMarks(live: StoredObject, manifest: ObjectManifest): StoredObject {
  const strip = (marks: Record<string, string> | undefined, said: Record<string, string> | undefined) =>
    Object.fromEntries(
      Object.entries(marks ?? {}).filter(
        ([name]) => !name.startsWith(OWN_PREFIX) || said?.[name] !== undefined,
      ),
    );
  const { metadata } = live;
  return {
    ...live,
    metadata: {
      ...metadata,
      labels: strip(metadata.labels, manifest.metadata.labels),
      annotations: strip(metadata.annotations, manifest.metadata.annotations),
    },
  };
}

/** Everything in either set of files; what only the old one has would be deleted. */
async function againstFiles(options: Options, against: string): Promise<string> {
  const keyOf = ({ manifest: { kind, metadata } }: ManifestDocument) =>
    `${kind} ${metadata.namespace ?? ''}/${metadata.name}`;
  const byKey = (documents: ManifestDocument[]) =>
    new Map(documents.map((document) => [keyOf(document), document.manifest]));
  const former = byKey(await valid([against], options.namespace));
  const latter = byKey(await valid(options.filename, options.namespace));
  return [...new Set([...former.keys(), ...latter.keys()])]
    .map((key) => formatDiff(former.get(key), latter.get(key)))
    .join('');
}
