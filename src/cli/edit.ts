// bulkhead edit
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { formatManifestError } from '../api/manifest/manifest-error.ts';
import { readManifestFile } from '../api/manifest/read-file.ts';
import type { ResourceKind, StoredObject } from '../api/meta.ts';
import type { BulkheadClient } from '../client/client.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { CommandFailure, describeFailure, EXIT, usage } from './failure.ts';
import { warnIfFromFolder } from './folder-warning.ts';
import { toYaml } from './output/yaml.ts';
import { displayName, getNamed, parseTargets } from './targets.ts';

export function define(command: Command): void {
  connectionOptions(command)
    .argument('<target...>', 'KIND NAME or KIND/NAME')
    .addHelpText(
      'after',
      '\nThe editor is VISUAL or EDITOR, else vi. Leaving the text as it is changes nothing.',
    )
    .action(edit);
}

async function edit(words: string[], options: ConnectionOptions): Promise<void> {
  const [target, ...more] = parseTargets(words);
  if (target?.name === undefined || more.length > 0) throw usage('say which object: KIND NAME');
  const { kind, name } = target;
  await withClient(options, async (client) => {
    const object = await getNamed(client, kind, options.namespace, name);
    warnIfFromFolder(object);
    const folder = await mkdtemp(join(tmpdir(), 'bulkhead-edit-'));
    try {
      await editUntilAccepted(client, kind, object, join(folder, `${name}.yaml`));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
}

/** What a person may change. */
function editable({ apiVersion, kind, metadata, spec, data }: StoredObject): string {
  const { name, namespace, resourceVersion, labels, annotations } = metadata;
  return toYaml({
    apiVersion,
    kind,
    metadata: {
      name,
      namespace,
      resourceVersion,
      ...(labels === undefined ? {} : { labels }),
      ...(annotations === undefined ? {} : { annotations }),
    },
    ...(spec === undefined ? {} : { spec }),
    ...(data === undefined ? {} : { data }),
  });
}

function commented(text: string): string {
  return text
    .split('\n')
    .map((line) => `# ${line}\n`)
    .join('');
}

/** Opens the editor again with what was wrong, until it is right or left as it was. */
async function editUntilAccepted(
  client: BulkheadClient,
  kind: ResourceKind,
  object: StoredObject,
  file: string,
) {
  const { name, namespace } = object.metadata;
  let text = editable(object);
  let problem: string | undefined;
  for (;;) {
    await writeFile(file, text, { mode: 0o600 });
    openEditor(file);
    const edited = await readFile(file, 'utf8');
    if (edited === text) {
      if (problem !== undefined) throw new CommandFailure(EXIT.failed, problem);
      process.stdout.write(`Edit of ${displayName(kind, name)} left without changes.\n`);
      return;
    }
    problem = await save(client, kind, namespace, name, file);
    if (problem === undefined) {
      process.stdout.write(`${displayName(kind, name)} edited\n`);
      return;
    }
    text = `${commented(`Not saved:\n${problem}`)}${edited.replace(/^(#.*\n)+/, '')}`;
  }
}

function openEditor(file: string): void {
  const editor = process.env.VISUAL || process.env.EDITOR || 'vi';
  // Through a shell, as EDITOR may carry arguments; the file is an argument of its own.
  const { status, error } = spawnSync('/bin/sh', ['-c', `${editor} "$1"`, 'edit', file], {
    stdio: 'inherit',
  });
  if (error !== undefined)
    throw new CommandFailure(EXIT.failed, `the editor cannot be started: ${error.message}`);
  if (status !== 0)
    throw new CommandFailure(EXIT.failed, `the editor ended with ${status}; nothing is changed`);
}

/** Undefined when it is saved, else what is wrong. */
async function save(
  client: BulkheadClient,
  kind: ResourceKind,
  namespace: string,
  name: string,
  file: string,
) {
  const { objects, errors } = await readManifestFile(file, { namespace });
  if (errors.length > 0) return errors.map(formatManifestError).join('\n');
  const [document, ...more] = objects;
  if (document === undefined || more.length > 0) return 'expected exactly one object';
  const { manifest } = document;
  if (manifest.kind !== kind.kind || manifest.metadata.name !== name)
    return 'kind and name cannot be changed';
  try {
    await client.replace(kind, namespace, manifest);
    return undefined;
  } catch (error) {
    return describeFailure(error);
  }
}
