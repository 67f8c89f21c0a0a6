// Every bound of the gateway, with its reason.

/** A connection without a byte either way is forgotten; longer than the two hours after which TCP keep-alive begins. */
export const IDLE_MS = 3 * 3_600_000;
/** Of a dial; Linux gives up after about two minutes, clients before that. */
export const CONNECT_TIMEOUT_MS = 30_000;
/** A client that has begun a ClientHello or a request has so long to finish it. */
export const INSPECT_MS = 30_000;
/** Hosts of the requests in one HTTP/2 connection; browsers put in those of one certificate. */
export const HTTP2_HOSTS_MAX = 256;
/** UDP sessions of one sandbox at a time, each with two sockets; they count as connections too. */
export const UDP_SESSIONS_MAX = 256;
/** A session that no answer came to, and one with answers, is forgotten after so long; as Linux does for those it tracks. */
export const UDP_UNANSWERED_MS = 30_000;
export const UDP_IDLE_MS = 120_000;
/** Identifiers and destinations of echoes of one sandbox at a time; a ping has one. They count as connections too. */
export const ECHO_SESSIONS_MAX = 32;
/** How often sessions are looked at for that. */
export const UDP_SWEEP_MS = 5_000;
/** Datagrams that wait for a session's sockets, which takes a moment; more are dropped, as a network would. */
export const UDP_PENDING_MAX = 16;
/** Bytes that a session's socket has not taken yet; more are dropped, as a network would. */
export const UDP_QUEUE_BYTES = 256 * 1024;
/** Datagrams without a session that are taken in one go: others have their turn between. */
export const UDP_BATCH = 32;
/** Between two full goes: so a guest that only makes refusals costs no more than a part of one core. */
export const UDP_BATCH_PAUSE_MS = 2;
/** Refused flows that are remembered, so that a datagram that follows makes no further entry. */
export const UDP_REFUSED_MAX = 1_024;
/** Not longer than clients wait before they try again: a name may be resolved, or a server come, meanwhile. */
export const UDP_REFUSED_MS = 1_000;
/** A name server's client that says nothing (RFC 7766 asks for seconds). */
export const DNS_IDLE_MS = 10_000;
/** Connections to the name server at a time, of one sandbox; they count as connections too. */
export const DNS_CONNECTIONS_MAX = 32;
/** Datagrams that one sandbox's filter works on at a time; more are dropped, as a network would. */
export const DNS_DATAGRAMS_MAX = 256;
/** Connections to one published port at a time; of a UDP port, clients. */
export const PORT_CONNECTIONS_MAX = 512;
/** A guest that does not take a connection in this time does not listen. */
export const GUEST_DIAL_MS = 5_000;
/** How often a connection that was begun is looked at; a guest that listens takes it in less than a millisecond. */
export const GUEST_DIAL_CHECK_MS = 1;
export const GUEST_DIAL_CHECK_MAX_MS = 50;
/** Decisions that are remembered of each sandbox for `network log`. */
export const LOG_ENTRIES_MAX = 256;
/** Different refusals of one sandbox that are told as events each time; `network log` has more. */
export const REFUSALS_MAX = 4;
/** How often the daemon asks what was refused, which becomes events, and whose ports were used. */
export const REFUSALS_INTERVAL_MS = 5_000;
/** A message on the control socket: a policy with certificates of its own authorities. */
export const CONTROL_MESSAGE_MAX = 4 * 1_048_576;
/** How often VMs are looked after that went without a word of the daemon. */
export const PROCESS_CHECK_MS = 5_000;
/** For an answer on the control socket; a gateway that was just started on a crowded machine takes seconds for its first. */
export const CONTROL_TIMEOUT_MS = 30_000;
/** Between attempts to reach or start a gateway; doubles with each failure in a row. */
export const RECONNECT_BASE_MS = 200;
export const RECONNECT_MAX_MS = 30_000;
/** How long the addresses of this host are remembered: asking for them costs as much as all else that a connection needs. */
export const HOST_ADDRESSES_MS = 1_000;
