import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HELD_BODY_MAX, RequestWatch } from './request-watch.ts';

const get = (host: string) => `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
const post = (headers: string, body: string) => `POST / HTTP/1.1\r\nHost: a\r\n${headers}\r\n\r\n${body}`;

/** What passes of these chunks; `cut` where the connection is cut. */
function passed(chunks: readonly string[], allowed: readonly (string | null)[] = ['a']): string {
  const watch = new RequestWatch(({ host }, head) => (allowed.includes(host) ? { head } : undefined));
  let text = '';
  for (const chunk of chunks) {
    const good = watch.push(Buffer.from(chunk, 'latin1'));
    if (good === undefined) return `${text}cut`;
    text += good.toString('latin1');
  }
  return text;
}

const FINE: Readonly<Record<string, string>> = {
  'one request after another': get('a') + get('a'),
  'a body of a length': post('Content-Length: 5', 'hello') + get('a'),
  'a body that looks like a request': post(`Content-Length: ${get('b').length}`, get('b')) + get('a'),
  'a body in chunks': `${post('Transfer-Encoding: chunked', '5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\n\r\n')}${get('a')}`,
  'a body in chunks with trailers': `${post('Transfer-Encoding: chunked', '1\r\nx\r\n0\r\nA: b\r\n\r\n')}${get('a')}`,
  'an empty line between requests': `${get('a')}\r\n${get('a')}`,
};
for (const [what, text] of Object.entries(FINE)) {
  test(`passes unchanged: ${what}`, () => {
    assert.equal(passed([text]), text);
    assert.equal(passed([...text]), text, 'byte by byte');
  });
}

const BAD: Readonly<Record<string, string>> = {
  'a second request for another host': get('a') + get('b'),
  'a request for another host behind a body': post('Content-Length: 5', 'hello') + get('b'),
  'a request for another host behind chunks': `${post('Transfer-Encoding: chunked', '0\r\n\r\n')}${get('b')}`,
  'two lengths': post('Content-Length: 5\r\nContent-Length: 6', 'hello!'),
  'two equal lengths': post('Content-Length: 5\r\nContent-Length: 5', 'hello'),
  'a length list': post('Content-Length: 5, 5', 'hello'),
  'a signed length': post('Content-Length: +5', 'hello'),
  'a length and chunks': post('Content-Length: 5\r\nTransfer-Encoding: chunked', '0\r\n\r\n'),
  'another coding': post('Transfer-Encoding: gzip, chunked', '0\r\n\r\n'),
  'chunked in disguise': post('Transfer-Encoding: chunked, identity', '0\r\n\r\n'),
  'a chunk size that is none': post('Transfer-Encoding: chunked', 'xyz\r\n'),
  'a chunk size with a sign': post('Transfer-Encoding: chunked', '-1\r\n'),
  'a chunk size beyond all bounds': post('Transfer-Encoding: chunked', 'fffffffffffff\r\n'),
  'a chunk without its end': post('Transfer-Encoding: chunked', '1\r\nxyz'),
  'a bare line feed after a size': post('Transfer-Encoding: chunked', '1\nx\r\n'),
  'words that are no request': `${get('a')}hello\r\n`,
  'a request line that breaks the rules': `${get('a')}GET  / HTTP/1.1\r\nHost: a\r\n\r\n`,
};
for (const [what, text] of Object.entries(BAD)) {
  test(`cuts: ${what}`, () => {
    assert.match(passed([text]), /cut$/);
    assert.match(passed([...text]), /cut$/, 'byte by byte');
  });
}

test('an allowed second host passes', () => {
  const text = get('a') + get('b');
  assert.equal(passed([text], ['a', 'b']), text);
});

test('a head, a size line and trailers without end are cut', () => {
  const long = 'x'.repeat(40_000);
  assert.match(passed([`GET / HTTP/1.1\r\nHost: a\r\nX: ${long}`]), /cut$/);
  assert.match(passed([post('Transfer-Encoding: chunked', `1;${long}`)]), /cut$/);
  assert.match(passed([post('Transfer-Encoding: chunked', `0\r\nX: ${long}`)]), /cut$/);
});

const UPGRADE = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';

test('after the server agreed to another protocol everything passes', () => {
  const watch = new RequestWatch(({ host }, head) => (host === 'a' ? { head } : undefined));
  assert.equal(watch.push(Buffer.from(UPGRADE))?.toString(), UPGRADE);
  assert.equal(watch.asksToSwitch, true);
  watch.answerSwitch(true);
  assert.equal(watch.push(Buffer.from(get('b')))?.toString(), get('b'));
});

test('where the server did not agree requests are followed as before', () => {
  const watch = new RequestWatch(({ host }, head) => (host === 'a' ? { head } : undefined));
  watch.push(Buffer.from(UPGRADE));
  watch.answerSwitch(false);
  assert.equal(watch.push(Buffer.from(get('a')))?.toString(), get('a'));
  assert.equal(watch.push(Buffer.from(get('b'))), undefined);
});

test('words before the answer, and a switch behind another request, are no way out', () => {
  assert.match(passed([UPGRADE + get('b')]), /cut$/);
  assert.match(passed([get('a') + UPGRADE + get('b')]), /cut$/);
});

test('a head and a body go on as they were changed, with the length of what goes on', () => {
  const swap = (bytes: Buffer) =>
    Buffer.from(bytes.toString('latin1').replaceAll('PLACE', 'much longer'), 'latin1');
  const texts: Readonly<Record<string, string>> = {
    length: post('X: PLACE\r\nContent-Length: 9', '[[PLACE]]'),
    chunks: post('X: PLACE\r\nTransfer-Encoding: chunked', '4\r\n[[PL\r\n5\r\nACE]]\r\n0\r\nA: b\r\n\r\n'),
  };
  for (const [what, text] of Object.entries(texts)) {
    for (const chunks of [[text + get('a')], [...text, ...get('a')]]) {
      const watch = new RequestWatch((_head, head) => ({ head: swap(head), body: swap }));
      const passed = chunks
        .map((chunk) => watch.push(Buffer.from(chunk, 'latin1'))?.toString('latin1'))
        .join('');
      const body = '[[much longer]]';
      assert.equal(
        passed,
        `${post(`X: much longer\r\nContent-Length: ${body.length}`, body)}${get('a')}`,
        what,
      );
    }
  }
});

test('a body that is not changed, or is too long to be held, goes on as it came', () => {
  const chunk = (bytes: string) => `${bytes.length.toString(16)}\r\n${bytes}\r\n`;
  const small = post('Transfer-Encoding: chunked', `${chunk('ab')}0\r\n\r\n`);
  const large = post('Transfer-Encoding: chunked', `${chunk('x'.repeat(HELD_BODY_MAX)).repeat(2)}0\r\n\r\n`);
  for (const [text, body] of [
    [small, (bytes: Buffer) => bytes],
    [large, () => Buffer.from('changed')],
  ] as const) {
    const watch = new RequestWatch((_head, head) => ({ head, body }));
    const half = text.length >> 1;
    const parts = [text.slice(0, half), text.slice(half), get('a')].map((each) =>
      watch.push(Buffer.from(each)),
    );
    assert.equal(parts.map(String).join(''), text + get('a'));
  }
});
