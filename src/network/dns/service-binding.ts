// SVCB and HTTPS records (RFC 9460). Address hints would bring addresses past the filter, and ech would hide the name from it,
// so both go; clients ask for the addresses instead.
import { normalizeName } from '../policy/names.ts';

const KEY_MANDATORY = 0;
const KEY_IPV4_HINT = 4;
const KEY_ECH = 5;
const KEY_IPV6_HINT = 6;
const STRIPPED = new Set([KEY_IPV4_HINT, KEY_ECH, KEY_IPV6_HINT]);

export interface ServiceBinding {
  /** Where the service is; undefined: under the record's own name. */
  readonly target: string | undefined;
  readonly data: Buffer;
}

/** The record without what would pass the filter by; undefined for one that is broken or of no use without it. */
export function stripServiceBinding(data: Buffer): ServiceBinding | undefined {
  let at = 2; // behind the priority
  const labels: string[] = [];
  for (;;) {
    const length = data[at];
    // Compression is not allowed here, so that a length is at most 63.
    if (length === undefined || length > 63 || at + 1 + length > data.length) return undefined;
    if (length > 0) labels.push(data.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
    if (length === 0) break;
  }
  const target = labels.length === 0 ? undefined : normalizeName(labels.join('.'));
  if (labels.length > 0 && target === undefined) return undefined;
  const kept: Buffer[] = [data.subarray(0, at)];
  let former = -1;
  while (at < data.length) {
    if (at + 4 > data.length) return undefined;
    const key = data.readUInt16BE(at);
    const end = at + 4 + data.readUInt16BE(at + 2);
    // Keys come once each, in ascending order.
    if (end > data.length || key <= former) return undefined;
    former = key;
    const value = data.subarray(at + 4, end);
    if (key === KEY_MANDATORY && needsStripped(value)) return undefined;
    if (!STRIPPED.has(key)) kept.push(data.subarray(at, end));
    at = end;
  }
  return { target, data: Buffer.concat(kept) };
}

function needsStripped(mandatory: Buffer): boolean {
  if (mandatory.length % 2 !== 0) return true;
  for (let at = 0; at < mandatory.length; at += 2) if (STRIPPED.has(mandatory.readUInt16BE(at))) return true;
  return false;
}
