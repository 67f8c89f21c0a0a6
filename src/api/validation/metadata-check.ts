// What metadata may hold, as apimachinery checks it for every kind and in its words. Kubernetes has no schema for it in a
// CRD; types and unknown fields are checked by the schema in src/api/metadata.ts.
import { invalidValue, REQUIRED } from './api-words.ts';
import type { FieldError } from './field-error.ts';
import { isRecord } from './structural.ts';

const LABEL = '[a-z0-9]([-a-z0-9]*[a-z0-9])?';
const SUBDOMAIN = `${LABEL}(\\.${LABEL})*`;
const KEY_NAME = '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]';
const LABEL_VALUE = `(${KEY_NAME})?`;
const LABEL_MAX = 63;
const SUBDOMAIN_MAX = 253;

const LABEL_WORDS =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const SUBDOMAIN_WORDS =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const KEY_WORDS =
  "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const VALUE_WORDS =
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/** Longer texts are refused for their length alone: a pattern's cost must not be their author's choice. */
const MATCHED_LENGTH_MAX = 1024;

const matchers = new Map<string, RegExp>();

/** Texts of any length whose form is of no interest any more match. */
function isWhole(pattern: string, text: string): boolean {
  if (text.length > MATCHED_LENGTH_MAX) return true;
  let matcher = matchers.get(pattern);
  if (matcher === undefined) {
    matcher = new RegExp(`^(?:${pattern})$`);
    matchers.set(pattern, matcher);
  }
  return matcher.test(text);
}

function byPattern(words: string, pattern: string, ...examples: readonly string[]): string {
  const shown = examples.map((example) => `'${example}', `).join(' or ');
  return `${words} (e.g. ${shown}regex used for validation is '${pattern}')`;
}

/** Kubernetes counts bytes, which it calls characters in names of objects. */
function atMost(text: string, maximum: number, unit: 'bytes' | 'characters'): string[] {
  return Buffer.byteLength(text) > maximum ? [`must be no more than ${maximum} ${unit}`] : [];
}

function subdomainMistakes(text: string, unit: 'bytes' | 'characters'): string[] {
  const mistakes = atMost(text, SUBDOMAIN_MAX, unit);
  if (!isWhole(SUBDOMAIN, text)) mistakes.push(byPattern(SUBDOMAIN_WORDS, SUBDOMAIN, 'example.com'));
  return mistakes;
}

function namespaceMistakes(text: string): string[] {
  const mistakes = atMost(text, LABEL_MAX, 'characters');
  if (isWhole(LABEL, text)) return mistakes;
  const dots = isWhole(SUBDOMAIN, text);
  return [...mistakes, dots ? 'must not contain dots' : byPattern(LABEL_WORDS, LABEL, 'my-name', '123-abc')];
}

function keyMistakes(key: string): string[] {
  const parts = key.split('/');
  const examples = ['MyName', 'my.name', '123-abc'] as const;
  if (parts.length > 2) {
    const words = byPattern(KEY_WORDS, KEY_NAME, ...examples);
    return [
      `a valid label key ${words} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`,
    ];
  }
  const name = parts.at(-1) ?? '';
  const prefix = parts.length === 2 ? parts[0] : undefined;
  const mistakes: string[] = [];
  if (prefix === '') mistakes.push('prefix part must be non-empty');
  else if (prefix !== undefined)
    mistakes.push(...subdomainMistakes(prefix, 'bytes').map((each) => `prefix part ${each}`));
  if (name === '') mistakes.push('name part must be non-empty');
  else mistakes.push(...atMost(name, LABEL_MAX, 'bytes').map((each) => `name part ${each}`));
  if (!isWhole(KEY_NAME, name)) mistakes.push(`name part ${byPattern(KEY_WORDS, KEY_NAME, ...examples)}`);
  return mistakes;
}

function valueMistakes(value: string): string[] {
  const mistakes = atMost(value, LABEL_MAX, 'bytes');
  if (!isWhole(LABEL_VALUE, value))
    mistakes.push(byPattern(VALUE_WORDS, LABEL_VALUE, 'MyValue', 'my_value', '12345'));
  return mistakes;
}

/** Checks what is of the right type; the rest is the schema's. */
export function checkMetadata(metadata: unknown): FieldError[] {
  if (metadata !== undefined && !isRecord(metadata)) return [];
  const errors: FieldError[] = [];
  const say = (field: string, value: string, mistakes: readonly string[]) => {
    for (const mistake of mistakes) {
      errors.push({
        reason: 'FieldValueInvalid',
        path: ['metadata', field],
        message: invalidValue(value, mistake),
      });
    }
  };
  const { name, namespace, labels, annotations, finalizers } = metadata ?? {};
  if (name === undefined || name === '') {
    const message = `${REQUIRED}: name or generateName is required`;
    errors.push({ reason: 'FieldValueRequired', path: ['metadata', 'name'], message });
  } else if (typeof name === 'string') say('name', name, subdomainMistakes(name, 'characters'));
  if (typeof namespace === 'string') say('namespace', namespace, namespaceMistakes(namespace));
  if (isRecord(labels)) {
    for (const [key, value] of Object.entries(labels)) {
      say('labels', key, keyMistakes(key));
      if (typeof value === 'string') say('labels', value, valueMistakes(value));
    }
  }
  // In annotations the case of the prefix does not matter.
  if (isRecord(annotations)) {
    for (const key of Object.keys(annotations)) say('annotations', key, keyMistakes(key.toLowerCase()));
  }
  if (Array.isArray(finalizers)) {
    for (const finalizer of finalizers as unknown[]) {
      if (typeof finalizer === 'string') say('finalizers', finalizer, keyMistakes(finalizer));
    }
  }
  return errors;
}
