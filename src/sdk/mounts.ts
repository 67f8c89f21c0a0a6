// What is mounted into a sandbox.
import { failure } from './errors.ts';

export interface MountConfig {
  /** Path on the host, beneath a root that the operator allows. */
  bind?: string;
  /** Name of a Volume. */
  named?: string;
  /** Memory of the guest. */
  tmpfs?: boolean;
  /** Bound of a tmpfs. */
  sizeMib?: number;
  readonly?: boolean;
}

export const Mount = {
  /** A directory of the host. */
  bind: (path: string, options: { readonly?: boolean } = {}): MountConfig => ({ bind: path, ...options }),
  /** A Volume, by name. */
  named: (name: string, options: { readonly?: boolean } = {}): MountConfig => ({ named: name, ...options }),
  /** Memory, empty at each start. */
  tmpfs: (options: { sizeMib?: number; readonly?: boolean } = {}): MountConfig => ({
    ...{ tmpfs: true, ...options },
  }),
} as const;

/** Of a tmpfs that does not say how large it may get. */
const DEFAULT_TMPFS_MIB = 64;

function sourceOf({ bind, named, tmpfs, sizeMib }: MountConfig, path: string): Record<string, unknown> {
  const given = [bind !== undefined, named !== undefined, tmpfs === true].filter(Boolean);
  if (given.length !== 1)
    throw failure('INVALID', `volumes["${path}"]: give exactly one of bind, named and tmpfs`);
  if (bind !== undefined) return { hostPath: { path: bind } };
  if (named !== undefined) return { volume: { name: named } };
  return { tmpfs: { size: `${sizeMib ?? DEFAULT_TMPFS_MIB}Mi` } };
}

/** `volumes` and `volumeMounts` of a spec. */
export function volumesOf(mounts: Record<string, MountConfig> | undefined): Record<string, unknown> {
  const entries = Object.entries(mounts ?? {});
  if (entries.length === 0) return {};
  return {
    volumes: entries.map(([path, mount], index) => ({
      ...{ name: `mount-${index}`, ...sourceOf(mount, path) },
    })),
    volumeMounts: entries.map(([mountPath, { readonly }], index) => ({
      ...{ name: `mount-${index}`, mountPath },
      ...(readonly === undefined ? {} : { readOnly: readonly }),
    })),
  };
}
