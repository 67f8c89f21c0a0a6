// Every bound of the NetworkPolicy reconcilers, with its reason.

/** Of one entry of upstreamCAs; the bundle of all public authorities is about 220 KiB. */
export const AUTHORITIES_BYTES_MAX = 262_144;
