import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SandboxSecrets } from './sandbox-secrets.ts';
import { placeholderOf } from './secret.ts';

const placeholder = placeholderOf('uid', 'KEY');
const other = placeholderOf('uid', 'OTHER');
const VALUE = 'sk-$&1+ä/=';

function secrets(...injectInto: ('Headers' | 'Query' | 'Body')[]): SandboxSecrets {
  const all = new SandboxSecrets();
  all.set([
    { env: 'KEY', placeholder, value: VALUE, allowHosts: ['api.example.com', '*.test'], injectInto },
    { env: 'OTHER', placeholder: other, value: 'x', allowHosts: ['other.example.com'], injectInto },
  ]);
  return all;
}
const to = (host: string | null, serverName = host) => ({ host, serverName });
const bytes = (text: string) => Buffer.from(text).toString('latin1');

test('a header carries the value in place of the placeholder, to its hosts alone', () => {
  for (const host of ['api.example.com', 'API.example.com.', 'a.b.test']) {
    const request = secrets('Headers').of(to(host));
    assert.equal(request.header(`Bearer ${placeholder}`), bytes(`Bearer ${VALUE}`));
    assert.deepEqual(request.takeUsed(), ['KEY']);
  }
  for (const target of [
    to('example.com'),
    to('other.example.com'),
    to('test'),
    to(null),
    to('api.example.com', 'a.test'), // the connection is another host's
    to('api.example.com', null),
  ]) {
    const request = secrets('Headers').of(target);
    assert.equal(request.header(`Bearer ${placeholder}`), `Bearer ${placeholder}`);
    assert.deepEqual(request.takeUsed(), []);
  }
});

test('HTTP Basic carries it within its base64', () => {
  const request = secrets('Headers').of(to('api.example.com'));
  const basic = `Basic ${Buffer.from(`user:${placeholder}`).toString('base64')}`;
  assert.equal(request.header(basic), `Basic ${Buffer.from(`user:${VALUE}`).toString('base64')}`);
  assert.equal(request.header('Basic dXNlcjpwYXNz'), 'Basic dXNlcjpwYXNz');
});

test('the query and the body carry it where that is asked for, and nowhere else', () => {
  const path = `/${placeholder}?a=1&key=${placeholder}#x`;
  const body = Buffer.from(`{"key":"${placeholder}","more":"${placeholder}"}`);
  const asked = secrets('Query', 'Body').of(to('api.example.com'));
  assert.equal(asked.target(path), `/${placeholder}?a=1&key=${encodeURIComponent(VALUE)}#x`);
  assert.equal(asked.body(body).toString(), `{"key":"${VALUE}","more":"${VALUE}"}`);
  assert.equal(asked.wantsBody, true);
  assert.equal(asked.header(placeholder), placeholder);
  const headers = secrets('Headers').of(to('api.example.com'));
  assert.equal(headers.target(path), path);
  assert.equal(headers.body(body), body);
  assert.equal(headers.wantsBody, false);
});

test('a value that is gone is put nowhere', () => {
  const all = new SandboxSecrets();
  all.set([{ env: 'KEY', placeholder, allowHosts: ['a.test'], injectInto: ['Headers'] }]);
  assert.equal(all.of(to('a.test')).header(placeholder), placeholder);
  assert.equal(all.scan()?.push(Buffer.from(placeholder)), 'KEY');
});

test('nothing is looked for in a sandbox without secrets', () => {
  assert.equal(new SandboxSecrets().scan(), undefined);
});
