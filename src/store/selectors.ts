// Kubernetes' label and field selectors: text in, predicate out.
import { BulkheadError } from '../api/errors.ts';

/** Longer than any selector a person writes; keeps parsing of hostile query strings cheap. */
const MAX_SELECTOR_LENGTH = 8192;

/** `prefix/name`: the prefix a DNS subdomain, the name at most 63 of `A-Za-z0-9-_.`, alphanumeric at both ends. */
const LABEL_KEY =
  /^(?:(?=[^/]{1,253}\/)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*\/)?[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE = /^(?:[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?)?$/;
const INTEGER = /^[+-]?\d{1,18}$/;

export function isLabelKey(text: string): boolean {
  return text.length <= 253 + 1 + 63 && LABEL_KEY.test(text);
}

export function isLabelValue(text: string): boolean {
  return LABEL_VALUE.test(text);
}

type Labels = Readonly<Record<string, string>> | undefined;
export type LabelPredicate = (labels: Labels) => boolean;

/** Own properties only: a label may be named `constructor`, an object without it must not seem to have it. */
function labelOf(labels: Labels, key: string): string | undefined {
  return labels !== undefined && Object.hasOwn(labels, key) ? labels[key] : undefined;
}

type Token = { kind: 'word' | 'symbol' | 'end'; text: string };

const SYMBOLS = ['==', '!=', '=', '!', '(', ')', ',', '>', '<'];

function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  while (at < text.length) {
    const symbol = SYMBOLS.find((candidate) => text.startsWith(candidate, at));
    if (symbol !== undefined) {
      tokens.push({ kind: 'symbol', text: symbol });
      at += symbol.length;
    } else if (/\s/.test(text.charAt(at))) {
      at += 1;
    } else {
      const start = at;
      while (at < text.length && !/[\s=!(),<>]/.test(text.charAt(at))) at += 1;
      tokens.push({ kind: 'word', text: text.slice(start, at) });
    }
  }
  tokens.push({ kind: 'end', text: 'the end' });
  return tokens;
}

class SelectorParser {
  readonly #tokens: Token[];
  readonly #source: string;
  #at = 0;

  constructor(source: string) {
    this.#source = source;
    this.#tokens = tokenize(source);
  }

  parse(): LabelPredicate {
    const requirements: LabelPredicate[] = [];
    if (this.#peek().kind !== 'end') {
      requirements.push(this.#requirement());
      while (this.#peek().kind !== 'end') {
        this.#expect(',');
        requirements.push(this.#requirement());
      }
    }
    return (labels) => requirements.every((matches) => matches(labels));
  }

  #requirement(): LabelPredicate {
    if (this.#accept('!')) {
      const key = this.#key();
      return (labels) => labelOf(labels, key) === undefined;
    }
    const key = this.#key();
    const operator = this.#peek();
    if (operator.text === ',' || operator.kind === 'end') {
      return (labels) => labelOf(labels, key) !== undefined;
    }
    this.#at += 1;
    switch (operator.text) {
      case '=':
      case '==': {
        const value = this.#value();
        return (labels) => labelOf(labels, key) === value;
      }
      case '!=': {
        const value = this.#value();
        return (labels) => labelOf(labels, key) !== value;
      }
      case 'in': {
        const values = this.#values();
        return (labels) => {
          const value = labelOf(labels, key);
          return value !== undefined && values.has(value);
        };
      }
      case 'notin': {
        const values = this.#values();
        return (labels) => {
          const value = labelOf(labels, key);
          return value === undefined || !values.has(value);
        };
      }
      case '>':
      case '<': {
        const bound = this.#integer();
        const wanted = operator.text === '>' ? 1 : -1;
        return (labels) => {
          const value = labelOf(labels, key);
          if (value === undefined || !INTEGER.test(value)) return false;
          const difference = BigInt(value) - bound;
          return wanted > 0 ? difference > 0n : difference < 0n;
        };
      }
      default:
        return this.#fail(`expected =, ==, !=, in, notin, > or < after "${key}", found "${operator.text}"`);
    }
  }

  #key(): string {
    const token = this.#peek();
    if (token.kind !== 'word' || !isLabelKey(token.text)) {
      return this.#fail(`expected a label key, found "${token.text}"`);
    }
    this.#at += 1;
    return token.text;
  }

  /** A value may be absent: `team=` selects the empty value. */
  #value(): string {
    const token = this.#peek();
    if (token.kind !== 'word') {
      if (token.kind === 'end' || token.text === ',' || token.text === ')') return '';
      return this.#fail(`expected a label value, found "${token.text}"`);
    }
    if (!isLabelValue(token.text)) return this.#fail(`"${token.text}" is no label value`);
    this.#at += 1;
    return token.text;
  }

  #values(): Set<string> {
    this.#expect('(');
    const values = new Set([this.#value()]);
    while (this.#accept(',')) values.add(this.#value());
    this.#expect(')');
    return values;
  }

  #integer(): bigint {
    const token = this.#peek();
    if (token.kind !== 'word' || !INTEGER.test(token.text)) {
      return this.#fail(`expected an integer, found "${token.text}"`);
    }
    this.#at += 1;
    return BigInt(token.text);
  }

  #peek(): Token {
    return this.#tokens[this.#at] ?? { kind: 'end', text: 'the end' };
  }

  #accept(symbol: string): boolean {
    const token = this.#peek();
    if (token.kind !== 'symbol' || token.text !== symbol) return false;
    this.#at += 1;
    return true;
  }

  #expect(symbol: string): void {
    if (!this.#accept(symbol)) this.#fail(`expected "${symbol}", found "${this.#peek().text}"`);
  }

  #fail(problem: string): never {
    throw new BulkheadError('BAD_REQUEST', `Label selector "${this.#source}": ${problem}.`);
  }
}

function checkLength(name: string, text: string): void {
  if (text.length > MAX_SELECTOR_LENGTH) {
    throw new BulkheadError('BAD_REQUEST', `${name} is longer than ${MAX_SELECTOR_LENGTH} characters.`);
  }
}

/** Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`; the empty text selects everything. Fails with BAD_REQUEST. */
export function parseLabelSelector(text: string): LabelPredicate {
  checkLength('Label selector', text);
  return new SelectorParser(text).parse();
}

export type NamePredicate = (metadata: { readonly name: string; readonly namespace: string }) => boolean;

/** Parses `metadata.name=X,metadata.namespace!=Y`; those two fields are all there are. Fails with BAD_REQUEST. */
export function parseFieldSelector(text: string): NamePredicate {
  checkLength('Field selector', text);
  const requirements = text
    .split(',')
    .map((term) => term.trim())
    .filter((term) => term !== '')
    .map((term) => {
      const [, field, operator, value = ''] = /^([^=!\s]+)\s*(==|!=|=)\s*([^=!\s]*)$/.exec(term) ?? [];
      if (field !== 'metadata.name' && field !== 'metadata.namespace') {
        throw new BulkheadError(
          'BAD_REQUEST',
          `Field selector "${term}": expected metadata.name=NAME or metadata.namespace=NAMESPACE.`,
        );
      }
      const property = field === 'metadata.name' ? 'name' : 'namespace';
      return { property, equal: operator !== '!=', value } as const;
    });
  return (metadata) =>
    requirements.every(({ property, equal, value }) => (metadata[property] === value) === equal);
}
