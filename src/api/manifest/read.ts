// Manifests from bytes: each document by itself, valid ones with their defaults, mistakes with their places.
import { apiVersionOf, KINDS, kindNamed } from '../kinds.ts';
import type { ObjectManifest } from '../meta.ts';
import { jsonTypeName, unsupportedValue, wrongType } from '../validation/api-words.ts';
import { describeFound, type FieldError, formatPath, type PathSegment } from '../validation/field-error.ts';
import { isRecord } from '../validation/structural.ts';
import { type FormerObject, validateObject } from '../validation/validate.ts';
import { composeText, offsetOf, type YamlNode } from './compose.ts';
import { DOCUMENT_BYTES_MAX, DOCUMENTS_MAX, SOURCE_BYTES_MAX } from './limits.ts';
import type { ManifestError, ObjectName } from './manifest-error.ts';
import { firstInvalidUtf8, LineIndex, splitDocuments } from './split.ts';

/** A valid document (or item of a List), with the defaults of its schema. */
export interface ManifestDocument {
  /** `metadata.namespace` is always set. */
  manifest: ObjectManifest;
  /** Its spec as it is written, without defaults; where `asWritten` asked for it. */
  writtenSpec?: unknown;
  source: string;
  /** Number of the document in its source, from 1. */
  document: number;
  line: number;
  column: number;
}

export interface ReadOptions {
  /** Namespace of documents that say none; `default` when absent. */
  namespace?: string;
  /** Bytes of the whole source. */
  maxBytes?: number;
  maxDocuments?: number;
  /** Keeps specs without their defaults too, for who must not say what the document does not. */
  asWritten?: boolean;
  /** The object as it is now, so that what may not change is reported here too. */
  former?: (object: ObjectName) => FormerObject | undefined;
}

export interface ReadResult {
  objects: ManifestDocument[];
  errors: ManifestError[];
}

/** Namespace of what names none. */
export const DEFAULT_NAMESPACE = 'default';

const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];
/** UTF-16 in either order begins so, or has a NUL beside its first (ASCII) character. */
function isUtf16(bytes: Uint8Array): boolean {
  const [first, second] = bytes;
  return (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff);
}

/** A mistake that concerns the source as a whole. */
export function sourceError(source: string, message: string): ManifestError {
  return { source, document: 0, line: 0, column: 0, path: '', message };
}

class Reader {
  readonly objects: ManifestDocument[] = [];
  readonly errors: ManifestError[] = [];
  readonly #source: string;
  readonly #options: ReadOptions;
  #documents = 0;
  #count = 0;

  constructor(source: string, options: ReadOptions) {
    this.#source = source;
    this.#options = options;
  }

  read(bytes: Uint8Array): void {
    const maxDocuments = this.#options.maxDocuments ?? DOCUMENTS_MAX;
    for (const chunk of splitDocuments(bytes)) {
      this.#documents += 1;
      if (this.#documents > maxDocuments) {
        this.errors.push(
          sourceError(
            this.#source,
            `found more than ${maxDocuments} documents, expected fewer; use several files`,
          ),
        );
        return;
      }
      this.#chunk(chunk.bytes, chunk.line);
    }
  }

