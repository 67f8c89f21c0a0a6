// What a Sandbox refers to: Volumes, Secrets and ConfigMaps for its environment, Secrets with registry credentials.
import { BulkheadError } from '../../api/errors.ts';
import type { StoredObject } from '../../api/meta.ts';
import {
  DEFAULT_SECRET_LOCATIONS,
  type DefaultedSandbox,
  type SandboxEnv,
  type SandboxSecret,
} from '../../api/sandbox.ts';
import type { RegistryCredential } from '../../images/images.ts';
import { hasControl } from '../../network/secrets/sandbox-secrets.ts';
import { placeholderOf } from '../../network/secrets/secret.ts';
import type { ObjectKey, Store } from '../../store/store.ts';
import { ENV_VALUE_MAX_BYTES } from './limits.ts';
import type { MissingReference } from './observation.ts';
import { fileObjects, fileSource, missingFiles } from './volumes/files.ts';
import { wantedDisks } from './volumes/spec.ts';

const DOCKER_CONFIG_KEY = '.dockerconfigjson';

export interface ResolvedReferences {
  missing: MissingReference[];
  /** KEY=VALUE of `spec.env`, in its order, without those that are missing; then the placeholders of `spec.secrets`. */
  env: string[];
  /** Secrets of `spec.imagePullSecrets` that exist. */
  pullSecrets: StoredObject[];
  /** Changes whenever an object that is referred to changes. */
  version: string;
}

/** Does the spec refer to other objects at all? */
export function hasReferences(object: DefaultedSandbox): boolean {
  return referencedObjects(object).length > 0;
}

/** Secrets, ConfigMaps and Volumes that the spec names, in the namespace of the object. */
export function referencedObjects(object: DefaultedSandbox): ObjectKey[] {
  const { namespace } = object.metadata;
  const keys: ObjectKey[] = [];
  for (const { valueFrom } of object.spec.env ?? []) {
    if (valueFrom?.secretKeyRef) keys.push({ kind: 'Secret', namespace, name: valueFrom.secretKeyRef.name });
    if (valueFrom?.configMapKeyRef) {
      keys.push({ kind: 'ConfigMap', namespace, name: valueFrom.configMapKeyRef.name });
    }
  }
  for (const { valueFrom } of object.spec.secrets ?? [])
    keys.push({ kind: 'Secret', namespace, name: valueFrom.secretKeyRef.name });
  for (const { name } of object.spec.imagePullSecrets ?? []) keys.push({ kind: 'Secret', namespace, name });
  for (const { volume } of wantedDisks(object.spec)) keys.push({ kind: 'Volume', namespace, name: volume });
  keys.push(...fileObjects(object));
  return keys;
}

/** Reads everything the spec refers to. A value that cannot be an environment variable throws INVALID. */
export async function resolveReferences(store: Store, object: DefaultedSandbox): Promise<ResolvedReferences> {
  const found = new Map<string, StoredObject | undefined>();
  for (const key of referencedObjects(object)) {
    const id = `${key.kind}/${key.name}`;
    if (!found.has(id)) found.set(id, await store.get(key));
  }
  const result: ResolvedReferences = { missing: [], env: [], pullSecrets: [], version: '' };
  for (const [index, entry] of (object.spec.env ?? []).entries()) {
    const value = envValue(entry, `spec.env[${index}]`, found, result.missing);
    if (value !== undefined) result.env.push(`${entry.name}=${value}`);
  }
  for (const [index, secret] of (object.spec.secrets ?? []).entries()) {
    result.env.push(`${secret.env}=${placeholderOf(object.metadata.uid, secret.env)}`);
    const { name, key } = secret.valueFrom.secretKeyRef;
    const source = found.get(`Secret/${name}`);
    const raw = source?.data !== undefined && Object.hasOwn(source.data, key) ? source.data[key] : undefined;
    const problem = raw === undefined ? undefined : injectionProblem(raw, secret);
    if (raw !== undefined && problem === undefined) continue;
    result.missing.push({
      ...{ kind: 'Secret', name, field: `spec.secrets[${index}]` },
      ...(source === undefined ? {} : { key }),
      ...(problem === undefined ? {} : { problem }),
    });
  }
  for (const [index, { name }] of (object.spec.imagePullSecrets ?? []).entries()) {
    const secret = found.get(`Secret/${name}`);
    if (secret === undefined) {
      result.missing.push({ kind: 'Secret', name, field: `spec.imagePullSecrets[${index}]` });
    } else {
      result.pullSecrets.push(secret);
    }
  }
  for (const [index, { volume }] of (object.spec.volumes ?? []).entries()) {
    if (volume === undefined || found.get(`Volume/${volume.name}`) !== undefined) continue;
    result.missing.push({ kind: 'Volume', name: volume.name, field: `spec.volumes[${index}].volume` });
  }
  for (const [index, entry] of (object.spec.volumes ?? []).entries()) {
    const source = fileSource(entry);
    if (source !== undefined)
      result.missing.push(...missingFiles(entry, index, found.get(`${source.kind}/${source.name}`)));
  }
  // Of Volumes only the claims count, which come later.
  result.version = [...found.entries()]
    .filter(([id]) => !id.startsWith('Volume/'))
    .map(([id, each]) => `${id}@${each?.metadata.resourceVersion ?? ''}`)
    .join(',');
  return result;
}

