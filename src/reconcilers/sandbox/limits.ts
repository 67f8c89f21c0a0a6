// Every bound of the Sandbox reconciler, with its reason.
import type { BackoffOptions } from '../../controller/backoff.ts';

/** Guards the VM, its directory and its lease: on before the first outside effect, off when all of them are gone. */
export const FINALIZER = 'bulkhead.dev/vm';

/** A new value of this annotation asks for one restart; the CLI writes the time. */
export const RESTARTED_AT_ANNOTATION = 'bulkhead.dev/restartedAt';

/** Wait before the first restart; doubles with each failure in a row. The kubelet's figures. */
export const RESTART_BACKOFF_BASE_MS = 10_000;
export const RESTART_BACKOFF_MAX_MS = 300_000;
/** A run that held this long was good: the next failure starts at the base again. The kubelet's figure. */
export const RESTART_BACKOFF_RESET_MS = 600_000;

/** Wait before a failed host-side step (pull, start, boot, clean-up) is tried again; doubles with each failure. */
export const RETRY_BASE_MS = 1_000;
export const RETRY_MAX_MS = 60_000;
/**
 * An image that is invalid, missing or refused is looked at again after this long, beside the wake-ups by a changed spec
 * and by its arrival in the cache: what was wrong may have been mended where only the registry knows of it.
 */
export const IMAGE_RECHECK_MS = 600_000;
/** After a status write that met another writer's: what came between is read at once, unless the API answers so for ever. */
export const CONFLICT_BACKOFF: BackoffOptions = { baseMs: 20, maxMs: 10_000, jitter: 0.5 };
/** Share of a wait that is random, so that many sandboxes do not retry in step. */
export const RETRY_JITTER = 0.1;

/**
 * From the start of the VM to a running main process. A cold boot under software emulation on a crowded machine takes
 * tens of seconds; a guest that is not up after this long will not come up.
 */
export const BOOT_DEADLINE_MS = 180_000;

/** A start waits so long for its network; a gateway that has to be started takes a second or a few of them. */
export const NETWORK_WAIT_MS = 20_000;

/** Beyond the grace period: what sync, unmount and reboot may take before the VM is killed. */
export const STOP_MARGIN_MS = 10_000;

/** An agent that is silent for less than this does not cost a sandbox its readiness: daemon restarts stay unseen. */
export const AGENT_SILENCE_MS = 10_000;

/** A guest connection that is silent for this long is replaced by a new one: its own redialling has given up, or hangs. */
export const AGENT_REPLACE_MS = 60_000;

/** A guest that is silent for this long is frozen, as far as its idle time counts: a connection would have been replaced. */
export const FROZEN_AFTER_MS = 2 * AGENT_REPLACE_MS;

/** Status changes that only tell of progress are written at most this often. A quick launch so costs two writes. */
export const PROGRESS_WRITE_INTERVAL_MS = 2_000;

/** A missing reference, or a volume that others have, is looked for again after this long, beside the wake-up by its change. */
export const REFERENCE_RETRY_MS = 30_000;

/** `shutdownTime` follows the wall clock, so that its timer must look at it again after jumps. */
export const WALL_CLOCK_RECHECK_MS = 60_000;

/** How often the guest is asked for its figures. */
export const STATS_INTERVAL_MS = 15_000;
/** Guests asked at the same time: bounds the burst with thousands of sandboxes. */
export const STATS_CONCURRENCY = 16;
/** A guest that does not tell its figures in this time is asked in the next round. */
export const STATS_TIMEOUT_MS = 5_000;

/** What is free on the host changes without a word: who waits for it looks again after so long. */
export const ROOM_RETRY_MS = 10_000;

/** How often directories without an object are looked for. */
export const ORPHAN_SWEEP_INTERVAL_MS = 300_000;

/** After its end, the main process's last output may take this long to arrive before the VM is stopped. */
export const OUTPUT_DRAIN_MS = 10_000;

/** Inline steps in one reconcile: the longest chain is 4 (finalizer, directory, start, judgement); more is a loop. */
export const MAX_STEPS = 8;

/** One secret or config map value as an environment variable; Linux's limit for one string (MAX_ARG_STRLEN). */
export const ENV_VALUE_MAX_BYTES = 131_071;

/** Between two tries of a probe that takes longer than its period. */
export const PROBE_PAUSE_MIN_MS = 100;
/** Of what a probe says of itself in an event or condition; the begin of it tells what is wrong. */
export const PROBE_MESSAGE_MAX_CHARS = 256;
/** A probe that fails and succeeds in turn is told as an event this often at most. */
export const UNHEALTHY_EVENT_INTERVAL_MS = 30_000;
/** After the end of a command, its last words may take so long to arrive. */
export const ACTION_OUTPUT_WAIT_MS = 500;
/** Of an answer to an HTTP probe, which nobody reads; the kubelet's figure. */
export const HTTP_BODY_MAX_BYTES = 10 * 1024;
/** Of its headers; Node's own bound, said here because the guest is hostile. */
export const HTTP_HEADER_MAX_BYTES = 16 * 1024;
/** What a guest has left for its stop when preStop took all of the grace period; the kubelet's figure. */
export const AFTER_PRE_STOP_MS = 2_000;

/** Console text in a termination message: status is stored and listed, so it stays small. */
export const CONSOLE_TAIL_BYTES = 512;
/** The kubelet's bound of a termination message is 4096; ours is one sentence and a console line. */
export const MESSAGE_MAX_CHARS = 1_024;
