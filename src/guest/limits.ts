// Every bound on what the host takes from a guest, and on how long it waits for one.

/** Host to guest, one frame's payload; an Exec with its arguments and environment is the largest. */
export const MAX_REQUEST_BYTES = 1024 * 1024;
/** Files of volumes in one message; a larger content is cut. Half of a frame, so that what is around it never matters. */
export const VOLUME_FILES_MESSAGE_BYTES = 512 * 1024;
/** What a file takes in a message beside its path and content: tags, lengths and mode. */
export const VOLUME_FILE_ENVELOPE_BYTES = 32;
/** Guest to host, one frame's payload: a hello with all sessions, or one data chunk with its envelope. */
export const MAX_REPLY_BYTES = 64 * 1024;
/** One chunk of stream data to the guest. */
export const MAX_DATA_BYTES = 32 * 1024;
/** What may come before the nonce of a hello: leftovers of a former connection in the guest's and the VMM's buffers. */
export const MAX_STALE_BYTES = 4 * 1024 * 1024;
/** As the agent; a hello that lists more is refused. */
export const MAX_SESSIONS = 96;
/** Output of one stream that may wait in the host unread. */
export const OUTPUT_WINDOW_BYTES = 256 * 1024;
/** Pieces of waiting output; an honest guest's chunks are joined and stay far below. */
export const MAX_OUTPUT_PIECES = 4096;
/** What a guest may grant ahead for a stream of stdin. The agent grants 256 KiB. */
export const MAX_STDIN_CREDIT = 1024 * 1024;
/** History that the guest keeps of each output stream, for a host that comes back. */
export const RING_BYTES = 256 * 1024;
/** The same for the main process, which drops the oldest output while no host listens. */
export const MAIN_RING_BYTES = 1024 * 1024;
/** Text from the guest that goes into messages and objects. */
export const MAX_TEXT = 512;
export const MAX_FEATURES = 64;
/** As Linux: a path with its end. */
export const MAX_PATH_BYTES = 4095;
/** One FileEntry: a name and a link's target take at most 4.4 KiB, and the numbers a few bytes each. */
export const MAX_FILE_ENTRY_BYTES = 8 * 1024;
/** Content of one file among many; the agent holds it in its memory. Larger ones are written by themselves. */
export const MANY_FILES_CONTENT_BYTES = 1024 * 1024;
/** Files that are read together: the agent has all of them open. */
export const MANY_FILES_MAX = 256;

/** First wait for a hello on a fresh connection; doubled each time up to HELLO_TIMEOUT_MS. A connection that was made
 * before the guest listened may never answer, so early waits are short. */
export const FIRST_HELLO_TIMEOUT_MS = 250;
export const HELLO_TIMEOUT_MS = 4_000;
/** After so many hellos without an answer the next is preceded by filler that ends whatever half frame the guest may still
 * wait for. A connection that is refused or reset leaves none. */
export const FILLER_AFTER_SILENCES = 3;
/** Between attempts to connect: short at first, as a guest that boots listens some 10 ms after its port can be dialled. */
export const REDIAL_MIN_MS = 10;
export const REDIAL_GROWTH = 1.5;
export const REDIAL_MAX_MS = 2_000;

/** A guest's clock that is off by more, on top of the time that its hello took, is set. Clocks of guests drift by milliseconds;
 * a machine that stood still for less than this does no harm to timestamps. */
export const CLOCK_SKEW_MAX_MS = 1_000;

/** One request, unless it says otherwise. */
export const REQUEST_TIMEOUT_MS = 30_000;
/** Mounting may replay a journal on a slow disk. */
export const MOUNT_TIMEOUT_MS = 120_000;
/** On top of the grace of a shutdown: killing, flushing and unmounting. */
export const SHUTDOWN_EXTRA_MS = 30_000;
export const PING_INTERVAL_MS = 10_000;
export const PING_MISSES = 3;
/** A broken connection may leave requests whose answers still come; more than this many are a flood. */
export const MAX_ABANDONED_REQUESTS = 1_000;
