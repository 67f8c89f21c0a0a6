// bulkhead delete
import type { Command } from 'commander';
import { asBulkheadError } from '../api/errors.ts';
import type { ResourceKind, StoredObject } from '../api/meta.ts';
import type { BulkheadClient } from '../client/client.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { parseDuration } from './duration.ts';
import { CommandFailure, EXIT, report, usage } from './failure.ts';
import { fileOption, kindOfDocument, readDocuments, reportMistakes } from './files.ts';
import { warnIfFromFolder } from './folder-warning.ts';
import { getNamed, parseTargets, qualifiedSingular } from './targets.ts';
import { followEach, goneGoal, waitFor } from './waiting.ts';

interface Options extends ConnectionOptions {
  filename?: string[];
  selector?: string;
  all?: true;
  allNamespaces?: true;
  wait: boolean;
  timeout?: string;
  gracePeriod?: string;
  now?: true;
  ignoreNotFound?: true;
}

interface Doomed {
  kind: ResourceKind;
  object: StoredObject;
}

/** kubectl's own: without --timeout a deletion is waited for as long as it takes; a week is as good as that. */
const WAIT_MS_MAX = 7 * 24 * 3_600_000;

export function define(command: Command): void {
  fileOption(connectionOptions(command))
    .argument('[target...]', 'KIND NAME..., KIND/NAME..., or KIND with -l or --all')
    .option('-l, --selector <labels>', 'objects with these labels')
    .option('--all', 'every object of the kind in the namespace')
    .option('-A, --all-namespaces', 'with -l or --all: of every namespace')
    .option('--wait [yes]', 'wait until they are gone', (text: string) => text !== 'false', true)
    .option('--no-wait', 'do not wait')
    .option('--timeout <duration>', 'how long to wait at most')
    .option('--grace-period <seconds>', 'time for a sandbox to end by itself')
    .option('--now', 'the same as --grace-period=1')
    .option('--ignore-not-found', 'a missing object is no failure')
    .action(remove);
}

function graceOf({ gracePeriod, now }: Options): number | undefined {
  if (now) return 1;
  if (gracePeriod === undefined) return undefined;
  if (!/^\d{1,6}$/.test(gracePeriod)) throw usage(`--grace-period "${gracePeriod}": expected whole seconds`);
  return Number(gracePeriod);
}

async function remove(words: string[], options: Options): Promise<void> {
  const grace = graceOf(options);
  await withClient(options, async (client) => {
    const { doomed, missing } = await select(client, words, options);
    let failed = missing;
    const accepted: Doomed[] = [];
    for (const each of doomed) {
      try {
        await removeOne(client, each, grace);
        accepted.push(each);
      } catch (error) {
        if (asBulkheadError(error).code === 'NOT_FOUND') continue;
        report(error);
        failed = true;
      }
    }
    if (options.wait) failed = !(await waitUntilGone(client, accepted, options)) || failed;
    if (failed) throw new CommandFailure(EXIT.failed);
  });
}

async function removeOne(client: BulkheadClient, { kind, object }: Doomed, grace: number | undefined) {
  const { namespace, name, uid } = object.metadata;
  warnIfFromFolder(object);
  await client.delete(kind, namespace, name, {
    preconditions: { uid },
    ...(grace === undefined ? {} : { gracePeriodSeconds: grace }),
  });
  process.stdout.write(`${qualifiedSingular(kind)} "${name}" deleted\n`);
}

/** What is to go, found before the first of it goes. */
async function select(client: BulkheadClient, words: string[], options: Options) {
  const { namespace, selector, all, allNamespaces, filename, ignoreNotFound } = options;
  const doomed: Doomed[] = [];
  let missing = false;
  const add = async (kind: ResourceKind, within: string, name: string) => {
    try {
      doomed.push({ kind, object: await getNamed(client, kind, within, name) });
    } catch (error) {
      if (asBulkheadError(error).code !== 'NOT_FOUND') throw error;
      if (ignoreNotFound) return;
      report(error);
      missing = true;
    }
  };
  if (filename !== undefined) {
    const { objects, errors } = await readDocuments(filename, namespace);
    reportMistakes(errors);
    missing = errors.length > 0;
    // Backwards: what refers to others goes before them.
    for (const document of objects.toReversed()) {
      const { metadata } = document.manifest;
      await add(kindOfDocument(document), metadata.namespace ?? namespace, metadata.name);
    }
  } else if (words.length === 0) throw usage('say what to delete: KIND NAME, or -f FILE');
  for (const { kind, name } of words.length > 0 ? parseTargets(words) : []) {
    if (name !== undefined) await add(kind, namespace, name);
    else if (selector === undefined && !all) throw usage('name the objects, or give -l or --all');
    else {
      const query = {
        ...(allNamespaces ? {} : { namespace }),
        ...(selector === undefined ? {} : { labelSelector: selector }),
      };
      const { items } = await client.list(kind, query);
      doomed.push(...items.map((object) => ({ kind, object })));
    }
  }
  if (doomed.length === 0 && !missing) process.stderr.write('No resources found.\n');
  return { doomed, missing };
}

async function waitUntilGone(client: BulkheadClient, doomed: readonly Doomed[], { timeout }: Options) {
  const ms = timeout === undefined ? WAIT_MS_MAX : parseDuration(timeout);
  const deadline = AbortSignal.timeout(Math.max(1, Math.min(ms, WAIT_MS_MAX)));
  const results = await followEach(doomed, ({ kind, object: { metadata } }) =>
    waitFor(client, { kind, ...metadata }, goneGoal(metadata.uid), deadline),
  );
  for (const result of results) if (result.status === 'rejected') report(result.reason);
  return results.every(({ status }) => status === 'fulfilled');
}
