import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readTrust } from './front-proxy.ts';
import { answerHeaders, requestHeaders } from './headers.ts';

const CA = '-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n';
const PUBLISHED = {
  'requestheader-client-ca-file': CA,
  'requestheader-allowed-names': '["front-proxy-client"]',
  'requestheader-username-headers': '["X-Remote-User","X-Other"]',
};

test('what the API server publishes is read as it means it', () => {
  assert.deepEqual(readTrust(PUBLISHED), {
    ca: CA,
    allowedNames: ['front-proxy-client'],
    userHeaders: ['x-remote-user', 'x-other'],
  });
  const { 'requestheader-allowed-names': _, ...anyName } = PUBLISHED;
  assert.deepEqual(readTrust(anyName).allowedNames, []);
});

test('what cannot be read lets nobody in', () => {
  const wrong: Record<string, string>[] = [
    {},
    { ...PUBLISHED, 'requestheader-client-ca-file': '' },
    { ...PUBLISHED, 'requestheader-username-headers': '[]' },
    { ...PUBLISHED, 'requestheader-allowed-names': 'front-proxy-client' },
    { ...PUBLISHED, 'requestheader-allowed-names': '[1]' },
    { ...PUBLISHED, 'requestheader-allowed-names': '{}' },
  ];
  for (const data of wrong)
    assert.throws(() => readTrust(data), { code: 'NOT_SUPPORTED' }, JSON.stringify(data));
  assert.throws(() => readTrust(undefined), { code: 'NOT_SUPPORTED' });
});

test('headers of one connection and secrets of users stay behind', () => {
  const pairs = (...names: string[]) => names.flatMap((name) => [name, '1']);
  const kept = pairs('Content-Type', 'Sec-WebSocket-Key', 'Content-Length', 'X-Own');
  const dropped = pairs('Authorization', 'Cookie', 'X-Remote-User', 'X-Remote-Extra-A', 'X-Forwarded-For');
  const hops = [...pairs('Upgrade', 'TE', 'Transfer-Encoding'), 'Connection', 'Upgrade, X-Hop', 'X-Hop', '1'];
  assert.deepEqual(
    requestHeaders([...hops, ...kept, ...dropped, ...pairs('Host', 'Expect', 'Impersonate-User')]),
    kept,
  );
  assert.deepEqual(answerHeaders([...hops, ...kept, 'Set-Cookie', 'a', 'Set-Cookie', 'b']), [
    ...kept,
    ...['Set-Cookie', 'a', 'Set-Cookie', 'b'],
  ]);
});
