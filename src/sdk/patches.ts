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
  /** Permission bits. */
  mode?: number;
}

export const Patch = {
  text: (path: string, content: string, options: { mode?: number } = {}): PatchConfig => ({
    ...{ kind: 'text', path, content, ...options },
  }),
  mkdir: (path: string, options: { mode?: number } = {}): PatchConfig => ({
    ...{ kind: 'mkdir', path, ...options },
  }),
  append: (path: string, content: string): PatchConfig => ({ kind: 'append', path, content }),
  copyFile: (src: string, dst: string): PatchConfig => ({ kind: 'copyFile', src, dst }),
  copyDir: (src: string, dst: string): PatchConfig => ({ kind: 'copyDir', src, dst }),
  symlink: (target: string, link: string): PatchConfig => ({ kind: 'symlink', target, path: link }),
  remove: (path: string): PatchConfig => ({ kind: 'remove', path }),
} as const;

function patchOf(patch: PatchConfig, index: number): Record<string, unknown> {
  const { kind, path, content, src, dst, target, mode } = patch;
  const bits = mode === undefined ? {} : { mode: mode.toString(8).padStart(4, '0') };
  switch (kind) {
    case 'text':
      return { text: { path, content, ...bits } };
    case 'mkdir':
      return { mkdir: { path, ...bits } };
    case 'append':
      return { append: { path, content } };
    case 'copyFile':
    case 'copyDir':
      return { copy: { from: src, path: dst } };
    case 'symlink':
      return { symlink: { path, target } };
    case 'remove':
      return { remove: { path } };
    default:
      throw failure('INVALID', `patches[${index}]: there is no kind "${String(kind)}"`);
  }
}

/** `patches` of a spec. */
export function patchesOf(patches: readonly PatchConfig[] | undefined): Record<string, unknown> {
  return patches === undefined || patches.length === 0 ? {} : { patches: patches.map(patchOf) };
}
