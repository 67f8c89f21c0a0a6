// When a deletion may go ahead. Deleting is the one thing that cannot be taken back, so every doubt holds it.

export interface PruneOptions {
  /**
   * An object must be seen missing for this long: editors and `git checkout` remove a file before they write it again,
   * and a file caught between truncation and write parses as empty.
   */
  settleMs: number;
  /** How long an unusually large deletion, or an emptied folder, must be seen unchanged. */
  holdMs: number;
  /** Larger than this share of the folder's objects is unusual. */
  maxPercent: number;
  /** Fewer deletions than this are never unusual: two of three files removed is everyday work. */
  minCount: number;
}

export const PRUNE_OPTIONS: PruneOptions = { settleMs: 1_000, holdMs: 10_000, maxPercent: 50, minCount: 5 };

export interface PruneInput {
  /** Keys to delete, sorted. */
  candidates: readonly string[];
  /** Objects of the folder, candidates included. */
  total: number;
  /** The folder was read and declares nothing at all. */
  emptied: boolean;
  /** The folder lies on another file system than when it last declared something. */
  deviceChanged: boolean;
  /** Monotonic, in milliseconds: a clock that jumps must not shorten a hold. */
  nowMs: number;
}

/** Carried from pass to pass; lost with the process, which starts the waiting again. */
export interface PruneMemory {
  missingSince: ReadonlyMap<string, number>;
  /** The unusually large deletion being watched. */
  large?: { candidates: string; since: number };
}

export interface PruneDecision {
  due: ReadonlySet<string>;
  /** Why those that are not due wait, when a person should know. */
  held?: string;
  /** The folder itself is in doubt, not just a number of objects. */
  unavailable: boolean;
  /** Look again after so long; absent when time alone will not help. */
  checkAfterMs?: number;
  memory: PruneMemory;
}

export const EMPTY_PRUNE_MEMORY: PruneMemory = { missingSince: new Map() };

export function decidePrune(input: PruneInput, memory: PruneMemory, options: PruneOptions): PruneDecision {
  const { candidates, nowMs } = input;
  const missingSince = new Map(candidates.map((key) => [key, memory.missingSince.get(key) ?? nowMs]));
  if (candidates.length === 0) return { due: new Set(), unavailable: false, memory: { missingSince } };

  const beyondFuse =
    candidates.length >= options.minCount && candidates.length * 100 > options.maxPercent * input.total;
  if (input.emptied || beyondFuse) return decideLarge(input, memory, options, missingSince);

  const due = candidates.filter((key) => nowMs - (missingSince.get(key) ?? nowMs) >= options.settleMs);
  const waits = [...missingSince.values()]
    .map((since) => since + options.settleMs - nowMs)
    .filter((ms) => ms > 0);
  return {
    due: new Set(due),
    unavailable: false,
    ...(waits.length === 0 ? {} : { checkAfterMs: Math.min(...waits) }),
    memory: { missingSince },
  };
}

function decideLarge(
  input: PruneInput,
  memory: PruneMemory,
  options: PruneOptions,
  missingSince: ReadonlyMap<string, number>,
): PruneDecision {
  const { candidates, total, emptied, nowMs } = input;
  const signature = candidates.join('\n');
  const since = memory.large?.candidates === signature ? memory.large.since : nowMs;
  const next: PruneMemory = { missingSince, large: { candidates: signature, since } };
  const share = `${candidates.length} of ${total} objects`;

  if (emptied && input.deviceChanged) {
    return {
      due: new Set(),
      unavailable: true,
      held:
        `the folder is empty and lies on another file system than before, as after a lost mount; ${share} are kept. ` +
        'Delete them by hand if this is meant.',
      memory: next,
    };
  }
  const leftMs = since + options.holdMs - nowMs;
  if (leftMs <= 0) return { due: new Set(candidates), unavailable: false, memory: { missingSince } };
  const what = emptied
    ? 'the folder declares nothing any more'
    : `more than ${options.maxPercent} % are gone at once`;
  return {
    due: new Set(),
    unavailable: emptied,
    held: `${what}; deletion of ${share} waits until this is seen unchanged for ${options.holdMs / 1000} s.`,
    checkAfterMs: leftMs,
    memory: next,
  };
}
