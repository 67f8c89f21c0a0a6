// Tells that something in or around the folder may have changed. Only ever a hint: the pass that follows reads the
// folder, and the resync finds what no hint announced.
import { basename, dirname } from 'node:path';
import { type FSWatcher, watch } from 'chokidar';
import { isScratchName } from './ignore.ts';
import { watchPoints } from './watch-points.ts';

export interface FolderWatchOptions {
  root: string;
  maxDepth: number;
  onHint: () => void;
  /** Watching failed, e.g. no inotify watches are left; the resync still works. */
  onError: (error: Error) => void;
}

export interface FolderWatch {
  /**
   * Follows the path to where it leads now; cheap when it still leads there. What changed while a new watch was being
   * set up was announced to nobody, so a hint follows once it stands.
   * @param within also watch inside the folder, not only the path to it. Not asked for a folder that could not be
   * read: it may be the whole disk, given by mistake.
   */
  rearm(within: boolean): Promise<void>;
  close(): Promise<void>;
}

/** Starts with the first `rearm`. Calls must not overlap, but for `close`. */
export function watchFolder(options: FolderWatchOptions): FolderWatch {
  let armed = '';
  let watchers: FSWatcher[] = [];
  let closed = false;

  const closeAll = async (): Promise<void> => {
    const old = watchers;
    watchers = [];
    await Promise.all(old.map((watcher) => watcher.close()));
  };

  return {
    async rearm(within) {
      const { entries, directory } = await watchPoints(options.root);
      const tree = within ? directory : undefined;
      const signature = [...entries, tree ?? ''].join('\0');
      if (signature === armed || closed) return;
      armed = signature;
      await closeAll();
      if (closed) return;
      watchers = [watchEntries(entries), ...(tree === undefined ? [] : [watchTree(tree, options.maxDepth)])];
      for (const watcher of watchers) listen(watcher, options);
    },
    async close() {
      closed = true;
      await closeAll();
    },
  };
}

/** The entries themselves, in their directories; nothing else there. */
function watchEntries(entries: readonly string[]): FSWatcher {
  const wanted = new Set([...entries, ...entries.map((entry) => dirname(entry))]);
  return watch([...new Set(entries.map((entry) => dirname(entry)))], {
    depth: 0,
    followSymlinks: false,
    ignoreInitial: true,
    ignorePermissionErrors: true,
    ignored: (path) => !wanted.has(path),
  });
}

function watchTree(directory: string, maxDepth: number): FSWatcher {
  return watch(directory, {
    depth: maxDepth,
    // Links within the folder show as entries of their own; where they lead is watched where it lies.
    followSymlinks: false,
    ignoreInitial: true,
    ignorePermissionErrors: true,
    ignored: (path) => path !== directory && (basename(path) === '.git' || isScratchName(basename(path))),
  });
}

function listen(watcher: FSWatcher, { onHint, onError }: FolderWatchOptions): void {
  let failed = false;
  watcher.on('all', () => onHint());
  watcher.on('ready', () => onHint());
  watcher.on('error', (error) => {
    // One watch too many fails for each directory; people need to hear it once.
    if (!failed) onError(error instanceof Error ? error : new Error(String(error)));
    failed = true;
  });
}
