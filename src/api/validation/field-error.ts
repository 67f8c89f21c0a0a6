// What is wrong with one field, in a form that programs can use, with the one sentence that people read everywhere.
import { goQuote } from './api-words.ts';

export type PathSegment = string | number;

/** CamelCase as in the causes of a Kubernetes `Status`; `FieldUnknown` is ours. */
export type FieldErrorReason =
  | 'FieldValueRequired'
  | 'FieldValueTypeInvalid'
  | 'FieldValueInvalid'
  | 'FieldValueNotSupported'
  | 'FieldValueTooLong'
  | 'FieldValueTooMany'
  | 'FieldValueDuplicate'
  | 'FieldUnknown';

export interface FieldError {
  reason: FieldErrorReason;
  path: readonly PathSegment[];
  /** Sentence without the path, in the words of Kubernetes' API server: the same in folder, server and cluster. */
  message: string;
  /** What helps a person beyond that; a cluster does not say it. */
  hint?: string;
  /** What stands there, shortened; never a value of a Secret. */
  found?: string;
  expected?: string;
  /** Valid name that was probably meant. */
  nearest?: string;
}

/** A document with thousands of mistakes has one cause; more lines help nobody. */
export const ERRORS_PER_OBJECT_MAX = 100;

/** Names that a path shows as they are, as Kubernetes does with all. */
const PLAIN_SEGMENT = /^[!#-Z^-~]+$/;
/** Keys come from hostile documents; this much of one is enough to find it. */
const SEGMENT_SHOWN_MAX = 64;

/** `spec.ports[0].port`, `spec.sandboxSelector.matchLabels.example.com/team`; `(document)` for the whole. */
export function formatPath(path: readonly PathSegment[]): string {
  let text = '';
  for (const segment of path) {
    if (typeof segment === 'number') text += `[${segment}]`;
    else if (PLAIN_SEGMENT.test(segment) && segment.length <= SEGMENT_SHOWN_MAX) {
      text += text === '' ? segment : `.${segment}`;
    } else text += `[${quote(segment)}]`;
  }
  return text === '' ? '(document)' : text;
}

/** `spec.driver: Unsupported value: "Fast": supported values: "Auto", ... (did you mean ...?)`. */
export function formatFieldError(error: FieldError): string {
  return `${formatPath(error.path)}: ${withHint(error)}`;
}

/** The sentence with what helps beyond it. */
export function withHint({ message, hint }: Pick<FieldError, 'message' | 'hint'>): string {
  return hint === undefined ? message : `${message} (${hint})`;
}

/** Text in quotes, shortened, with control characters escaped so that a terminal shows them and does not obey them. */
export function quote(text: string): string {
  return goQuote(text, SEGMENT_SHOWN_MAX);
}

/** What kind of value it is, with its article. */
export function typeName(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  switch (typeof value) {
    case 'string':
      return 'a string';
    case 'number':
    case 'bigint':
      return 'a number';
    case 'boolean':
      return 'a boolean';
    default:
      return 'a mapping';
  }
}

/** A value for a message: its text and, where asked, its type. */
export function describeFound(value: unknown, withType: boolean): string {
  if (typeof value === 'string') return withType ? `${quote(value)} (a string)` : quote(value);
  if (typeof value === 'number' || typeof value === 'boolean') {
    return withType ? `${String(value)} (${typeName(value)})` : String(value);
  }
  return typeName(value);
}
