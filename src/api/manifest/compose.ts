// Builds values from the events of js-yaml's parser, keeping where each one stands. js-yaml's own loader keeps no places and
// bounds nothing; its parser gives offsets, so no second YAML library is needed for them.
import { EVENT_ID, getScalarValue, parseEvents, SCALAR_STYLE, YAMLException } from 'js-yaml';
import { quote } from '../validation/field-error.ts';
import { ALIAS_NODES_MAX, DEPTH_MAX, NODES_MAX } from './limits.ts';
import { resolvePlain, resolveTagged } from './scalars.ts';

type YamlEvent = ReturnType<typeof parseEvents>[number];

/** A value with its place in the text of its document. */
export interface YamlNode {
  /** Offset of its first character. */
  start: number;
  value: unknown;
  /** Nodes in it, itself included, aliases counted by what they stand for. */
  size: number;
  entries?: Map<string, YamlEntry>;
  items?: YamlNode[];
}

interface YamlEntry {
  keyStart: number;
  node: YamlNode;
}

/** A mistake in the document's form, at an offset of its text. */
export interface ComposeError {
  offset: number;
  message: string;
}

export interface Composed {
  /** One for each document in the text that says something. A mistake that leaves no value leaves no node. */
  roots: YamlNode[];
  errors: ComposeError[];
}

/** Ends the document; what was composed so far is of no use. */
class FatalComposeError extends Error {
  readonly offset: number;
  constructor(offset: number, message: string) {
    super(message);
    this.offset = offset;
  }
}

interface OpenMapping {
  kind: 'mapping';
  node: YamlNode;
  entries: Map<string, YamlEntry>;
  /** Set between a key and its value. */
  pendingKey: { text: string; start: number; merges: boolean } | undefined;
  merges: YamlNode[];
  anchor: string | undefined;
}

interface OpenSequence {
  kind: 'sequence';
  node: YamlNode;
  items: YamlNode[];
  anchor: string | undefined;
}

type Open = OpenMapping | OpenSequence;

interface Properties {
  anchorStart: number;
  anchorEnd: number;
  tagStart: number;
  tagEnd: number;
}

const MERGE_KEY = '<<';

class Composer {
  readonly errors: ComposeError[] = [];
  readonly roots: YamlNode[] = [];
  readonly #text: string;
  readonly #open: Open[] = [];
  readonly #anchors = new Map<string, YamlNode>();
  readonly #unfinished = new Set<string>();
  #nodes = 0;
  #aliasNodes = 0;

  constructor(text: string) {
    this.#text = text;
  }

  run(events: readonly YamlEvent[]): void {
    for (const event of events) this.#take(event);
  }

