import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CLIENT_HELLO_MAX, readClientHello } from './client-hello.ts';
import { clientHello, extension, records, serverName, vector } from './testing/tls.ts';

const HELLO = clientHello([
  serverName('api.example.com'),
  extension(16, vector(2, vector(1, Buffer.from('h2')))),
]);

function nameIn(bytes: Buffer): string | null | undefined {
  const hello = readClientHello(bytes);
  return hello.state === 'hello' ? hello.serverName : undefined;
}

test('a ClientHello tells server name and protocols', () => {
  assert.deepEqual(readClientHello(records(HELLO)), {
    state: 'hello',
    serverName: 'api.example.com',
    alpn: ['h2'],
    encryptedHello: false,
  });
});

test('it may name no server, have no extensions, or an encrypted hello', () => {
  assert.equal(nameIn(records(clientHello([]))), null);
  assert.equal(nameIn(records(clientHello(undefined))), null);
  const hello = readClientHello(
    records(clientHello([extension(0xfe0d, Buffer.alloc(8)), serverName('a.example')])),
  );
  assert.ok(hello.state === 'hello' && hello.encryptedHello);
});

test('split over records at any place it is the same', () => {
  for (let size = 1; size < HELLO.length; size += 1) {
    const split = records(HELLO, size);
    const expected = Math.ceil(HELLO.length / size) > 64 ? undefined : 'api.example.com';
    assert.equal(nameIn(split), expected, `records of ${size}`);
  }
});

test('while bytes are missing it is incomplete, at every length', () => {
  const bytes = records(HELLO, 50);
  for (let length = 0; length < bytes.length; length += 1)
    assert.equal(readClientHello(bytes.subarray(0, length)).state, 'incomplete', `${length}`);
});

test('bytes behind it do not matter', () => {
  assert.equal(nameIn(Buffer.concat([records(HELLO), Buffer.from('whatever')])), 'api.example.com');
});

test('what is not TLS is said to be other', () => {
  for (const bytes of [
    Buffer.from('GET / HTTP/1.1\r\n'),
    Buffer.from([0x80, 0x2e, 2]),
    Buffer.from('SSH-2.0-x'),
  ])
    assert.equal(readClientHello(bytes).state, 'other');
});

describe('refused', () => {
  const invalid = (what: string, bytes: Buffer) =>
    test(what, () => assert.equal(readClientHello(bytes).state, 'invalid'));
  const name = serverName('a.example');
  const twoNames = Buffer.concat(
    [0, 1].map((type) => Buffer.concat([Buffer.from([0]), vector(2, Buffer.from(`n${type}`))])),
  );
  invalid('two extensions with server names', records(clientHello([name, serverName('b.example')])));
  invalid('two names in one extension', records(clientHello([extension(0, vector(2, twoNames))])));
  invalid('an empty name', records(clientHello([serverName('')])));
  invalid(
    'a name of another type',
    records(clientHello([extension(0, vector(2, Buffer.from([1, 0, 1, 97])))])),
  );
  invalid(
    'bytes behind the list of names',
    records(
      clientHello([extension(0, Buffer.concat([vector(2, Buffer.from([0, 0, 1, 97])), Buffer.from('x')]))]),
    ),
  );
  invalid('another handshake message', records(Buffer.from([2, 0, 0, 1, 0])));
  invalid('a length beyond the bound', records(Buffer.from([1, 2, 0, 0])));
  invalid('the form of SSL 2.0', Buffer.from([0x80, 0x2e, 1, 3, 1, 0, 0x15]));
  invalid('an empty record', Buffer.from([22, 3, 1, 0, 0]));
  invalid('a record that is too long', Buffer.from([22, 3, 1, 0x40, 1]));
  invalid(
    'another content type between its records',
    Buffer.concat([records(HELLO.subarray(0, 20)), Buffer.from([21, 3, 3, 0, 2, 1, 0])]),
  );
  invalid('an extension that is longer than the list', records(clientHello([Buffer.from([0, 0, 0, 9])])));
});

test('the bound leaves room for keys of any size in use', () => {
  const large = clientHello([extension(51, Buffer.alloc(16_000)), serverName('a.example')]);
  assert.ok(large.length < CLIENT_HELLO_MAX);
  assert.equal(nameIn(records(large)), 'a.example');
});
