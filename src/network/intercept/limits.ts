// Every bound of TLS interception, with its reason.

/** Names whose certificates are kept ready; about 10 KiB each. */
export const LEAVES_MAX = 1_024;
/** Sets of upstream authorities that are kept ready; each holds the system's some 150 certificates. */
export const TRUST_SETS_MAX = 16;
/** Both handshakes together, as a client waits for them. */
export const HANDSHAKES_MS = 30_000;
/** Requests of one HTTP/2 connection at a time; RFC 9113 asks for no fewer than 100. */
export const STREAMS_MAX = 128;
/** Headers of one HTTP/2 message: names and values with 32 bytes each, as RFC 9113 counts them. */
export const HEADER_LIST_MAX = 65_536;
/** Headers of one HTTP/2 message, as many as one of HTTP/1 may have. */
export const HEADERS_MAX = 200;
