// JSONPath as people type it: what is none is wrong usage.
import { JsonPathError, jsonPathTemplate as template, jsonPathValues as values } from '../../api/jsonpath.ts';
import { usage } from '../failure.ts';

function checked<T>(compile: () => T): T {
  try {
    return compile();
  } catch (error) {
    if (error instanceof JsonPathError) throw usage(error.message);
    throw error;
  }
}

/** A compiled template, as a function from an object to text. Fails as wrong usage where it is none. */
export function jsonPathTemplate(text: string): (object: unknown) => string {
  return checked(() => template(text));
}

/** A compiled path, as a function from an object to the values there. Fails as wrong usage where it is none. */
export function jsonPathValues(text: string): (object: unknown) => unknown[] {
  return checked(() => values(text));
}
