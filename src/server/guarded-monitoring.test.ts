import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connect } from 'node:tls';
import { BulkheadError } from '../api/errors.ts';
import { createGuardedMonitoring, type GuardedMonitoring } from './guarded-monitoring.ts';
import { freePort } from './testing/harness.ts';

let monitoring: GuardedMonitoring;
let port = 0;
let checked: string[] = [];

/** A certificate of its own authority, and its key. */
function selfSigned(name: string): { cert: string; key: string } {
  const dir = mkdtempSync(join(tmpdir(), 'bulkhead-certificate-'));
  try {
    const [cert, key] = [join(dir, 'cert'), join(dir, 'key')];
    const what = ['req', '-x509', '-nodes', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];
    execFileSync('openssl', [...what, '-subj', `/CN=${name}`, '-out', cert, '-keyout', key], {
      stdio: 'pipe',
    });
    return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

before(async () => {
  monitoring = createGuardedMonitoring({
    healthChecks: [],
    metrics: async () => ({ contentType: 'text/plain', body: Buffer.from('figures') }),
    async check(token) {
      checked.push(token);
      if (token === 'nobody can say')
        throw new BulkheadError('API_SERVER_UNAVAILABLE', 'The API server does not answer.');
      if (token === 'scraper') return 'allowed';
      return token === 'stranger' ? 'forbidden' : 'unauthenticated';
    },
    tls: selfSigned('first'),
  });
  port = await freePort();
  await monitoring.listen(`127.0.0.1:${port}`);
});

after(() => monitoring.close());

function get(path: string, authorization?: string) {
  const { promise, resolve, reject } = Promise.withResolvers<{
    code: number | undefined;
    asks: string | undefined;
    text: string;
  }>();
  const headers = authorization === undefined ? {} : { authorization };
  request({ host: '127.0.0.1', port, path, headers, rejectUnauthorized: false, agent: false }, (answer) => {
    let text = '';
    answer.on('data', (chunk: Buffer) => (text += chunk.toString()));
    answer.on('end', () =>
      resolve({ code: answer.statusCode, asks: answer.headers['www-authenticate'], text }),
    );
  })
    .on('error', reject)
    .end();
  return promise;
}

test('who may gets the metrics, who may not 403, and who has no token that is known 401', async () => {
  checked = [];
  assert.deepEqual(await get('/metrics', 'Bearer scraper'), { code: 200, asks: undefined, text: 'figures' });
  assert.equal((await get('/metrics', 'Bearer stranger')).code, 403);
  for (const authorization of [undefined, 'Bearer invented', 'Basic c2NyYXBlcg==', 'Bearer ', 'scraper']) {
    const { code, asks } = await get('/metrics', authorization);
    assert.deepEqual([code, asks], [401, 'Bearer'], String(authorization));
  }
  assert.deepEqual(checked, ['scraper', 'stranger', 'invented']);
});

test('no spelling of the path gets around that', async () => {
  for (const path of ['/%6Detrics', '/metrics/', '//metrics', '/metrics?x', '/healthz/../metrics', '/'])
    assert.notEqual((await get(path)).code, 200, path);
});

test('health is for everybody', async () => {
  assert.deepEqual(await get('/readyz'), { code: 200, asks: undefined, text: 'ok' });
});

test('a renewed certificate is the one of the next connection', async () => {
  monitoring.renew(selfSigned('second'));
  const { promise, resolve } = Promise.withResolvers<unknown>();
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false }, () =>
    resolve(socket.getPeerCertificate().subject.CN),
  );
  assert.equal(await promise, 'second');
  socket.destroy();
});
