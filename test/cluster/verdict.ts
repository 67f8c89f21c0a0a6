// What an API server says of a case of the corpus, in the form in which the corpus writes it.
import assert from 'node:assert/strict';
import type { CorpusCase } from '../corpus/corpus.ts';
import type { ApiRequest, ApiResponse, ApiServer } from './api-server.ts';

export interface Verdict {
  valid: boolean;
  /** `path: sentence`, sorted. */
  errors: string[];
  /** Did it evaluate all that it has? Not beside an unknown field, and no rules beside mistakes of type and bounds. */
  complete: boolean;
  /** The object as it would be stored. */
  stored: { spec: unknown } | undefined;
}

const PLURALS: Readonly<Record<string, string>> = {
  Sandbox: 'sandboxes',
  Volume: 'volumes',
  NetworkPolicy: 'networkpolicies',
};
const RULES_SKIPPED = 'some validation rules were not checked';

interface Refusal {
  message: string;
  details?: { causes?: { field?: string; message?: string }[] };
}

function refused({ message, details }: Refusal): Omit<Verdict, 'valid' | 'stored'> {
  const strict = [...message.matchAll(/unknown field "((?:[^"\\]|\\.)*)"/g)];
  if (strict.length > 0) {
    return { errors: strict.map(([, path]) => `${path}: unknown field`).sort(), complete: false };
  }
  const causes = details?.causes ?? [];
  if (causes.length === 0) return { errors: [message], complete: false };
  const said = causes.filter((cause) => !(cause.message ?? '').includes(RULES_SKIPPED));
  const lines = said.map(({ field = '', message: words = '' }) => `${field}: ${words}`);
  return { errors: [...new Set(lines)].sort(), complete: said.length === causes.length };
}

function verdictOf({ status, body }: ApiResponse): Verdict {
  if (status === 200 || status === 201)
    return { valid: true, errors: [], complete: true, stored: body as { spec: unknown } };
  // Other refusals are about the request, which would be the test's mistake.
  assert.ok(status === 422 || status === 400, `${status}: ${JSON.stringify(body)}`);
  return { valid: false, stored: undefined, ...refused(body as Refusal) };
}

/** Asks without a trace: dry runs, and an update's former object is gone again afterwards. */
export async function ask(server: ApiServer, one: CorpusCase): Promise<Verdict> {
  const kind = String((one.former ?? one.document).kind);
  const collection = `/apis/bulkhead.dev/v1alpha1/namespaces/default/${PLURALS[kind]}`;
  const query = '?dryRun=All&fieldValidation=Strict';
  const send = (method: NonNullable<ApiRequest['method']>, path: string, body?: unknown) =>
    server.request(path, { method, ...(body === undefined ? {} : { body }) });
  if (one.former === undefined) return verdictOf(await send('POST', `${collection}${query}`, one.document));

  const created = await send('POST', `${collection}?fieldValidation=Strict`, one.former);
  assert.equal(created.status, 201, `the former object of "${one.name}": ${JSON.stringify(created.body)}`);
  const { name, resourceVersion } = (created.body as { metadata: { name: string; resourceVersion: string } })
    .metadata;
  try {
    const metadata = { ...(one.document.metadata as object), resourceVersion };
    return verdictOf(await send('PUT', `${collection}/${name}${query}`, { ...one.document, metadata }));
  } finally {
    const { status } = await send('DELETE', `${collection}/${name}`);
    assert.equal(status, 200);
  }
}
