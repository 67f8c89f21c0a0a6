// Records what a real API server with our crds/ says of every case of the corpus, into its files. Run it after a change of
// the schemas, read the difference, and commit it: what is recorded is what the tests demand of both sides.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { dump } from 'js-yaml';
import { formatPath } from '../../src/api/validation/field-error.ts';
import { validateObject } from '../../src/api/validation/validate.ts';
import { ApiServer } from '../cluster/api-server.ts';
import { ask } from '../cluster/verdict.ts';
import { CORPUS, type CorpusCase, expand, readCorpus, STORED_MAX_CHARS } from './corpus.ts';

function recorded(each: CorpusCase, verdict: Awaited<ReturnType<typeof ask>>): CorpusCase {
  const { name, valid, differs } = each;
  const full = expand(each) as CorpusCase;
  const former = full.former === undefined ? undefined : { spec: full.former.spec };
  const result = validateObject(full.document, former);
  const ours = result.errors.map(({ path, message }) => `${formatPath(path)}: ${message}`).sort();
  const alsoHere = ours.filter((line) => !verdict.errors.includes(line));
  const changed =
    verdict.stored !== undefined &&
    full.former === undefined &&
    JSON.stringify(verdict.stored.spec) !== JSON.stringify(full.document.spec);
  const stored = changed ? (verdict.stored?.spec as Record<string, unknown>) : undefined;
  return {
    name,
    valid,
    ...(differs === undefined ? {} : { differs }),
    ...(each.former === undefined ? {} : { former: each.former }),
    document: each.document,
    ...(verdict.errors.length === 0 ? {} : { errors: verdict.errors }),
    ...(differs === undefined ? (alsoHere.length === 0 ? {} : { alsoHere }) : { here: ours }),
    ...(stored === undefined || JSON.stringify(full.document.spec).length > STORED_MAX_CHARS
      ? {}
      : { stored }),
  };
}

function heading(path: string): string {
  const lines = readFileSync(join(CORPUS, path), 'utf8').split('\n');
  return `${lines
    .slice(
      0,
      lines.findIndex((line) => !line.startsWith('#')),
    )
    .join('\n')}\n`;
}

await using server = await ApiServer.start();
await server.applyCrds();
for (const { path, cases } of readCorpus()) {
  const results: CorpusCase[] = [];
  let wrong = 0;
  for (const each of cases) {
    const verdict = await ask(server, expand(each) as CorpusCase);
    if (verdict.valid !== each.valid) {
      wrong += 1;
      console.log(
        `${each.name}: valid is ${each.valid}, the API server says ${verdict.errors.join('; ') || 'yes'}`,
      );
    }
    results.push(recorded(each, verdict));
  }
  const text = results.map((one) => dump([one], { flowLevel: 2, lineWidth: -1, noRefs: true })).join('');
  writeFileSync(join(CORPUS, path), `${heading(path)}${text}`);
  console.log(`${path}: ${results.length} cases, ${wrong} with another verdict than their author's`);
}
