// Changes to a sandbox's root file system before its first boot.
import { realpath, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import type { PackedCopy } from '../api/copies/pack.ts';
import { failure } from './errors.ts';

export interface PatchConfig {
  kind: 'text' | 'mkdir' | 'append' | 'copyFile' | 'copyDir' | 'symlink' | 'remove';
  /** Where in the sandbox; of a link, the link. */
  path?: string;
  content?: string;
  /** Of a copy: on this host, relative to the working directory. */
  src?: string;
  /** Of a copy: in the sandbox. */
  dst?: string;
  /** Of a link: what it says. */
  target?: string;
  /** Of a link: where it is; the same as `path`. */
  link?: string;
  /** Permission bits; of a file that is copied, those of the host's file by default. */
  mode?: number;
  /** Takes the place of a file or link that the image has there. Refused otherwise. */
  replace?: boolean;
}

export interface ReplaceOptions {
  replace?: boolean;
}

export const Patch = {
  text: (path: string, content: string, options: { mode?: number } & ReplaceOptions = {}): PatchConfig => ({
    ...{ kind: 'text', path, content, ...options },
  }),
  mkdir: (path: string, options: { mode?: number } = {}): PatchConfig => ({
    ...{ kind: 'mkdir', path, ...options },
  }),
  append: (path: string, content: string): PatchConfig => ({ kind: 'append', path, content }),
  copyFile: (src: string, dst: string, options: { mode?: number } & ReplaceOptions = {}): PatchConfig => ({
    ...{ kind: 'copyFile', src, dst, ...options },
  }),
  copyDir: (src: string, dst: string, options: ReplaceOptions = {}): PatchConfig => ({
    ...{ kind: 'copyDir', src, dst, ...options },
  }),
  symlink: (target: string, link: string, options: ReplaceOptions = {}): PatchConfig => ({
    ...{ kind: 'symlink', target, link, ...options },
  }),
  remove: (path: string): PatchConfig => ({ kind: 'remove', path }),
} as const;

const FIELDS: Readonly<Record<keyof PatchConfig, true>> = {
  ...{ kind: true, path: true, content: true, src: true, dst: true, target: true, link: true, mode: true },
  ...{ replace: true },
};

/** By index of the patch: what its copy is of. */
export type PatchDigests = ReadonlyMap<number, string>;

function patchOf(patch: PatchConfig, index: number, digests: PatchDigests): Record<string, unknown> {
  const { kind, path, content, src = '', dst, target, link = path, mode } = patch;
  const unknown = Object.keys(patch).find((field) => !Object.hasOwn(FIELDS, field));
  if (unknown !== undefined)
    throw failure('INVALID', `patches[${index}].${unknown}: a patch has no such part`);
  const bits = mode === undefined ? {} : { mode: mode.toString(8).padStart(4, '0') };
  const replace = patch.replace === undefined ? {} : { replace: patch.replace };
  switch (kind) {
    case 'text':
      return { text: { path, content, ...bits, ...replace } };
    case 'mkdir':
      return { mkdir: { path, ...bits } };
    case 'append':
      return { append: { path, content } };
    case 'copyFile':
    case 'copyDir': {
      if (src === '' || dst === undefined)
        throw failure('INVALID', `patches[${index}]: a copy needs src and dst`);
      if (kind === 'copyDir' && mode !== undefined)
        throw failure('INVALID', `patches[${index}].mode: what is in a folder keeps its own`);
      const digest = digests.get(index);
      // The object tells no paths of this host.
      return {
        copy: { from: basename(src), path: dst, ...(digest === undefined ? {} : { digest }), ...replace },
      };
    }
    case 'symlink':
      return { symlink: { path: link, target, ...replace } };
    case 'remove':
      return { remove: { path } };
    default:
      throw failure('INVALID', `patches[${index}]: there is no kind "${String(kind)}"`);
  }
}

/** `patches` of a spec. */
export function patchesOf(
  patches: readonly PatchConfig[] | undefined,
  digests: PatchDigests = new Map(),
): Record<string, unknown> {
  return patches === undefined || patches.length === 0
    ? {}
    : { patches: patches.map((patch, index) => patchOf(patch, index, digests)) };
}

/** Reads what patches copy, one after another, and has each kept where the sandbox finds it. */
export async function bringCopies(
  patches: readonly PatchConfig[] | undefined,
  keep: (copy: PackedCopy) => Promise<void>,
): Promise<PatchDigests> {
  const digests = new Map<number, string>();
  for (const [index, { kind, src, mode }] of (patches ?? []).entries()) {
    if (kind !== 'copyFile' && kind !== 'copyDir') continue;
    if (src === undefined || src === '') throw failure('INVALID', `patches[${index}]: src is missing`);
    const real = await realPath(src, kind, index);
    const { packCopy } = await import('../api/copies/pack.ts');
    const copy = await packCopy(dirname(real), basename(real), mode === undefined ? {} : { mode });
    await keep(copy);
    digests.set(index, copy.digest);
  }
  return digests;
}

/** What the caller names is meant, a link or not; links within it stay links. */
async function realPath(src: string, kind: 'copyFile' | 'copyDir', index: number): Promise<string> {
  try {
    const real = await realpath(src);
    if ((await stat(real)).isDirectory() === (kind === 'copyDir')) return real;
  } catch (error) {
    throw failure('INVALID', `patches[${index}]: ${src}: ${(error as Error).message}`);
  }
  throw failure('INVALID', `patches[${index}]: ${src} is ${kind === 'copyFile' ? 'a' : 'no'} folder`);
}