function envValue(
  entry: SandboxEnv,
  field: string,
  found: Map<string, StoredObject | undefined>,
  missing: MissingReference[],
): string | undefined {
  const from = entry.valueFrom;
  if (from === undefined) return entry.value ?? '';
  const kind = from.secretKeyRef === undefined ? 'ConfigMap' : 'Secret';
  const reference = from.secretKeyRef ?? from.configMapKeyRef;
  if (reference === undefined) return '';
  const { name, key, optional } = reference;
  const source = found.get(`${kind}/${name}`);
  const data = source?.data;
  const raw = data !== undefined && Object.hasOwn(data, key) ? data[key] : undefined;
  if (raw === undefined) {
    if (optional !== true) missing.push({ kind, name, field, ...(source === undefined ? {} : { key }) });
    return undefined;
  }
  const value = kind === 'Secret' ? Buffer.from(raw, 'base64').toString('utf8') : raw;
  if (value.includes('\0') || Buffer.byteLength(value) > ENV_VALUE_MAX_BYTES) {
    throw new BulkheadError(
      'INVALID',
      `${field}: ${kind} ${name} key ${key} cannot be a variable: it is longer than ${ENV_VALUE_MAX_BYTES} bytes or holds a NUL.`,
    );
  }
  return value;
}

/** Why a value could not take the place of its placeholder; says nothing of the value itself. */
function injectionProblem(
  raw: string,
  { injectInto = DEFAULT_SECRET_LOCATIONS }: SandboxSecret,
): string | undefined {
  const value = Buffer.from(raw, 'base64').toString('utf8');
  if (value === '') return 'is empty';
  if (injectInto.includes('Headers') && hasControl(value))
    return 'holds a line break or another control character, which no header can carry (often the last line break of a file)';
  return undefined;
}

/** Credentials of `kubernetes.io/dockerconfigjson` Secrets. Throws INVALID naming the Secret, never its content. */
export function registryCredentials(secrets: readonly StoredObject[]): RegistryCredential[] {
  return secrets.flatMap((secret) => {
    try {
      const text = Buffer.from(secret.data?.[DOCKER_CONFIG_KEY] ?? '', 'base64').toString('utf8');
      return credentialsOf(JSON.parse(text));
    } catch {
      throw new BulkheadError(
        'INVALID',
        `Secret ${secret.metadata.name} holds no valid ${DOCKER_CONFIG_KEY}; make it as \`docker login\` writes its config.json.`,
      );
    }
  });
}

function credentialsOf(config: unknown): RegistryCredential[] {
  const auths = record(record(config).auths);
  return Object.entries(auths).map(([registry, value]) => {
    const { username, password, auth } = record(value);
    if (typeof username === 'string' && typeof password === 'string') return { registry, username, password };
    if (typeof auth !== 'string') throw new Error('no credentials');
    const pair = Buffer.from(auth, 'base64').toString('utf8');
    const colon = pair.indexOf(':');
    if (colon < 0) throw new Error('no user name');
    return { registry, username: pair.slice(0, colon), password: pair.slice(colon + 1) };
  });
}

function record(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('not an object');
  return value as Record<string, unknown>;
}
