// Which names in the watched folder are manifests, and which belong to editors, git and atomic writers.

const MANIFEST_EXTENSIONS = ['.yaml', '.yml', '.json'] as const;

const SCRATCH_ENDINGS = ['~', '.swp', '.swx', '.swo', '.tmp', '.bak', '.orig', '.part'] as const;

/** True for files that editors and copying tools keep beside the real one. */
export function isScratchName(name: string): boolean {
  return SCRATCH_ENDINGS.some((ending) => name.endsWith(ending));
}

/**
 * True for names a pass never looks into: dotfiles (with them `.git`, `..data` and its dated targets, lock and swap
 * files) and scratch copies. A link elsewhere in the folder may still lead through such a name.
 */
export function isIgnoredName(name: string): boolean {
  return name.startsWith('.') || isScratchName(name);
}

/** True for a file name that a pass reads as manifests. */
export function isManifestName(name: string): boolean {
  return !isIgnoredName(name) && MANIFEST_EXTENSIONS.some((extension) => name.endsWith(extension));
}
