// Finds placeholders of secrets in what a guest sends: as they are, in percent-encoding, in JSON's escapes, within base64, in any
// case, and split over any number of pieces.
import type { GatewaySecret } from './secret.ts';

/** `\u0062` for each character: no other form that is looked for is longer. */
const LONGEST_FORM = 6;
/** An encoding within an encoding (`%2562`); no server decodes more often. */
const DECODINGS_MAX = 2;
const ESCAPES = /%([0-9a-f]{2})|\\u00([0-9a-f]{2})/gi;

interface Needles {
  readonly env: string;
  readonly plain: string;
  readonly base64: readonly string[];
}

/** In base64 a text looks different by its place among its neighbours, modulo three: what of it does not depend on them. */
function base64Forms(text: string): string[] {
  return [0, 1, 2].map((offset) => {
    const inner = text.slice(offset);
    return Buffer.from(inner.slice(0, inner.length - (inner.length % 3))).toString('base64');
  });
}

/** Of all placeholders of a sandbox; made once, for any number of scans. */
export class PlaceholderSearch {
  readonly #needles: readonly Needles[];
  /** A form that is cut at a border of pieces is no longer than this. */
  readonly windowBytes: number;

  constructor(secrets: readonly Pick<GatewaySecret, 'env' | 'placeholder'>[]) {
    this.#needles = secrets.map(({ env, placeholder }) => ({
      env,
      plain: placeholder.toLowerCase(),
      base64: base64Forms(placeholder),
    }));
    const longest = Math.max(0, ...this.#needles.map(({ plain }) => plain.length));
    this.windowBytes = longest * LONGEST_FORM;
  }

  /** The variable of a secret whose placeholder is in the text; undefined where none is. */
  find(text: string): string | undefined {
    let decoded = text;
    for (let round = 0; ; round += 1) {
      const lower = decoded.toLowerCase();
      const found = this.#needles.find(
        ({ plain, base64 }) => lower.includes(plain) || base64.some((form) => decoded.includes(form)),
      );
      if (found !== undefined) return found.env;
      if (round === DECODINGS_MAX) return undefined;
      const next = decoded.replace(ESCAPES, (_all, percent?: string, unicode?: string) =>
        String.fromCharCode(Number.parseInt(percent ?? unicode ?? '', 16)),
      );
      if (next === decoded) return undefined;
      decoded = next;
    }
  }
}

/** One stream of bytes, piece by piece. */
export class PlaceholderScan {
  readonly #search: PlaceholderSearch;
  #tail = '';

  constructor(search: PlaceholderSearch) {
    this.#search = search;
  }

  /** The variable of a secret whose placeholder ends in this piece, or is in it; the piece is not to go on then. */
  push(piece: Uint8Array): string | undefined {
    const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    const text = this.#tail + bytes.toString('latin1');
    const found = this.#search.find(text);
    if (found === undefined) this.#tail = text.slice(-this.#search.windowBytes);
    return found;
  }
}
