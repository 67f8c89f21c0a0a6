// ConfigMaps and Secrets as files: which files a spec makes of them, and keeping those of a running guest up to date.
import { createHash } from 'node:crypto';
import type { StoredObject } from '../../../api/meta.ts';
import type { DefaultedSandbox, DefaultedSandboxSpec } from '../../../api/sandbox.ts';
import type { GuestAgent, GuestVolumeFile } from '../../../guest/agent.ts';
import type { ObjectKey, Store } from '../../../store/store.ts';
import { restartRequired } from '../decisions.ts';
import type { EffectContext } from '../effects/context.ts';
import type { MissingReference } from '../observation.ts';
import { emit } from '../recorder.ts';
import { entryName } from './spec.ts';

type Entry = NonNullable<DefaultedSandboxSpec['volumes']>[number];

/** The files of one volume. */
export interface FileVolume {
  /** In the guest. */
  name: string;
  files: GuestVolumeFile[];
  /** Of all of it; changes with every change. */
  digest: string;
}

/** The object that an entry takes its files from. */
export function fileSource({ configMap, secret }: Entry) {
  if (configMap !== undefined) return { kind: 'ConfigMap' as const, ...configMap };
  if (secret !== undefined) return { kind: 'Secret' as const, ...secret };
  return undefined;
}

/** ConfigMaps and Secrets that the spec makes files of. */
export function fileObjects({ metadata, spec }: DefaultedSandbox): ObjectKey[] {
  return (spec.volumes ?? []).flatMap((entry) => {
    const source = fileSource(entry);
    return source === undefined
      ? []
      : [{ kind: source.kind, namespace: metadata.namespace, name: source.name }];
  });
}

/** What of an entry's source is not there and must be. */
export function missingFiles(
  entry: Entry,
  index: number,
  object: StoredObject | undefined,
): MissingReference[] {
  const source = fileSource(entry);
  if (source === undefined || source.optional === true) return [];
  const { kind, name, items = [] } = source;
  const field = `spec.volumes[${index}].${kind === 'Secret' ? 'secret' : 'configMap'}`;
  if (object === undefined) return [{ kind, name, field }];
  return items
    .filter(({ key }) => dataOf(object, key) === undefined)
    .map(({ key }) => ({ kind, name, key, field }));
}

function dataOf({ data }: StoredObject, key: string): string | undefined {
  return data !== undefined && Object.hasOwn(data, key) ? data[key] : undefined;
}

/** As they are now. A source that must be there and is not is left out: the guest keeps what it had. */
async function fileVolumes(store: Store, { metadata, spec }: DefaultedSandbox): Promise<FileVolume[]> {
  const volumes: FileVolume[] = [];
  for (const [index, entry] of (spec.volumes ?? []).entries()) {
    const source = fileSource(entry);
    if (source === undefined) continue;
    const { kind, name } = source;
    const object = await store.get({ kind, namespace: metadata.namespace, name });
    if (missingFiles(entry, index, object).length > 0) continue;
    const files = object === undefined ? [] : filesOf(source, object);
    const hash = createHash('sha256');
    for (const { path, mode, content } of files) {
      hash.update(JSON.stringify([path, mode, content.length]));
      hash.update(content);
    }
    volumes.push({ name: entryName(entry.name), files, digest: hash.digest('hex') });
  }
  return volumes;
}

function filesOf(
  source: NonNullable<ReturnType<typeof fileSource>>,
  object: StoredObject,
): GuestVolumeFile[] {
  const { kind, defaultMode = '0644' } = source;
  const items: readonly { key: string; path: string; mode?: string }[] =
    source.items ?? Object.keys(object.data ?? {}).map((key) => ({ key, path: key }));
  return items.flatMap(({ key, path, mode = defaultMode }) => {
    const value = dataOf(object, key);
    if (value === undefined) return [];
    const content = Buffer.from(value, kind === 'Secret' ? 'base64' : 'utf8');
    return [{ path, mode: Number.parseInt(mode, 8), content }];
  });
}

/** Writes what the guest does not have yet. */
export async function writeFiles(
  { deps, runtime, object }: EffectContext,
  agent: GuestAgent,
  signal: AbortSignal,
): Promise<void> {
  for (const { name, files, digest } of await fileVolumes(deps.store, object)) {
    if (runtime.guest.fileDigests[name] === digest) continue;
    await agent.writeVolumeFiles(name, files, signal);
    runtime.guest.fileDigests = { ...runtime.guest.fileDigests, [name]: digest };
  }
}

/**
 * Is there something to write to the guest that runs? Not while the spec waits for a restart: what it says of volumes is not
 * what the guest has mounted.
 */
export async function filesChanged({ deps, runtime, object, observation }: EffectContext): Promise<boolean> {
  if (fileObjects(object).length === 0 || restartRequired(observation)) return false;
  const volumes = await fileVolumes(deps.store, object);
  const wanted = volumes.map(({ digest }) => digest).join(' ');
  // What failed for other files is tried with these.
  if (runtime.filesTried !== wanted) runtime.tasks.outdate('files');
  runtime.filesTried = wanted;
  return volumes.some(({ name, digest }) => runtime.guest.fileDigests[name] !== digest);
}

export async function updateFiles(context: EffectContext, signal: AbortSignal): Promise<void> {
  const { agent } = context.runtime;
  if (agent === undefined) return;
  try {
    await writeFiles(context, agent, signal);
  } catch (error) {
    if (!signal.aborted)
      emit(
        context.deps.recorder,
        context.object,
        'FailedUpdate',
        `Files of volumes could not be updated: ${error instanceof Error ? error.message : String(error)}`,
      );
    throw error;
  }
}
