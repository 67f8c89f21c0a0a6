// Kubernetes' JSONPath templates: `{.items[*].metadata.name}`, `{range .items[*]}{.metadata.name}{"\n"}{end}`,
// `{.status.conditions[?(@.type=="Ready")].status}`.
import { isRecord } from './validation/structural.ts';

/** A template or path that is none; the message says where. */
export class JsonPathError extends Error {}

type Comparison = '==' | '!=' | '<' | '<=' | '>' | '>=';
type Operand = { path: Step[] } | { value: unknown };

type Step =
  | { type: 'field'; names: string[] }
  | { type: 'wildcard' }
  | { type: 'recursive' }
  | { type: 'slice'; start: number | undefined; end: number | undefined; step: number }
  | { type: 'indexes'; indexes: number[] }
  | { type: 'filter'; left: Operand; comparison?: Comparison; right?: Operand };

type Node =
  | { type: 'text'; text: string }
  | { type: 'path'; root: boolean; steps: Step[] }
  | { type: 'range'; root: boolean; steps: Step[]; body: Node[] };

/** Deeper templates and paths are typing errors, not queries. */
const TEMPLATE_LENGTH_MAX = 10_000;

class Parser {
  readonly #text: string;
  #position = 0;

  constructor(text: string) {
    this.#text = text;
  }

