import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { HTTP_HEAD_MAX, readHttpHead } from './http-head.ts';

const read = (text: string) => readHttpHead(Buffer.from(text, 'latin1'));
const hostOf = (text: string) => {
  const head = read(text);
  return head.state === 'head' ? head.host : head.state;
};

test('a request tells method, target, host and where its body begins', () => {
  const text = 'POST /a?b HTTP/1.1\r\nHost: API.example.com:8080\r\nContent-Length: 2\r\n\r\n';
  assert.deepEqual(read(`${text}{}`), {
    state: 'head',
    method: 'POST',
    target: '/a?b',
    host: 'api.example.com',
    length: text.length,
    body: 2,
    upgrade: false,
  });
});

test('hosts come in every form that is legal', () => {
  assert.equal(hostOf('GET / HTTP/1.1\r\nhost:\t a.example \r\n\r\n'), 'a.example');
  assert.equal(hostOf('GET / HTTP/1.1\r\nHost: [2001:DB8::1]:80\r\n\r\n'), '2001:db8::1');
  assert.equal(hostOf('GET http://a.example/x HTTP/1.1\r\nHost: a.example:80\r\n\r\n'), 'a.example');
  assert.equal(hostOf('CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n'), 'a.example');
  assert.equal(hostOf('OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n'), 'a.example');
  assert.equal(hostOf('GET / HTTP/1.0\r\n\r\n'), null);
  assert.equal(hostOf('\r\n\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n'), 'a.example');
});

test('while bytes are missing it is incomplete, at every length', () => {
  const text = 'GET / HTTP/1.1\r\nHost: a.example\r\nA: b\r\n\r\n';
  for (let length = 0; length < text.length; length += 1)
    assert.equal(read(text.slice(0, length)).state, 'incomplete', `${length}`);
});

test('other protocols are other, HTTP/2 in clear text is told apart', () => {
  for (const text of [
    'SSH-2.0-OpenSSH_9\r\n',
    'EHLO a.example\r\n',
    '\x16\x03\x01',
    'NICK a\r\nUSER b\r\n',
    'SET a b\r\n',
    '\r\n'.repeat(9),
  ])
    assert.equal(read(text).state, 'other', text);
  assert.equal(read('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxx').state, 'http2');
  assert.equal(read('PRI * HT').state, 'incomplete');
});

describe('refused, since two servers could read it in two ways', () => {
  const CASES: Record<string, string> = {
    'two hosts': 'GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n',
    'a target and a header that differ': 'GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n',
    'a tunnel to another host than the header says':
      'CONNECT b.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n',
    'a bare LF': 'GET / HTTP/1.1\nHost: a.example\n\n',
    'a bare LF within the head': 'GET / HTTP/1.1\r\nA: b\nHost: b.example\r\nHost: a.example\r\n\r\n',
    'a bare CR': 'GET / HTTP/1.1\r\nA: b\rHost: b.example\r\nHost: a.example\r\n\r\n',
    'a folded line': 'GET / HTTP/1.1\r\nHost: a.example\r\n b.example\r\n\r\n',
    'a space before the colon': 'GET / HTTP/1.1\r\nHost : a.example\r\n\r\n',
    'a line without a colon': 'GET / HTTP/1.1\r\nHost\r\n\r\n',
    'no host where there must be one': 'GET / HTTP/1.1\r\n\r\n',
    'an empty host': 'GET / HTTP/1.1\r\nHost:\r\n\r\n',
    'a user before the host': 'GET http://a.example@b.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n',
    'a list of hosts': 'GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n',
    'a NUL': 'GET / HTTP/1.1\r\nHost: a.example\0\r\n\r\n',
    'spaces in the request line': 'GET  / HTTP/1.1\r\nHost: a.example\r\n\r\n',
    'a tab in the request line': 'GET\t/ HTTP/1.1\r\nHost: a.example\r\n\r\n',
    'another version': 'GET / HTTP/1.2\r\nHost: a.example\r\n\r\n',
    'a version in lower case': 'GET / http/1.1\r\nHost: a.example\r\n\r\n',
    'a target that is none': 'GET a.example HTTP/1.1\r\nHost: a.example\r\n\r\n',
    'a head beyond the bound': `GET / HTTP/1.1\r\nA: ${'b'.repeat(HTTP_HEAD_MAX)}`,
    'too many lines': `GET / HTTP/1.1\r\n${'A: b\r\n'.repeat(201)}\r\n`,
  };
  for (const [what, text] of Object.entries(CASES)) {
    test(what, () => assert.equal(read(text).state, 'invalid'));
  }
});
