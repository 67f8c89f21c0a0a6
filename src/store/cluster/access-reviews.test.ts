import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AccessReviews, type Verdict } from './access-reviews.ts';
import type { ApiRequest } from './api-client.ts';

/** An API server that knows the tokens `scraper` and `stranger`, of which the first may. */
function world() {
  const asked: ApiRequest[] = [];
  let now = 0;
  const client = {
    async send(request: ApiRequest) {
      asked.push(request);
      const { spec } = request.body as { spec: Record<string, unknown> };
      if (request.path.endsWith('/subjectaccessreviews'))
        return { status: { allowed: spec.user === 'scraper' } };
      const known = ['scraper', 'stranger'].includes(String(spec.token));
      return { status: known ? { authenticated: true, user: { username: spec.token, groups: ['g'] } } : {} };
    },
  };
  const reviews = new AccessReviews(client, { path: '/metrics', verb: 'get' }, () => now);
  return { asked, client, reviews, pass: (ms: number) => (now += ms) };
}

test('who is known and may is allowed, who may not is forbidden, and an unknown token is nobody', async () => {
  const { reviews, asked } = world();
  const verdicts: Record<string, Verdict> = {
    scraper: 'allowed',
    stranger: 'forbidden',
    invented: 'unauthenticated',
    ['x'.repeat(20_000)]: 'unauthenticated',
  };
  for (const [token, verdict] of Object.entries(verdicts)) assert.equal(await reviews.check(token), verdict);
  const { spec } = (asked[1]?.body ?? {}) as { spec?: unknown };
  assert.deepEqual(spec, {
    nonResourceAttributes: { path: '/metrics', verb: 'get' },
    ...{ user: 'scraper', uid: undefined, groups: ['g'], extra: undefined },
  });
  assert.ok(
    !asked.some(({ body }) => JSON.stringify(body).length > 1_000),
    'what is too long is not sent on',
  );
});

test('an answer is kept for a while, a refusal for a shorter one', async () => {
  const { reviews, asked, pass } = world();
  const requestsFor = async (token: string): Promise<number> => {
    const before = asked.length;
    await reviews.check(token);
    return asked.length - before;
  };
  assert.deepEqual([await requestsFor('scraper'), await requestsFor('stranger')], [2, 2]);
  assert.deepEqual([await requestsFor('scraper'), await requestsFor('stranger')], [0, 0]);
  pass(10_000);
  assert.deepEqual([await requestsFor('scraper'), await requestsFor('stranger')], [0, 2]);
  pass(50_000);
  assert.equal(await requestsFor('scraper'), 2);
});

test('a flood of invented tokens pushes out nobody who may', async () => {
  const { reviews, asked } = world();
  await reviews.check('scraper');
  for (let index = 0; index < 1_000; index += 1) await reviews.check(`invented-${index}`);
  const before = asked.length;
  assert.equal(await reviews.check('scraper'), 'allowed');
  assert.equal(asked.length, before);
  await reviews.check('invented-0');
  assert.equal(asked.length, before + 1, 'the oldest refusals are forgotten');
});

test('one question is asked for those who come together, few at a time, and none is kept where there is no answer', async () => {
  const { reviews, client, asked } = world();
  const { send } = client;
  const held = Promise.withResolvers<void>();
  client.send = async (request) => {
    await held.promise;
    return send(request);
  };
  const together = [reviews.check('scraper'), reviews.check('scraper')];
  const others = Array.from({ length: 7 }, (_, index) => reviews.check(`invented-${index}`));
  await assert.rejects(reviews.check('one more'), { code: 'TOO_MANY_REQUESTS' });
  held.resolve();
  assert.deepEqual(await Promise.all(together), ['allowed', 'allowed']);
  await Promise.all(others);
  assert.equal(asked.length, 2 + 7);
  client.send = () => Promise.reject(new Error('no answer'));
  await assert.rejects(reviews.check('stranger'), /no answer/);
  client.send = send;
  assert.equal(await reviews.check('stranger'), 'forbidden');
});