  template(): Node[] {
    const nodes = this.#nodes(false);
    if (this.#position < this.#text.length) throw this.#error('{end} without {range}');
    return nodes;
  }

  #nodes(inRange: boolean): Node[] {
    const nodes: Node[] = [];
    while (this.#position < this.#text.length) {
      const open = this.#text.indexOf('{', this.#position);
      const end = open === -1 ? this.#text.length : open;
      if (end > this.#position) nodes.push({ type: 'text', text: this.#text.slice(this.#position, end) });
      this.#position = end;
      if (open === -1) break;
      const before = this.#position;
      this.#position++;
      this.#spaces();
      if (this.#word('end')) {
        if (!inRange) {
          this.#position = before;
          return nodes;
        }
        this.#expect('}');
        return nodes;
      }
      nodes.push(...this.#action());
    }
    if (inRange) throw this.#error('{range} without {end}');
    return nodes;
  }

  /** What stands between braces: a range, quoted text, or one or more paths. */
  #action(): Node[] {
    if (this.#word('range')) {
      const { root, steps } = this.#path();
      this.#expect('}');
      return [{ type: 'range', root, steps, body: this.#nodes(true) }];
    }
    const nodes: Node[] = [];
    for (;;) {
      this.#spaces();
      const next = this.#text[this.#position];
      if (next === '}') {
        this.#position++;
        return nodes;
      }
      if (next === undefined) throw this.#error('missing }');
      if (next === '"' || next === "'") nodes.push({ type: 'text', text: this.#quoted() });
      else {
        const before = this.#position;
        nodes.push({ type: 'path', ...this.#path() });
        if (this.#position === before) throw this.#error(`unexpected "${next}"`);
      }
    }
  }

  #path(): { root: boolean; steps: Step[] } {
    this.#spaces();
    const root = this.#text[this.#position] === '$';
    if (root || this.#text[this.#position] === '@') this.#position++;
    const steps: Step[] = [];
    // `{items}` is the same as `{.items}`.
    if (/[\w-]/.test(this.#text[this.#position] ?? '')) steps.push({ type: 'field', names: [this.#name()] });
    for (;;) {
      const next = this.#text[this.#position];
      if (next === '.') steps.push(...this.#dotted());
      else if (next === '[') steps.push(this.#bracket());
      else break;
    }
    const after = this.#text[this.#position];
    if (after !== undefined && !/[\s})=!<>]/.test(after)) throw this.#error(`unexpected "${after}"`);
    return { root, steps };
  }

  #dotted(): Step[] {
    this.#position++;
    if (this.#text[this.#position] === '.') {
      this.#position++;
      const next = this.#text[this.#position];
      if (next === '[') return [{ type: 'recursive' }];
      return [{ type: 'recursive' }, this.#fieldOrWildcard()];
    }
    const next = this.#text[this.#position];
    // `{.}` is the object itself.
    if (next === undefined || /[\s}[)]/.test(next)) return [];
    return [this.#fieldOrWildcard()];
  }

  #fieldOrWildcard(): Step {
    if (this.#text[this.#position] === '*') {
      this.#position++;
      return { type: 'wildcard' };
    }
    return { type: 'field', names: [this.#name()] };
  }

  /** A field's name; `\.` stands for a dot in it. */
  #name(): string {
    let name = '';
    for (;;) {
      const next = this.#text[this.#position];
      if (next === '\\') {
        name += this.#text[this.#position + 1] ?? '';
        this.#position += 2;
      } else if (next !== undefined && /[\w/-]/.test(next)) {
        name += next;
        this.#position++;
      } else break;
    }
    if (name === '') throw this.#error('a field name is missing');
    return name;
  }

  #bracket(): Step {
    this.#position++;
    this.#spaces();
    const next = this.#text[this.#position];
    if (next === '?') return this.#filter();
    if (next === '*') {
      this.#position++;
      this.#expect(']');
      return { type: 'wildcard' };
    }
    if (next === '"' || next === "'") return this.#names();
    const close = this.#text.indexOf(']', this.#position);
    if (close === -1) throw this.#error('missing ]');
    const content = this.#text.slice(this.#position, close).trim();
    this.#position = close + 1;
    if (/^-?\d+(\s*,\s*-?\d+)*$/.test(content)) {
      return { type: 'indexes', indexes: content.split(',').map(Number) };
    }
    const slice = /^(-?\d+)?:(-?\d+)?(?::(\d+))?$/.exec(content);
    if (slice === null) throw this.#error(`[${content}] is no index, slice, name or filter`);
    const bound = (text: string | undefined) => (text === undefined ? undefined : Number(text));
    return {
      type: 'slice',
      start: bound(slice[1]),
      end: bound(slice[2]),
      step: Math.max(1, bound(slice[3]) ?? 1),
    };
  }

  #names(): Step {
    const names = [this.#quoted()];
    this.#spaces();
    while (this.#text[this.#position] === ',') {
      this.#position++;
      this.#spaces();
      names.push(this.#quoted());
      this.#spaces();
    }
    this.#expect(']');
    return { type: 'field', names };
  }

  #filter(): Step {
    this.#position++;
    this.#expect('(');
    const left = this.#operand();
    this.#spaces();
    const [comparison] =
      /^(==|!=|<=|>=|<|>)/.exec(this.#text.slice(this.#position, this.#position + 2)) ?? [];
    if (comparison === undefined) {
      this.#expect(')');
      this.#expect(']');
      return { type: 'filter', left };
    }
    this.#position += comparison.length;
    const right = this.#operand();
    this.#expect(')');
    this.#expect(']');
    return { type: 'filter', left, comparison: comparison as Comparison, right };
  }

  #operand(): Operand {
    this.#spaces();
    const next = this.#text[this.#position] ?? '';
    if (next === '@' || next === '$' || next === '.') return { path: this.#path().steps };
    if (next === '"' || next === "'") return { value: this.#quoted() };
    const [literal] = /^(true|false|null|-?\d+(\.\d+)?)/.exec(this.#text.slice(this.#position)) ?? [];
    if (literal === undefined) throw this.#error('expected @, a quoted text, a number, true or false');
    this.#position += literal.length;
    return { value: JSON.parse(literal) as unknown };
  }

  #quoted(): string {
    const quote = this.#text[this.#position];
    let text = '';
    for (this.#position++; ; this.#position++) {
      const next = this.#text[this.#position];
      if (next === undefined) throw this.#error(`missing ${quote}`);
      if (next === quote) break;
      if (next === '\\') {
        this.#position++;
        const escaped = this.#text[this.#position] ?? '';
        text += { n: '\n', t: '\t', r: '\r' }[escaped] ?? escaped;
      } else text += next;
    }
    this.#position++;
    return text;
  }

  #word(word: string): boolean {
    const rest = this.#text.slice(this.#position);
    if (!rest.startsWith(word) || /^[\w.[]/.test(rest.slice(word.length))) return false;
    this.#position += word.length;
    return true;
  }

  #spaces(): void {
    while (/\s/.test(this.#text[this.#position] ?? '')) this.#position++;
  }

  #expect(character: string): void {
    this.#spaces();
    if (this.#text[this.#position] !== character) throw this.#error(`expected "${character}"`);
    this.#position++;
  }

  #error(problem: string) {
    return new JsonPathError(`jsonpath "${this.#text}": ${problem} at character ${this.#position + 1}`);
  }
}

function children(value: unknown): unknown[] {
  if (Array.isArray(value)) return value;
  return isRecord(value) ? Object.values(value) : [];
}

function descendants(value: unknown): unknown[] {
  return [value, ...children(value).flatMap(descendants)];
}

function own(value: unknown, name: string): unknown[] {
  return isRecord(value) && Object.hasOwn(value, name) ? [value[name]] : [];
}

function compare(left: unknown, comparison: Comparison, right: unknown): boolean {
  if (comparison === '==') return left === right;
  if (comparison === '!=') return left !== right;
  const ordered =
    (typeof left === 'number' && typeof right === 'number') ||
    (typeof left === 'string' && typeof right === 'string');
  if (!ordered) return false;
  switch (comparison) {
    case '<':
      return left < right;
    case '<=':
      return left <= right;
    case '>':
      return left > right;
    default:
      return left >= right;
  }
}

function operandValue(operand: Operand, item: unknown): unknown[] {
  return 'value' in operand ? [operand.value] : evaluate(operand.path, [item]);
}

function matches(step: Extract<Step, { type: 'filter' }>, item: unknown): boolean {
  const [left] = operandValue(step.left, item);
  if (step.comparison === undefined || step.right === undefined) return left !== undefined;
  const [right] = operandValue(step.right, item);
  return left !== undefined && compare(left, step.comparison, right);
}

function advance(step: Step, value: unknown): unknown[] {
  switch (step.type) {
    case 'field':
      return step.names.flatMap((name) => own(value, name));
    case 'wildcard':
      return children(value);
    case 'recursive':
      return descendants(value);
    case 'indexes':
      return Array.isArray(value)
        ? step.indexes.flatMap((index) => value.slice(index, index + 1 || undefined))
        : [];
    case 'slice':
      return Array.isArray(value)
        ? value.slice(step.start, step.end).filter((_, index) => index % step.step === 0)
        : [];
    case 'filter':
      return children(value).filter((item) => matches(step, item));
  }
}

function evaluate(steps: readonly Step[], values: unknown[]): unknown[] {
  return steps.reduce((current, step) => current.flatMap((value) => advance(step, value)), values);
}

function show(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function render(nodes: readonly Node[], root: unknown, current: unknown): string {
  return nodes
    .map((node) => {
      if (node.type === 'text') return node.text;
      const found = evaluate(node.steps, [node.root ? root : current]);
      if (node.type === 'path') return found.map(show).join(' ');
      return found.map((item) => render(node.body, root, item)).join('');
    })
    .join('');
}

/** Kubernetes also takes a bare path: `.metadata.name` for `{.metadata.name}`. */
function parse(template: string): Node[] {
  if (template.length > TEMPLATE_LENGTH_MAX) throw new JsonPathError('jsonpath: the template is too long');
  return new Parser(template.includes('{') ? template : `{${template}}`).template();
}

/** A compiled template, as a function from an object to text. Throws JsonPathError where it is none. */
export function jsonPathTemplate(template: string): (object: unknown) => string {
  const nodes = parse(template);
  return (object) => render(nodes, object, object);
}

/** The values that one path finds, e.g. for a column or a condition to wait for. */
export function jsonPathValues(path: string): (object: unknown) => unknown[] {
  const [node, ...rest] = parse(path);
  if (node?.type !== 'path' || rest.length > 0)
    throw new JsonPathError(`jsonpath "${path}": expected one path`);
  return (object) => evaluate(node.steps, [object]);
}
