import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { ExecSink } from './exec-sink.ts';
import { webReadable, webWritable } from './web.ts';

test('a web stream asks for nothing before its reader does, and ends what it reads from when it is cancelled', async () => {
  const items = [1, 2, 3, null];
  let asked = 0;
  let closed = 0;
  const stream = webReadable({
    recv: async () => items[asked++] ?? null,
    close: async () => {
      closed++;
    },
  });
  await new Promise(setImmediate);
  assert.equal(asked, 0);
  const reader = stream.getReader();
  assert.deepEqual(await reader.read(), { done: false, value: 1 });
  await reader.cancel();
  assert.deepEqual([asked, closed], [1, 1]);
});

test('a web stream that is written to ends the input with itself, and tells what did not arrive', async () => {
  const written: string[] = [];
  const stdin = new Writable({
    write(chunk: Buffer, _encoding, done) {
      written.push(chunk.toString());
      done(written.length > 1 ? new Error('gone') : null);
    },
  });
  stdin.on('error', () => {});
  const writer = webWritable(new ExecSink(stdin)).getWriter();
  await writer.write(Buffer.from('a'));
  await assert.rejects(writer.write(Buffer.from('b')), /gone/);
  writer.closed.catch(() => {});
  await assert.rejects(writer.close());
  assert.deepEqual(written, ['a', 'b']);
});
