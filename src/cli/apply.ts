// bulkhead apply
import { type Command, Option } from 'commander';
import { asBulkheadError } from '../api/errors.ts';
import type { BulkheadClient } from '../client/client.ts';
import { isUnreachable } from '../client/endpoint.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { CommandFailure, EXIT, report } from './failure.ts';
import { fileOption, kindOfDocument, type ReadDocument, readDocuments, reportMistakes } from './files.ts';
import { warnIfFromFolder } from './folder-warning.ts';
import { displayName } from './targets.ts';

interface Options extends ConnectionOptions {
  filename?: string[];
  dryRun?: 'client' | 'server';
  forceConflicts?: true;
}

/** Who set what, in Kubernetes' sense. */
const FIELD_MANAGER = 'bulkhead-cli';

export function define(command: Command): void {
  fileOption(connectionOptions(command))
    .addOption(
      new Option('--dry-run <where>', 'check only: here, or by the daemon too').choices(['client', 'server']),
    )
    .option('--force-conflicts', 'in a cluster: take over fields that others have set')
    .action(apply);
}

async function apply(options: Options): Promise<void> {
  const { objects, errors } = await readDocuments(options.filename, options.namespace, {
    asWritten: true,
  });
  reportMistakes(errors);
  let failed = errors.length > 0;
  if (objects.length === 0 && !failed) throw new CommandFailure(EXIT.failed, 'no objects found');
  await withClient(options, async (client) => {
    for (const document of objects) {
      try {
        await applyOne(client, document, options);
      } catch (error) {
        if (isUnreachable(error)) throw error;
        process.stderr.write(`${document.source}:${document.line}: `);
        report(error);
        failed = true;
      }
    }
  });
  if (failed) throw new CommandFailure(EXIT.failed);
}

async function applyOne(client: BulkheadClient, document: ReadDocument, options: Options): Promise<void> {
  const { manifest } = document;
  const kind = kindOfDocument(document);
  const name = displayName(kind, manifest.metadata.name);
  if (options.dryRun === 'client') {
    process.stdout.write(`${name} valid (client dry run)\n`);
    return;
  }
  const namespace = manifest.metadata.namespace ?? options.namespace;
  const dryRun = options.dryRun === 'server';
  const before = await client.get(kind, namespace, manifest.metadata.name).catch((error: unknown) => {
    if (asBulkheadError(error).code === 'NOT_FOUND') return undefined;
    throw error;
  });
  if (!dryRun) for (const read of document.copies) await client.copies.put(await read());
  // Whoever applies in a cluster has what he says: defaults would be in the way of those who change them.
  const { writtenSpec } = document;
  const said = client.isCluster && writtenSpec !== undefined ? { ...manifest, spec: writtenSpec } : manifest;
  const { object, created } = await client.apply(kind, namespace, said, {
    dryRun,
    fieldManager: FIELD_MANAGER,
    force: options.forceConflicts === true,
  });
  const same = !created && before?.metadata.resourceVersion === object.metadata.resourceVersion;
  const verb = created ? 'created' : same && !dryRun ? 'unchanged' : 'configured';
  process.stdout.write(`${name} ${verb}${dryRun ? ' (server dry run)' : ''}\n`);
  if (before !== undefined && verb === 'configured') warnIfFromFolder(before);
}
