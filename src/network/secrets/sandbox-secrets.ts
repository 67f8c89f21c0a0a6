// The secrets of one sandbox in the gateway's memory, and where they go: into requests to their hosts, over TLS that the
// gateway opened and whose server it verified.
import { matchesHost, normalizeName } from '../policy/names.ts';
import { PlaceholderScan, PlaceholderSearch } from './placeholder-scan.ts';
import type { GatewaySecret } from './secret.ts';

const BASIC = /^(basic +)([A-Za-z0-9+/_-]+=*) *$/i;
const SPACE = 32;
const DELETE = 127;

/** Control characters but the tab: no header may hold them, they would end it. */
export function hasControl(value: string): boolean {
  return [...value].some((each) => {
    const code = each.charCodeAt(0);
    return (code < SPACE && each !== '\t') || code === DELETE;
  });
}

/** Where a request goes: the name of the connection that was verified, and the one that the request itself gives. */
export interface RequestTarget {
  readonly serverName: string | null;
  readonly host: string | null;
}

/** Puts values into one request. */
export class RequestSecrets {
  readonly #secrets: readonly GatewaySecret[];
  readonly #used = new Set<string>();

  constructor(secrets: readonly GatewaySecret[]) {
    this.#secrets = secrets;
  }

  /** Variables of the secrets whose values are in what was given back since this was last asked. */
  takeUsed(): string[] {
    const used = [...this.#used];
    this.#used.clear();
    return used;
  }

  get wantsBody(): boolean {
    return this.#secrets.some(({ injectInto }) => injectInto.includes('Body'));
  }

  header(value: string): string {
    const basic = BASIC.exec(value);
    const pair = basic === null ? '' : Buffer.from(basic[2] ?? '', 'base64').toString('latin1');
    const swapped = this.#swap(pair, 'Headers');
    if (basic !== null && swapped !== pair)
      return `${basic[1]}${Buffer.from(swapped, 'latin1').toString('base64')}`;
    return this.#swap(value, 'Headers');
  }

  /** The target of a request line, or `:path`. */
  target(target: string): string {
    const question = target.indexOf('?');
    if (question === -1) return target;
    const query = this.#swap(target.slice(question), 'Query', encodeURIComponent);
    return target.slice(0, question) + query;
  }

  body(body: Buffer): Buffer {
    const text = body.toString('latin1');
    const swapped = this.#swap(text, 'Body');
    return swapped === text ? body : Buffer.from(swapped, 'latin1');
  }

  #swap(
    text: string,
    location: GatewaySecret['injectInto'][number],
    encode: (value: string) => string = latin1OfUtf8,
  ): string {
    let result = text;
    for (const { env, placeholder, value, injectInto } of this.#secrets) {
      if (value === undefined || !injectInto.includes(location) || !result.includes(placeholder)) continue;
      if (location === 'Headers' && hasControl(value)) continue;
      result = result.replaceAll(placeholder, () => encode(value));
      this.#used.add(env);
    }
    return result;
  }
}

/** The bytes of a text in UTF-8, each as one character, as heads and bodies are kept here. */
function latin1OfUtf8(text: string): string {
  return Buffer.from(text).toString('latin1');
}

export class SandboxSecrets {
  #secrets: readonly GatewaySecret[] = [];
  #search: PlaceholderSearch | undefined;

  /** Holds from the next request on. */
  set(secrets: readonly GatewaySecret[]): void {
    this.#secrets = secrets;
    this.#search = secrets.length === 0 ? undefined : new PlaceholderSearch(secrets);
  }

  /** For a stream of the guest's bytes; undefined where there is nothing to look for. */
  scan(): PlaceholderScan | undefined {
    return this.#search === undefined ? undefined : new PlaceholderScan(this.#search);
  }

  /** For a request in a connection that the gateway opened: none but those of the one host that both names agree on. */
  of({ serverName, host }: RequestTarget): RequestSecrets {
    const name = normalizeName(host ?? '');
    if (name === undefined || serverName === null || normalizeName(serverName) !== name)
      return new RequestSecrets([]);
    return new RequestSecrets(
      this.#secrets.filter(({ allowHosts }) => allowHosts.some((pattern) => matchesHost(pattern, name))),
    );
  }
}