  #take(event: YamlEvent): void {
    switch (event.type) {
      case EVENT_ID.DOCUMENT:
        this.#anchors.clear();
        this.#nodes = 0;
        this.#aliasNodes = 0;
        break;
      case EVENT_ID.MAPPING:
        this.#push({
          kind: 'mapping',
          node: this.#count({ start: event.start, value: undefined, size: 1 }),
          entries: new Map(),
          pendingKey: undefined,
          merges: [],
          anchor: this.#collection(event, '!!map', event.start),
        });
        break;
      case EVENT_ID.SEQUENCE:
        this.#push({
          kind: 'sequence',
          node: this.#count({ start: event.start, value: undefined, size: 1 }),
          items: [],
          anchor: this.#collection(event, '!!seq', event.start),
        });
        break;
      case EVENT_ID.SCALAR: {
        const text = getScalarValue(this.#text, event);
        const start = event.valueStart === -1 ? this.#lastOffset() : this.#quoteStart(event);
        const parent = this.#open.at(-1);
        if (parent?.kind === 'mapping' && parent.pendingKey === undefined) {
          this.#key(parent, text, start, event.style === SCALAR_STYLE.PLAIN && event.tagStart === -1);
          break;
        }
        const value = this.#scalar(event, text, start);
        const node = this.#count({ start, value, size: 1 });
        const anchor = this.#anchorOf(event);
        if (anchor !== undefined) this.#anchors.set(anchor, node);
        this.#add(node);
        break;
      }
      case EVENT_ID.ALIAS:
        // The offset is that of the name, after its asterisk.
        this.#alias(event.anchorStart - 1, this.#text.slice(event.anchorStart, event.anchorEnd));
        break;
      default:
        this.#pop();
    }
  }

  /** The parser's offsets of a quoted scalar leave the quote out. */
  #quoteStart(event: { valueStart: number; style: number }): number {
    const quoted = event.style === SCALAR_STYLE.SINGLE_QUOTED || event.style === SCALAR_STYLE.DOUBLE_QUOTED;
    return quoted && event.valueStart > 0 ? event.valueStart - 1 : event.valueStart;
  }

  /** An empty value has no place of its own: that of its key serves. */
  #lastOffset(): number {
    const parent = this.#open.at(-1);
    if (parent === undefined) return 0;
    return parent.kind === 'mapping' ? (parent.pendingKey?.start ?? parent.node.start) : parent.node.start;
  }

  #count(node: YamlNode): YamlNode {
    this.#nodes += 1;
    if (this.#nodes > NODES_MAX) {
      throw new FatalComposeError(node.start, `found more than ${NODES_MAX} values, expected fewer`);
    }
    return node;
  }

  #anchorOf(event: Properties): string | undefined {
    return event.anchorStart === -1 ? undefined : this.#text.slice(event.anchorStart, event.anchorEnd);
  }

  #tagOf(event: Properties): string | undefined {
    return event.tagStart === -1 ? undefined : this.#text.slice(event.tagStart, event.tagEnd);
  }

  #collection(event: Properties, allowed: string, start: number): string | undefined {
    const tag = this.#tagOf(event);
    if (tag !== undefined && tag !== allowed && tag !== '!') this.#badTag(tag, start);
    const anchor = this.#anchorOf(event);
    if (anchor !== undefined) this.#unfinished.add(anchor);
    return anchor;
  }

  #badTag(tag: string, offset: number): never {
    throw new FatalComposeError(offset, `found the tag ${quote(tag)}, expected none; remove it`);
  }

  #scalar(event: Properties & { style: number }, text: string, start: number): unknown {
    const tag = this.#tagOf(event);
    if (tag === undefined) return event.style === SCALAR_STYLE.PLAIN ? resolvePlain(text) : text;
    const value = resolveTagged(tag, text);
    return value === undefined ? this.#badTag(tag, start) : value;
  }

  #push(open: Open): void {
    const parent = this.#open.at(-1);
    if (parent?.kind === 'mapping' && parent.pendingKey === undefined) {
      throw new FatalComposeError(open.node.start, 'found a list or mapping as a key, expected a name');
    }
    this.#open.push(open);
  }

  #key(mapping: OpenMapping, text: string, start: number, plain: boolean): void {
    if (plain && resolvePlain(text) === null) {
      throw new FatalComposeError(start, 'found an empty key, expected a name');
    }
    // Assigning to this name would change the object's prototype instead of a field.
    if (text === '__proto__') {
      throw new FatalComposeError(start, 'found the key "__proto__", expected another name');
    }
    mapping.pendingKey = { text, start, merges: plain && text === MERGE_KEY };
  }

  #alias(start: number, name: string): void {
    const target = this.#anchors.get(name);
    if (target === undefined) {
      const problem = this.#unfinished.has(name)
        ? 'an alias of what it stands in'
        : 'an alias without its anchor';
      throw new FatalComposeError(start, `found ${problem}, ${quote(name)}; write the value out`);
    }
    this.#aliasNodes += target.size;
    this.#nodes += target.size;
    if (this.#aliasNodes > ALIAS_NODES_MAX || this.#nodes > NODES_MAX) {
      throw new FatalComposeError(
        start,
        `found aliases that stand for more than ${ALIAS_NODES_MAX} values, expected fewer; write the values out`,
      );
    }
    const parent = this.#open.at(-1);
    if (parent?.kind === 'mapping' && parent.pendingKey === undefined) {
      throw new FatalComposeError(start, 'found an alias as a key, expected a name');
    }
    this.#add({ ...target, start });
  }

  #add(node: YamlNode): void {
    const parent = this.#open.at(-1);
    if (parent === undefined) {
      this.roots.push(node);
      return;
    }
    parent.node.size += node.size;
    if (parent.kind === 'sequence') {
      parent.items.push(node);
      return;
    }
    const key = parent.pendingKey;
    parent.pendingKey = undefined;
    if (key === undefined) return;
    if (key.merges) {
      this.#merge(parent, node, key.start);
      return;
    }
    const first = parent.entries.get(key.text);
    if (first !== undefined) {
      this.errors.push({
        offset: key.start,
        message: `found the key ${quote(key.text)} twice; remove one of them`,
      });
      return;
    }
    parent.entries.set(key.text, { keyStart: key.start, node });
  }

  #merge(mapping: OpenMapping, node: YamlNode, start: number): void {
    const sources = node.items ?? [node];
    if (sources.some((source) => source.entries === undefined)) {
      throw new FatalComposeError(start, 'found a merge key (<<) without a mapping; write the fields out');
    }
    mapping.merges.push(...sources);
  }

  #pop(): void {
    const open = this.#open.pop();
    // The end of the document itself.
    if (open === undefined) return;
    const { node } = open;
    if (open.kind === 'sequence') {
      node.items = open.items;
      node.value = open.items.map((item) => item.value);
    } else {
      for (const source of open.merges) {
        for (const [name, entry] of source.entries ?? []) {
          if (!open.entries.has(name)) open.entries.set(name, { keyStart: entry.keyStart, node: entry.node });
        }
      }
      node.entries = open.entries;
      node.value = Object.fromEntries([...open.entries].map(([name, entry]) => [name, entry.node.value]));
    }
    if (open.anchor !== undefined) {
      this.#anchors.set(open.anchor, node);
      this.#unfinished.delete(open.anchor);
    }
    this.#add(node);
  }
}