  #fail(line: number, column: number, message: string, details: Partial<ManifestError> = {}): void {
    this.errors.push({
      source: this.#source,
      document: this.#documents,
      line,
      column,
      path: '',
      message,
      ...details,
    });
  }

  #chunk(bytes: Uint8Array, firstLine: number): void {
    if (bytes.length > DOCUMENT_BYTES_MAX) {
      this.#fail(
        firstLine,
        1,
        `found a document of ${bytes.length} bytes, expected at most ${DOCUMENT_BYTES_MAX}`,
      );
      return;
    }
    const invalid = firstInvalidUtf8(bytes);
    if (invalid !== undefined) {
      const what = isUtf16(bytes) ? 'UTF-16' : 'bytes that are not UTF-8';
      this.#fail(
        firstLine + invalid.line - 1,
        invalid.column,
        `found ${what}, expected UTF-8; save the file as UTF-8`,
      );
      return;
    }
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
    const lines = new LineIndex(text, firstLine);
    const nul = text.indexOf('\0');
    if (nul !== -1) {
      const { line, column } = lines.position(nul);
      this.#fail(line, column, 'found a NUL character, expected text; remove it');
      return;
    }
    const { roots, errors } = composeText(text);
    for (const { offset, message } of errors) {
      const { line, column } = lines.position(offset);
      const [root] = roots;
      const object = root === undefined ? undefined : this.#nameOf(root.value);
      this.#fail(line, column, message, object === undefined ? {} : { object });
    }
    // A document with a key twice is looked at for more mistakes, but what it means is not certain.
    const acceptable = errors.length === 0;
    for (const root of roots) this.#document(root, lines, acceptable);
  }

  #document(root: YamlNode, lines: LineIndex, acceptable: boolean): void {
    const { value } = root;
    if (value === null) return;
    if (
      isRecord(value) &&
      typeof value.kind === 'string' &&
      value.kind.endsWith('List') &&
      'items' in value
    ) {
      this.#list(root, value, lines, acceptable);
      return;
    }
    this.#object(root, [], lines, acceptable);
  }

  #list(root: YamlNode, value: Record<string, unknown>, lines: LineIndex, acceptable: boolean): void {
    const expectedVersion = listVersion(String(value.kind));
    if (expectedVersion === undefined) {
      this.#object(root, [], lines, false);
      return;
    }
    const problems: FieldError[] = [];
    if (value.apiVersion !== expectedVersion) {
      const found = describeFound(value.apiVersion, true);
      problems.push({
        reason: 'FieldValueNotSupported',
        path: ['apiVersion'],
        message: unsupportedValue(value.apiVersion ?? null, [expectedVersion]),
        found,
        expected: `"${expectedVersion}"`,
      });
    }
    for (const name of Object.keys(value)) {
      if (['apiVersion', 'kind', 'metadata', 'items'].includes(name)) continue;
      problems.push({
        reason: 'FieldUnknown',
        path: [name],
        message: 'unknown field',
        hint: 'expected one of apiVersion, kind, metadata, items',
        found: `"${name}"`,
        expected: 'one of apiVersion, kind, metadata, items',
      });
    }
    const items = root.entries?.get('items')?.node;
    if (!Array.isArray(items?.value)) {
      const found = describeFound(value.items, true);
      problems.push({
        reason: 'FieldValueTypeInvalid',
        path: ['items'],
        message: wrongType('items', 'array', jsonTypeName(value.items)),
        found,
        expected: 'a list of objects',
      });
    }
    for (const problem of problems) this.#fieldError(problem, root, [], lines, undefined);
    for (const [index, item] of (items?.items ?? []).entries()) {
      this.#object(item, ['items', index], lines, acceptable && problems.length === 0);
    }
  }

  #object(node: YamlNode, prefix: readonly PathSegment[], lines: LineIndex, acceptable: boolean): void {
    this.#count += 1;
    const maxObjects = this.#options.maxDocuments ?? DOCUMENTS_MAX;
    if (this.#count > maxObjects) {
      if (this.#count === maxObjects + 1) {
        this.errors.push(
          sourceError(
            this.#source,
            `found more than ${maxObjects} objects, expected fewer; use several files`,
          ),
        );
      }
      return;
    }
    const name = this.#nameOf(node.value);
    const former = name === undefined ? undefined : this.#options.former?.(name);
    const { manifest, errors } = validateObject(node.value, former);
    for (const error of errors) this.#fieldError(error, node, prefix, lines, name);
    if (manifest === undefined || !acceptable) return;
    const { line, column } = lines.position(node.start);
    this.objects.push({
      manifest: {
        ...manifest,
        metadata: { ...manifest.metadata, namespace: manifest.metadata.namespace ?? this.#namespace() },
      },
      ...(this.#options.asWritten && isRecord(node.value) ? { writtenSpec: node.value.spec } : {}),
      source: this.#source,
      document: this.#documents,
      line,
      column,
    });
  }

  #fieldError(
    error: FieldError,
    node: YamlNode,
    prefix: readonly PathSegment[],
    lines: LineIndex,
    object: ObjectName | undefined,
  ): void {
    const offset = offsetOf(node, error.path, error.reason === 'FieldUnknown');
    const { line, column } = lines.position(offset);
    const path = [...prefix, ...error.path];
    this.#fail(line, column, error.message, {
      path: path.length === 0 ? '' : formatPath(path),
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      ...(error.found === undefined ? {} : { found: error.found }),
      ...(error.expected === undefined ? {} : { expected: error.expected }),
      ...(error.nearest === undefined ? {} : { nearest: error.nearest }),
      ...(object === undefined ? {} : { object }),
    });
  }

  #namespace(): string {
    return this.#options.namespace ?? DEFAULT_NAMESPACE;
  }

  /** What the document says its object is called, where kind and names are at least strings. */
  #nameOf(value: unknown): ObjectName | undefined {
    if (!isRecord(value) || typeof value.kind !== 'string' || !isRecord(value.metadata)) return undefined;
    const row = kindNamed(value.kind);
    const { name, namespace } = value.metadata;
    if (row === undefined || typeof name !== 'string' || name === '') return undefined;
    return {
      kind: row.kind,
      namespace: typeof namespace === 'string' && namespace !== '' ? namespace : this.#namespace(),
      name,
    };
  }
}

/** apiVersion of `List` and of our kinds' own lists; `undefined` for a list of anything else. */
function listVersion(kind: string): string | undefined {
  if (kind === 'List') return 'v1';
  const row = KINDS.find((each) => `${each.kind}List` === kind);
  return row === undefined ? undefined : apiVersionOf(row);
}

/**
 * Reads YAML or JSON with any number of documents and Lists. Never throws for what the bytes say; every mistake of every
 * document is reported, in the order of the lines, and the valid documents come back whatever the others are.
 */
export function readManifests(bytes: Uint8Array, source: string, options: ReadOptions = {}): ReadResult {
  const maxBytes = options.maxBytes ?? SOURCE_BYTES_MAX;
  if (bytes.length > maxBytes) {
    return { objects: [], errors: [tooLarge(source, maxBytes, bytes.length)] };
  }
  const marked = BYTE_ORDER_MARK.every((byte, index) => bytes[index] === byte);
  const reader = new Reader(source, options);
  reader.read(marked ? bytes.subarray(BYTE_ORDER_MARK.length) : bytes);
  reader.errors.sort((a, b) => a.document - b.document || a.line - b.line || a.column - b.column);
  return { objects: reader.objects, errors: reader.errors };
}

/** The error for a source that is larger than it may be; `size` where it is known. */
export function tooLarge(source: string, maxBytes: number, size?: number): ManifestError {
  const found = size === undefined ? `more than ${maxBytes} bytes` : `${size} bytes`;
  return sourceError(source, `found ${found}, expected at most ${maxBytes}; split the file`);
}
