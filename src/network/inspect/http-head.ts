// Reads the host out of the head of an HTTP/1 request (RFC 9112). Stricter than servers are: where two of them could read two
// different hosts, or one a request where another sees none, it is invalid.

/** Node and common servers take 8 to 16 KiB; cookies make up most of it. */
export const HTTP_HEAD_MAX = 32_768;
/** Empty lines before a request, which RFC 9112 lets servers skip. */
const LEADING_LINES_MAX = 4;
const HEADERS_MAX = 200;
/** The longest method in IANA's registry has 17 characters. */
const METHOD_MAX = 32;

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const REQUEST_LINE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e]+) HTTP\/1\.([01])$/;
/** Something that some server might take for a request line. */
const LIKE_REQUEST_LINE = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}\s.*HTTP\/\d/i;
const HTTP2_PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const HOST_AND_PORT = /^(\[[0-9A-Fa-f:.]+\]|[^:/?#@[\]\s,]+)(?::(\d{0,5}))?$/;

export type HttpHead =
  | { readonly state: 'incomplete' }
  /** It is not HTTP/1. */
  | { readonly state: 'other' }
  /** The preface of HTTP/2 in clear text. */
  | { readonly state: 'http2' }
  /** A request, or what a lenient server may take for one, that breaks the rules. */
  | { readonly state: 'invalid' }
  | {
      readonly state: 'head';
      readonly method: string;
      /** As it was sent: path, URL, host and port (CONNECT), or `*`. */
      readonly target: string;
      /** Where the request goes: lower case, without port and brackets. Null where an HTTP/1.0 request names none. */
      readonly host: string | null;
      /** Bytes up to the body. */
      readonly length: number;
      /** Bytes of the body, or that it comes in chunks. */
      readonly body: number | 'chunked';
      /** It asks for another protocol. */
      readonly upgrade: boolean;
    };

const INCOMPLETE: HttpHead = { state: 'incomplete' };
const INVALID: HttpHead = { state: 'invalid' };
const OTHER: HttpHead = { state: 'other' };

/** Looks at all bytes that came so far; called again with more of them while it says `incomplete`. */
export function readHttpHead(bytes: Uint8Array): HttpHead {
  const text = Buffer.from(
    bytes.buffer,
    bytes.byteOffset,
    Math.min(bytes.byteLength, HTTP_HEAD_MAX),
  ).toString('latin1');
  const isWhole = bytes.byteLength >= HTTP_HEAD_MAX;
  const begin = skipEmptyLines(text);
  if (begin === undefined) return OTHER;
  const head = text.slice(begin);
  if (head === '' || head === '\r') return INCOMPLETE;
  if (HTTP2_PREFACE.startsWith(head.slice(0, HTTP2_PREFACE.length)))
    return head.length >= HTTP2_PREFACE.length ? { state: 'http2' } : INCOMPLETE;
  const line = head.search(/[\r\n]/);
  if (line === -1) {
    if (!mayBeginRequest(head)) return OTHER;
    return isWhole ? INVALID : INCOMPLETE;
  }
  const first = head.slice(0, line);
  if (!LIKE_REQUEST_LINE.test(first)) return OTHER;
  const request = REQUEST_LINE.exec(first);
  if (request === null) return INVALID;
  const end = head.indexOf('\r\n\r\n');
  // A bare CR or LF ends lines for some servers and not for others. Of the last line the LF may be still to come.
  const lines = (end === -1 ? head.replace(/\r$/, '') : head.slice(0, end)).split('\r\n');
  if (lines.some((each) => /[\r\n\0]/.test(each))) return INVALID;
  if (end === -1) return isWhole ? INVALID : INCOMPLETE;
  return readRequest(request, lines.slice(1), begin + end + 4);
}

/** Where the request begins; undefined where nothing but empty lines come. */
function skipEmptyLines(text: string): number | undefined {
  let at = 0;
  for (let line = 0; line < LEADING_LINES_MAX; line += 1) {
    if (text.startsWith('\r\n', at)) at += 2;
    else if (text.startsWith('\n', at)) at += 1;
    else return at;
  }
  return /^[\r\n]/.test(text.slice(at)) ? undefined : at;
}

/** Could these bytes, without any line end so far, grow into a request line? */
function mayBeginRequest(head: string): boolean {
  const space = head.search(/\s/);
  const method = space === -1 ? head : head.slice(0, space);
  return method.length <= METHOD_MAX && TOKEN.test(method);
}

function readRequest(request: RegExpExecArray, lines: readonly string[], length: number): HttpHead {
  const [, method = '', target = '', minor] = request;
  if (lines.length > HEADERS_MAX) return INVALID;
  const hosts: string[] = [];
  const lengths: string[] = [];
  const codings: string[] = [];
  let upgrade = false;
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, Math.max(colon, 0));
    const value = line.slice(colon + 1);
    // No folding (a line that begins with a space) and no space before the colon: both are read in two ways.
    if (!TOKEN.test(name) || !FIELD_VALUE.test(value)) return INVALID;
    const trimmed = value.replace(/^[\t ]+|[\t ]+$/g, '');
    switch (name.toLowerCase()) {
      case 'host':
        hosts.push(trimmed);
        break;
      case 'content-length':
        lengths.push(trimmed);
        break;
      case 'transfer-encoding':
        codings.push(trimmed.toLowerCase());
        break;
      case 'upgrade':
        upgrade = true;
    }
  }
  if (hosts.length > 1) return INVALID;
  const header = hosts[0] === undefined || hosts[0] === '' ? null : hostOf(hosts[0]);
  const inTarget = hostOfTarget(method, target);
  if (header === undefined || inTarget === undefined) return INVALID;
  // Of an absolute target servers take that host, proxies and logs often the header's: both or none.
  if (inTarget !== null && header !== null && inTarget !== header) return INVALID;
  const host = inTarget ?? header;
  if (host === null && minor === '1') return INVALID;
  const body = bodyOf(lengths, codings, minor);
  if (body === undefined) return INVALID;
  return { state: 'head', method, target, host, length, body, upgrade };
}

/** Undefined where it is in doubt where the body ends: what follows it could be read as a request, or not. */
function bodyOf(
  lengths: readonly string[],
  codings: readonly string[],
  minor: string | undefined,
): number | 'chunked' | undefined {
  if (codings.length > 0)
    return codings.length === 1 && codings[0] === 'chunked' && lengths.length === 0 && minor === '1'
      ? 'chunked'
      : undefined;
  const [length, ...others] = lengths;
  if (length === undefined) return 0;
  return others.length === 0 && /^\d{1,15}$/.test(length) ? Number(length) : undefined;
}

/** Null where the target names no host, undefined where it names none that can be read. */
function hostOfTarget(method: string, target: string): string | null | undefined {
  if (method === 'CONNECT') return hostOf(target);
  if (target.startsWith('/') || target === '*') return null;
  const authority = /^[A-Za-z][-+.A-Za-z0-9]*:\/\/([^/?#]*)/.exec(target)?.[1];
  return authority === undefined ? undefined : hostOf(authority);
}

/** Without port and brackets, in lower case. No user information: it makes a host look like another. */
function hostOf(text: string): string | undefined {
  const host = HOST_AND_PORT.exec(text)?.[1];
  return host?.replace(/^\[|\]$/g, '').toLowerCase();
}