function syntaxError(error: unknown): ComposeError {
  if (error instanceof FatalComposeError) return { offset: error.offset, message: error.message };
  // The parser documents that hostile text may make it throw other errors too.
  if (!(error instanceof YAMLException)) return { offset: 0, message: `not YAML: ${String(error)}` };
  const offset = error.mark?.position ?? 0;
  if (error.reason.startsWith('nesting exceeded')) {
    return {
      offset,
      message: `found lists or mappings nested deeper than ${DEPTH_MAX}, expected a flatter document`,
    };
  }
  return { offset, message: `not YAML: ${error.reason}` };
}

/** Composes the text of (usually) one document. Never throws for what the text says. */
export function composeText(text: string): Composed {
  const composer = new Composer(text);
  try {
    composer.run(parseEvents(text, { maxDepth: DEPTH_MAX }));
  } catch (error) {
    return { roots: [], errors: [...composer.errors, syntaxError(error)] };
  }
  return { roots: composer.roots, errors: composer.errors };
}

/** Offset of the value at a path, of its key where `ofKey` is set, or of the nearest part above it that is there. */
export function offsetOf(root: YamlNode, path: readonly (string | number)[], ofKey: boolean): number {
  let node = root;
  for (const [depth, segment] of path.entries()) {
    if (typeof segment === 'number') {
      const item = node.items?.[segment];
      if (item === undefined) return node.start;
      node = item;
      continue;
    }
    const entry = node.entries?.get(segment);
    if (entry === undefined) return node.start;
    if (ofKey && depth === path.length - 1) return entry.keyStart;
    node = entry.node;
  }
  return node.start;
}
