// Every bound of the DNS filter, with its reason.

/** Queries are one name; with the padding of RFC 8467 they still stay below 512. */
export const QUERY_BYTES_MAX = 4_096;
/** What an upstream may answer over TCP. Real answers are far smaller; decoding costs grow with it. */
export const RESPONSE_BYTES_MAX = 16_384;
/** Payload that passes every path unfragmented: DNS flag day 2020. */
export const UDP_PAYLOAD = 1_232;
/** RFC 1035: without EDNS no UDP message is longer. */
export const UDP_PAYLOAD_PLAIN = 512;
/** Records of one answer that are passed on; a message over UDP holds fewer than 80 addresses. */
export const RECORDS_MAX = 128;
/** Aliases that are followed; resolvers give up between 8 and 17. */
export const CHAIN_MAX = 16;

/** Questions of one sandbox: package managers and browsers ask bursts of some dozens. */
export const QUERIES_PER_SECOND = 100;
export const QUERIES_BURST = 300;
/** Questions of one sandbox that wait for an upstream at a time. */
export const PENDING_MAX = 128;

/**
 * Bytes of names that one sandbox may ask upstreams for below one domain: enough for some hundred names at once, too few to
 * carry data out through. Names that a rule allows as they are do not count; nobody can hide data in those.
 */
export const ZONE_BYTES_BURST = 16_384;
export const ZONE_BYTES_PER_SECOND = 64;
/** The same for all domains together. */
export const TOTAL_BYTES_BURST = 131_072;
export const TOTAL_BYTES_PER_SECOND = 1_024;
/** Domains whose budget is remembered; who asks for more spends the total. */
export const ZONES_MAX = 1_024;

/** An answer is given on for at most so long, so that the guest asks again before its address is forgotten here. */
export const ANSWER_TTL_MAX_S = 300;
/** As above for names that do not exist; resolvers bound these themselves. RFC 2308 suggests hours at most. */
export const NEGATIVE_TTL_MAX_S = 60;
/** Between an answer and the connection that it is for, whatever its TTL says; and after its TTL, for clients that are late. */
export const NAME_HOLD_MIN_S = 60;
export const NAME_HOLD_GRACE_S = 60;

/** Answers that one sandbox's cache holds, and their size on the wire together. */
export const CACHE_ENTRIES_MAX = 1_024;
export const CACHE_BYTES_MAX = 1_048_576;
/** Addresses that one sandbox is remembered to have resolved, and names of each: shared hosting and CDNs have many. */
export const ADDRESSES_MAX = 4_096;
export const NAMES_PER_ADDRESS_MAX = 32;

/** What an upstream has for one try; the guest's own resolver waits 5 s (resolv.conf(5)). */
export const TRY_TIMEOUT_MS = 1_500;
/** For all tries, so that the guest hears SERVFAIL before it gives up. */
export const RESOLVE_TIMEOUT_MS = 4_500;
/** Rounds over all upstreams. */
export const ROUNDS = 2;
/** An upstream that did not answer is asked last for so long. */
export const UPSTREAM_PENALTY_MS = 30_000;
/** TTL of the host's own address: it can change with the next policy. */
export const HOST_TTL_S = 5;
