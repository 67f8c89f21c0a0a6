// Every bound of the Volume reconciler, with its reason.

/** Guards the disk: on before there is one, off when it is kept without its object, or gone. */
export const FINALIZER = 'bulkhead.dev/volume';

/** Wait before a failed step (making, checking, growing, removing a disk) is tried again; doubles with each failure. */
export const RETRY_BASE_MS = 1_000;
export const RETRY_MAX_MS = 60_000;
/** Share of a wait that is random, so that many volumes on a full host do not retry in step. */
export const RETRY_JITTER = 0.1;

/** Inline steps in one reconcile: the longest chain is 3 (finalizer, access mode, rest); more is a loop. */
export const MAX_STEPS = 6;

/** How often disks without objects, and claims of sandboxes that are gone, are looked for. */
export const SWEEP_INTERVAL_MS = 300_000;

/** Below this share of available space a volume counts as nearly full; the kubelet's mark for its own disks is the same. */
export const NEARLY_FULL_SHARE = 0.1;

/** The kubelet's bound of a message of this kind is 4096; ours is a sentence or two. */
export const MESSAGE_MAX_CHARS = 1_024;

/** As many as the schema of the status allows. */
export const MOUNTED_BY_MAX = 64;
