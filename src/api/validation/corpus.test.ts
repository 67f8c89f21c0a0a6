// Our side of test/corpus: the same verdict and the same words as Kubernetes' API server, whose words were recorded there.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type CorpusCase, corpusCases, readCorpus, STORED_MAX_CHARS } from '../../../test/corpus/corpus.ts';
import { generatedFile } from '../../../test/corpus/generate.ts';
import { CRD_KINDS } from '../crd/crd.ts';
import { formatPath } from './field-error.ts';
import { validateObject } from './validate.ts';

const cases = corpusCases();

/** As the corpus writes them. */
function words(one: CorpusCase): string[] {
  const former = one.former === undefined ? undefined : { spec: one.former.spec };
  return validateObject(one.document, former)
    .errors.map(({ path, message }) => `${formatPath(path)}: ${message}`)
    .sort();
}

test('the corpus has over two hundred cases of each verdict, each of its own name', () => {
  assert.ok(cases.filter(({ valid }) => valid).length > 200);
  assert.ok(cases.filter(({ valid }) => !valid).length > 200);
  const names = cases.map(({ name }) => name);
  assert.deepEqual(
    names.filter((name, index) => names.indexOf(name) !== index),
    [],
  );
});

test('the generated part is what the schemas give', () => {
  const files = new Map(readCorpus().map(({ path, cases }) => [path, cases]));
  for (const kind of CRD_KINDS) {
    const { path, cases: expected } = generatedFile(kind);
    const plain = (all: readonly CorpusCase[] = []) =>
      all.map(({ name, valid, document }) => ({ name, valid, document }));
    assert.deepEqual(
      plain(files.get(path)),
      plain(expected),
      `${path} is stale: run test/corpus/generate.ts, then test/corpus/record.ts`,
    );
  }
});

describe('verdict and words of each case', () => {
  for (const one of cases) {
    test(one.name, () => {
      const found = words(one);
      assert.equal(found.length === 0, one.valid, found.join('\n'));
      const expected = one.here ?? [...(one.errors ?? []), ...(one.alsoHere ?? [])].sort();
      assert.deepEqual(found, expected);
      // What is stored is recorded for documents alone, and not for large ones; the test in test/cluster compares all.
      const text = JSON.stringify(one.document.spec) ?? '';
      if (!one.valid || one.former !== undefined || text.length > STORED_MAX_CHARS) return;
      const { manifest } = validateObject(one.document);
      assert.deepEqual(manifest?.spec, one.stored ?? one.document.spec);
    });
  }
});
