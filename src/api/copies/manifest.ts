// The patches of a manifest that copy files.
import type { ObjectManifest } from '../meta.ts';
import type { SandboxSpec } from '../sandbox.ts';

export interface ManifestCopy {
  /** Of the patch. */
  index: number;
  from: string;
  /** Writes into the copy of the manifest. */
  setDigest(digest: string): void;
}

/**
 * A copy of the manifest, and those of its patches whose content is still to be read: one that has a digest says itself what it
 * copies, as an object that was read from the daemon does.
 */
export function copiesOf(manifest: ObjectManifest): { manifest: ObjectManifest; digests: ManifestCopy[] } {
  if (manifest.kind !== 'Sandbox') return { manifest, digests: [] };
  const copied = structuredClone(manifest);
  const digests: ManifestCopy[] = [];
  for (const [index, { copy }] of ((copied.spec as SandboxSpec).patches ?? []).entries()) {
    if (copy === undefined || copy.digest !== undefined) continue;
    digests.push({
      index,
      from: copy.from,
      setDigest(digest) {
        copy.digest = digest;
      },
    });
  }
  return { manifest: copied, digests };
}
