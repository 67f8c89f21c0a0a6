// Request bodies: the same bounded reader as for manifests, so that what a file may say, a request may say, and no more.
import { BulkheadError } from '../api/errors.ts';
import { composeText } from '../api/manifest/compose.ts';

/** One YAML or JSON document as a value. Fails with BAD_REQUEST. */
export function parseBody(text: string): unknown {
  const { roots, errors } = composeText(text);
  const [error] = errors;
  if (error !== undefined) throw new BulkheadError('BAD_REQUEST', `the body is ${error.message}`);
  const [root, another] = roots;
  if (root === undefined) throw new BulkheadError('BAD_REQUEST', 'the body is empty');
  if (another !== undefined) throw new BulkheadError('BAD_REQUEST', 'the body holds more than one document');
  return root.value;
}
