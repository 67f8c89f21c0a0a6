// Every bound of the HTTP server, with its reason.
import type { ConnectionLimits } from './connections.ts';

/** What Kubernetes' API server takes for one object request; far above the store's own limit for an object. */
export const BODY_BYTES_MAX = 3 * 1024 * 1024;
/** The command of an exec travels in the request line, and commands carry whole scripts. */
export const HEADER_BYTES_MAX = 256 * 1024;
/** A client on this host sends its headers at once. */
export const HEADERS_TIMEOUT_MS = 10_000;
/** The longest body is an image archive of many GiB that is written to a slow disk. */
export const REQUEST_TIMEOUT_MS = 60 * 60_000;
/** How often Node looks for connections that are beyond the two above. */
export const TIMEOUT_CHECK_INTERVAL_MS = 5_000;
/** Larger than the largest images in use; a stream without end must not fill the disk by itself. */
export const UPLOAD_BYTES_MAX = 128 * 1024 ** 3;
/** Attempts of a patch without resourceVersion when others write the same object. */
export const CONFLICT_RETRIES = 8;

/** Open execs and attaches of one sandbox. The guest keeps 96 sessions: beside these the main process and file operations. */
export const STREAMS_PER_SANDBOX_MAX = 64;
/** All open execs and attaches: each holds buffers of up to 2 MiB. */
export const STREAMS_MAX = 512;
/** Forwarded connections of one sandbox: browsers open some dozens to one server. */
export const FORWARDS_PER_SANDBOX_MAX = 128;
/** All of them: each holds buffers of up to 1 MiB. */
export const FORWARDS_MAX = 512;
/** File operations of one sandbox at the same time: each is a process in the guest, beside those of its execs. */
export const FILE_OPERATIONS_PER_SANDBOX = 8;
/** File operations of one sandbox that wait for their turn; more are refused. */
export const FILE_OPERATIONS_WAITING_MAX = 1024;
/** Larger than any disk of a sandbox; a file without end must not run for ever. */
export const FILE_BYTES_MAX = 16 * 1024 ** 4;
/** Open watches and followed logs: each holds a buffer in the store. */
export const FOLLOWERS_MAX = 1024;
/** Short requests under way beside the followers: far more than the command lines of one host make. */
const SHORT_REQUESTS_MAX = 512;
/** Ours send one at a time; some HTTP clients send a few ahead. */
const REQUESTS_PER_CONNECTION_MAX = 8;
/** A list of 10,000 sandboxes takes about 40 MB; a few may be on their way at once. */
const UNREAD_BYTES_MAX = 256 * 1024 * 1024;
/** No disk and no reader on this host stops for so long and goes on. */
const STALL_TIMEOUT_MS = 60_000;
/** The API: every follower and stream there may be, and as many more. */
export const API_CONNECTION_LIMITS: ConnectionLimits = {
  connections: 2 * (FOLLOWERS_MAX + STREAMS_MAX + FORWARDS_MAX),
  requests: FOLLOWERS_MAX + SHORT_REQUESTS_MAX,
  requestsPerConnection: REQUESTS_PER_CONNECTION_MAX,
  unreadBytes: UNREAD_BYTES_MAX,
  stallMs: STALL_TIMEOUT_MS,
};
/** For a TLS handshake with a peer in the same cluster. */
export const TLS_HANDSHAKE_TIMEOUT_MS = 10_000;
/** Monitoring: a handful of scrapers. Any user of the host can open this port. */
export const MONITORING_CONNECTION_LIMITS: ConnectionLimits = {
  connections: 128,
  requests: 128,
  requestsPerConnection: REQUESTS_PER_CONNECTION_MAX,
  unreadBytes: 64 * 1024 * 1024,
  stallMs: 10_000,
};
/** Clients send 32 to 64 KiB at a time; more than this in one message is no terminal and no pipe. */
export const STREAM_MESSAGE_BYTES_MAX = 1024 * 1024;
/** Unsent output above which the guest is held back. Two of the guest's flow-control windows fit. */
export const STREAM_BUFFER_BYTES = 512 * 1024;
/** Input after which a client is told how far it came: a part of the window that it may send ahead. */
export const INPUT_ACK_BYTES = 32 * 1024;
/** Output that is joined when it is kept: a command that writes byte by byte must not cost an object each. */
export const KEPT_PIECE_BYTES = 8 * 1024;
/** What a piece of kept output costs beside its bytes. */
export const KEPT_PIECE_COST = 256;
/** Memory for the kept output of one stream. A window of 256 KiB takes half of it at most, unless the guest means harm. */
export const KEPT_STREAM_BYTES_MAX = 1024 * 1024;
/** Finds clients that vanished without a word, also while their input is held back. */
export const STREAM_PING_INTERVAL_MS = 2_000;
/** How long a command whose client vanished may take to react to SIGHUP before SIGKILL. */
export const HANGUP_GRACE_MS = 2_000;
/** How long a client may take to answer the close of a stream. */
export const STREAM_CLOSE_TIMEOUT_MS = 2_000;
/** Sizes of a terminal that a program can make sense of. */
export const TERMINAL_SIZE_MAX = 4096;
/** A resize or signal message; longer ones are malformed. */
export const CONTROL_MESSAGE_BYTES_MAX = 256;

/** Watches end after so long at the latest, as Kubernetes' do; clients start them again from where they were. */
export const WATCH_SECONDS_MAX = 3600;
/** A progress line more often than this helps nobody. */
export const PROGRESS_INTERVAL_MS = 100;
/** How long one health check may take before it counts as failed. */
export const HEALTH_CHECK_TIMEOUT_MS = 5_000;
/** How long `stats` waits for the guest's own figures; the host's are sent without them then. */
export const GUEST_STATS_TIMEOUT_MS = 1_000;
/** `sun_path` of Linux holds 108 bytes with the final NUL. */
export const SOCKET_PATH_BYTES_MAX = 107;
/** How long streams may take to end when the server closes: the hang-up of a command, and the close of its stream. */
export const STREAMS_CLOSE_TIMEOUT_MS = HANGUP_GRACE_MS + STREAM_CLOSE_TIMEOUT_MS + 1_000;
/** How long requests that are under way may take when the server closes. */
export const CLOSE_TIMEOUT_MS = 3_000;
/** How soon after its last answer a connection closes then. */
export const CLOSE_POLL_MS = 20;

/** Lists whose later pages are kept at the same time; each takes 8 bytes an object, and what has changed since. */
export const LISTS_KEPT_MAX = 32;
/** How long a list waits for its next page: as long as Kubernetes' history reaches back. */
export const LISTS_KEPT_MS = 5 * 60_000;
/** A `continue` token: a UUID and a position. */
export const LIST_TOKEN_BYTES_MAX = 64;
