// What is known of a disk besides the disk itself: a small file in its directory, the old or the new one after a crash.
import { open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkheadError } from '../api/errors.ts';
import type { AccessMode, VolumeCheck, VolumeClaim } from './volumes.ts';

export interface VolumeRecord {
  namespace: string;
  name: string;
  accessMode: AccessMode;
  claims: readonly VolumeClaim[];
  lastCheck?: VolumeCheck;
  retainedAt?: string;
}

const RECORD_FILE = 'volume.json';
const FORMAT = 1;

export async function syncPath(path: string): Promise<void> {
  await using file = await open(path, 'r');
  await file.sync();
}

export async function writeRecord(dir: string, record: VolumeRecord): Promise<void> {
  const path = join(dir, RECORD_FILE);
  const temporary = `${path}.tmp`;
  try {
    {
      await using file = await open(temporary, 'w', 0o600);
      await file.writeFile(JSON.stringify({ version: FORMAT, ...record }));
      await file.sync();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncPath(dir);
}

/** Fails with VOLUME_UNAVAILABLE when there is none that can be understood: who has the disk is unknown then. */
export async function readRecord(dir: string): Promise<VolumeRecord> {
  const path = join(dir, RECORD_FILE);
  try {
    return parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (error) {
    const message = `${path} cannot be understood: ${error instanceof Error ? error.message : String(error)}`;
    throw new BulkheadError('VOLUME_UNAVAILABLE', message, { cause: error });
  }
}

type Fields = Record<string, unknown>;

function fieldsOf(value: unknown): Fields {
  if (typeof value !== 'object' || value === null) throw new TypeError('an object was expected');
  return { ...value };
}

function text(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value !== 'string') throw new TypeError(`${name} is missing`);
  return value;
}

function oneOf<const Values extends readonly string[]>(
  fields: Fields,
  name: string,
  values: Values,
): Values[number] {
  const found = values.find((each) => each === fields[name]);
  if (found === undefined) throw new TypeError(`${name} is none of ${values.join(', ')}`);
  return found;
}

function parse(value: unknown): VolumeRecord {
  const fields = fieldsOf(value);
  if (fields.version !== FORMAT) throw new TypeError(`version ${String(fields.version)} is unknown`);
  if (!Array.isArray(fields.claims)) throw new TypeError('claims is missing');
  return {
    namespace: text(fields, 'namespace'),
    name: text(fields, 'name'),
    accessMode: oneOf(fields, 'accessMode', ['ReadWriteOnce', 'ReadOnlyMany']),
    claims: fields.claims.map((each: unknown) => {
      const claim = fieldsOf(each);
      return {
        sandbox: text(claim, 'sandbox'),
        name: text(claim, 'name'),
        mode: oneOf(claim, 'mode', ['ReadWrite', 'ReadOnly']),
        ...(claim.resting === true ? { resting: true } : {}),
      };
    }),
    ...(fields.lastCheck === undefined ? {} : { lastCheck: parseCheck(fields.lastCheck) }),
    ...(fields.retainedAt === undefined ? {} : { retainedAt: text(fields, 'retainedAt') }),
  };
}

function parseCheck(value: unknown): VolumeCheck {
  const fields = fieldsOf(value);
  return {
    result: oneOf(fields, 'result', ['Clean', 'Recovered', 'Repaired']),
    message: text(fields, 'message'),
    at: text(fields, 'at'),
  };
}
