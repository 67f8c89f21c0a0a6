// Changes to a sandbox's root file system before its first boot.
import { failure } from './errors.ts';

export interface PatchConfig {
  kind: 'text' | 'mkdir' | 'append' | 'copyFile' | 'copyDir' | 'symlink' | 'remove';
  /** Where in the sandbox; of a link, the link. */
  path?: string;
  content?: string;
  /** Of a copy: on the host. */
  src?: string;
  /** Of a copy: in the sandbox. */
  dst?: string;
  /** Of a link: what it says. */
  target?: string;
  /** Of a link: where it is; the same as `path`. */
  link?: string;
  /** What is there already is replaced: the default, and all there is. */
  replace?: boolean;
  /** Permission bits. */
  mode?: number;
}

export const Patch = {
  text: (path: string, content: string, options: { mode?: number; replace?: boolean } = {}): PatchConfig => ({
    ...{ kind: 'text', path, content, ...options },
  }),
  mkdir: (path: string, options: { mode?: number } = {}): PatchConfig => ({
    ...{ kind: 'mkdir', path, ...options },
  }),
  append: (path: string, content: string): PatchConfig => ({ kind: 'append', path, content }),
  copyFile: (src: string, dst: string, options: { mode?: number; replace?: boolean } = {}): PatchConfig => ({
    ...{ kind: 'copyFile', src, dst, ...options },
  }),
  copyDir: (src: string, dst: string, options: { replace?: boolean } = {}): PatchConfig => ({
    ...{ kind: 'copyDir', src, dst, ...options },
  }),
  symlink: (target: string, link: string, options: { replace?: boolean } = {}): PatchConfig => ({
    ...{ kind: 'symlink', target, link, ...options },
  }),
  remove: (path: string): PatchConfig => ({ kind: 'remove', path }),
} as const;

const FIELDS: Readonly<Record<keyof PatchConfig, true>> = {
  ...{ kind: true, path: true, content: true, src: true, dst: true, target: true, link: true, mode: true },
  ...{ replace: true },
};

function isCopy({ kind }: PatchConfig): boolean {
  return kind === 'copyFile' || kind === 'copyDir';
}

function patchOf(patch: PatchConfig, index: number): Record<string, unknown> {
  const { kind, path, content, target, link = path, mode } = patch;
  const bits = mode === undefined ? {} : { mode: mode.toString(8).padStart(4, '0') };
  switch (kind) {
    case 'text':
      return { text: { path, content, ...bits } };
    case 'mkdir':
      return { mkdir: { path, ...bits } };
    case 'append':
      return { append: { path, content } };
    case 'symlink':
      return { symlink: { path: link, target } };
    case 'remove':
      return { remove: { path } };
    default:
      throw failure('INVALID', `patches[${index}]: there is no kind "${String(kind)}"`);
  }
}

/** `patches` of a spec: all but the copies, which are files of this program's host. */
export function patchesOf(patches: readonly PatchConfig[] = []): Record<string, unknown> {
  const firstCopy = patches.findIndex(isCopy);
  for (const [index, patch] of patches.entries()) {
    const unknown = Object.keys(patch).find((field) => !Object.hasOwn(FIELDS, field));
    if (unknown !== undefined)
      throw failure('INVALID', `patches[${index}].${unknown}: a patch has no such part`);
    if (patch.replace === false)
      throw failure('NOT_SUPPORTED', `patches[${index}].replace: what is there is always replaced`);
    if (firstCopy >= 0 && index > firstCopy && !isCopy(patch))
      throw failure('NOT_SUPPORTED', `patches[${index}]: copies are made last; put this before them`);
  }
  const made = patches.filter((patch) => !isCopy(patch));
  return made.length === 0 ? {} : { patches: made.map(patchOf) };
}

/** Copies that this program makes once the guest answers, in order. */
export function copiesOf(
  patches: readonly PatchConfig[] = [],
): { src: string; dst: string; mode?: number }[] {
  return patches.flatMap((patch, index) => {
    if (!isCopy(patch)) return [];
    const { src, dst, mode } = patch;
    if (src === undefined || dst === undefined)
      throw failure('INVALID', `patches[${index}]: a copy needs src and dst`);
    return [{ src, dst, ...(mode === undefined ? {} : { mode }) }];
  });
}
