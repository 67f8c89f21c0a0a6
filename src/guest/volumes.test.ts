import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { WriteVolumeFilesSchema } from './generated/agent_pb.js';
import { MAX_REQUEST_BYTES } from './limits.ts';
import { toVolumeFiles } from './volumes.ts';

test('files of any size arrive whole, in messages that fit, as one revision', () => {
  const sizes = [0, 1, 600_000, 3, 1_200_000, 0];
  const files = sizes.map((size, index) => ({
    path: `dir/${'n'.repeat(200)}${index}`,
    mode: 0o644,
    content: Buffer.alloc(size, index + 1),
  }));
  const many = Array.from({ length: 4000 }, (_, index) => ({
    ...{ path: `${index}`.padStart(250, 'x'), mode: 0o600, content: Buffer.alloc(10) },
  }));
  for (const each of [files, many, []]) {
    const messages = toVolumeFiles('config', each);
    const contents = new Map<string, Buffer>();
    for (const message of messages) {
      const bytes = toBinary(WriteVolumeFilesSchema, create(WriteVolumeFilesSchema, message));
      assert.ok(bytes.length < MAX_REQUEST_BYTES, `${bytes.length}`);
      for (const { path = '', content = new Uint8Array() } of message.files ?? [])
        contents.set(path, Buffer.concat([contents.get(path) ?? Buffer.alloc(0), content]));
    }
    assert.equal(new Set(messages.map(({ revision }) => revision)).size, 1);
    assert.deepEqual(
      messages.map(({ last }) => last),
      messages.map((_, index) => index === messages.length - 1),
    );
    assert.equal(contents.size, each.length);
    for (const { path, content } of each) assert.ok(contents.get(path)?.equals(content), path.slice(-1));
  }
  const revision = (content: string, mode = 0o644) =>
    toVolumeFiles('config', [{ path: 'a', mode, content: Buffer.from(content) }])[0]?.revision;
  assert.equal(revision('x'), revision('x'));
  assert.equal(new Set([revision('x'), revision('y'), revision('x', 0o600), revision('')]).size, 4);
});
