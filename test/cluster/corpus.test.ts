// The other side of test/corpus: a real API server with our crds/ gives the verdict, the words and the defaults that our
// validator gives (src/api/validation/corpus.test.ts).
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { validateObject } from '../../src/api/validation/validate.ts';
import { corpusCases } from '../corpus/corpus.ts';
import { ApiServer } from './api-server.ts';
import { ask } from './verdict.ts';

let server: ApiServer;

before(async () => {
  server = await ApiServer.start();
  await server.applyCrds();
});
after(async () => {
  await server[Symbol.asyncDispose]();
});

describe('the API server, of each case', () => {
  for (const one of corpusCases()) {
    test(one.name, async () => {
      const { valid, errors, complete, stored } = await ask(server, one);
      assert.equal(valid, one.valid, errors.join('\n'));
      assert.deepEqual(errors, one.errors ?? []);
      if (one.alsoHere !== undefined) assert.equal(complete, false, 'it evaluated everything, yet says less');
      if (stored === undefined) return;
      const former = one.former === undefined ? undefined : { spec: one.former.spec };
      assert.deepEqual(stored.spec, validateObject(one.document, former).manifest?.spec);
    });
  }
});
