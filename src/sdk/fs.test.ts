import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FsWriteSink } from './fs.ts';

test('writes that overlap all end, and arrive in their order', { timeout: 20_000 }, async () => {
  const received: Buffer[] = [];
  const sink = new FsWriteSink(async (content) => {
    for await (const chunk of content) received.push(chunk);
  });
  const pieces = ['a', 'b', 'c'].map((letter) => Buffer.alloc(256 * 1024, letter));
  await Promise.all(pieces.map((piece) => sink.write(piece)));
  await sink.close();
  assert.ok(Buffer.concat(received).equals(Buffer.concat(pieces)));
});
