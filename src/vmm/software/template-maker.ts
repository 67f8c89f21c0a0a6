// Makes a template: boots a machine in the same jail as any other, brings its guest to the point worth saving, saves.
import { randomBytes } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { mkdir, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { BulkheadError } from '../../api/errors.ts';
import { MAX_DISK_BYTES } from '../../volumes/disk.ts';
import { fileDigest } from '../file-digest.ts';
import { releaseVm } from '../vm-launch.ts';
import type { SoftwareHost } from './host.ts';
import { type Machine, startMachine } from './machine.ts';
import { awaitAgentPortIdle, saveState } from './migration.ts';
import { untilStalled } from './stall-watch.ts';
import { fileIdentity, type TemplateSpec } from './template-key.ts';

export const RAM_FILE = 'ram';
export const STATE_FILE = 'state';
export const UPPER_FILE = 'upper';
export const TEMPLATE_RECORD = 'template.json';

/**
 * Size of the disks of a generic template. It must not be smaller than any clone's: the image disk cannot be resized
 * later, being read-only, but EROFS knows its own size.
 */
const PLACEHOLDER_BYTES = 4 * 1024 ** 4;

/** Brings a booted guest to the state that clones wake up in. Its connection must be closed when it resolves. */
export type PrepareGuest = (
  dial: (signal: AbortSignal) => Promise<Duplex>,
  spec: TemplateSpec,
  signal: AbortSignal,
) => Promise<void>;

/** What template.json says; a folder without it is no template. */
export interface TemplateRecord {
  version: 2;
  fingerprint: string;
  memoryBytes: number;
  stateDigest: string;
  /** `fileIdentity` of the memory file: it is written once. */
  ramIdentity: string;
}

/** Name prefix of the machines that make templates. */
const MAKER_PREFIX = 'template-';

/** Is a folder of this name the workplace of a maker, not a finished template? */
export function isMaker(name: string): boolean {
  return name.startsWith(MAKER_PREFIX);
}

/** Makes the template's folder. Gives the sealed memory file, which is the caller's to close. */
export async function makeTemplate(
  host: SoftwareHost,
  prepare: PrepareGuest,
  spec: TemplateSpec,
  target: { dir: string; fingerprint: string },
  signal: AbortSignal,
): Promise<number> {
  const id = `${MAKER_PREFIX}${randomBytes(8).toString('hex')}`;
  const dir = join(host.stateDir, 'templates', id);
  const result = join(dir, 'result');
  const ramFd = host.library.memfdCreate('bulkhead-template', spec.memoryBytes);
  try {
    await mkdir(result, { recursive: true, mode: 0o700 });
    await runTemplate(host, prepare, spec, { id, dir, result, ramFd }, signal);
    host.library.memfdSeal(ramFd);
    await host.library.sparseCopyFd(ramFd, join(result, RAM_FILE));
    const record: TemplateRecord = {
      version: 2,
      fingerprint: target.fingerprint,
      memoryBytes: spec.memoryBytes,
      stateDigest: await fileDigest(join(result, STATE_FILE)),
      ramIdentity: await fileIdentity(join(result, RAM_FILE)),
    };
    // Nothing is synced: a template fits only this boot of the host, so no power cut can leave half of one behind.
    await writeFile(join(result, TEMPLATE_RECORD), JSON.stringify(record), { mode: 0o600 });
    await rm(target.dir, { recursive: true, force: true });
    await rename(result, target.dir);
    return ramFd;
  } catch (error) {
    closeSync(ramFd);
    throw error;
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

interface Workplace {
  id: string;
  dir: string;
  /** Becomes the template. */
  result: string;
  ramFd: number;
}

async function runTemplate(
  host: SoftwareHost,
  prepare: PrepareGuest,
  spec: TemplateSpec,
  place: Workplace,
  signal: AbortSignal,
): Promise<void> {
  const disks = await makeDisks(host, spec, place);
  const machine: Machine = await startMachine(
    host,
    {
      ...{ id: place.id, dir: place.dir, cpus: spec.cpus, memoryBytes: spec.memoryBytes },
      ...{ imagePath: disks.image, upperPath: disks.upper, volumes: disks.volumes },
      memory: { kind: 'template', fd: place.ramFd },
    },
    signal,
  );
  const room = new AbortController();
  const over = new AbortController();
  void untilStalled(machine.qmp, AbortSignal.any([signal, over.signal])).then(
    () =>
      room.abort(
        new BulkheadError('DISK_FULL', `the file system of ${place.dir} has no room for a template`),
      ),
    () => undefined, // the session ended, which those who use it see too
  );
  const wanted = AbortSignal.any([signal, room.signal]);
  try {
    await prepare((dialSignal) => machine.vm.dialAgent(dialSignal), spec, wanted);
    await awaitAgentPortIdle(machine.qmp, wanted);
    const stateFd = openSync(join(place.result, STATE_FILE), 'wx', 0o600);
    try {
      await saveState(machine.qmp, stateFd, wanted);
    } finally {
      closeSync(stateFd);
    }
  } catch (error) {
    // Whatever it broke, a guest that stands still is the cause.
    room.signal.throwIfAborted();
    throw error;
  } finally {
    over.abort();
    machine.qmp.close();
    await machine.vm.kill();
    await releaseVm(host, place.id);
  }
}

interface TemplateDisks {
  image: string;
  upper: string;
  volumes: readonly { path: string; readOnly: boolean }[];
}

/** The disks that the guest of the template sees. Of an image's, the upper one is part of the template. */
async function makeDisks(host: SoftwareHost, spec: TemplateSpec, place: Workplace): Promise<TemplateDisks> {
  const placeholder = async (name: string, bytes: number): Promise<string> => {
    const path = join(place.dir, name);
    await writeFile(path, '', { mode: 0o600, flag: 'wx' });
    await truncate(path, bytes);
    return path;
  };
  const volumes: { path: string; readOnly: boolean }[] = [];
  for (const [index, { readOnly }] of spec.volumes.entries())
    volumes.push({ path: await placeholder(`volume${index}`, MAX_DISK_BYTES), readOnly });
  if (spec.kind === 'image' && spec.image) {
    const upper = join(place.result, UPPER_FILE);
    await host.disks.create(upper, spec.upperSizeBytes ?? 0);
    return { image: spec.image.path, upper, volumes };
  }
  return {
    image: await placeholder('image', PLACEHOLDER_BYTES),
    upper: await placeholder('upper', PLACEHOLDER_BYTES),
    volumes,
  };
}
