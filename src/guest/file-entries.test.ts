import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { test } from 'node:test';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { BulkheadError } from '../api/errors.ts';
import { FileEntryDecoder } from './file-entries.ts';
import { FileEntrySchema, FileKind } from './generated/agent_pb.js';

type Fields = Exclude<MessageInitShape<typeof FileEntrySchema>, { $typeName: string }>;

function encode(fields: Fields): Buffer {
  const bytes = toBinary(FileEntrySchema, create(FileEntrySchema, fields));
  return Buffer.concat([length(bytes.length), bytes]);
}

function length(value: number): Buffer {
  return value < 128 ? Buffer.of(value) : Buffer.of((value & 0x7f) | 0x80, value >> 7);
}

const text = (value: string) => Buffer.from(value);

function decode(bytes: Uint8Array) {
  const decoder = new FileEntryDecoder();
  const entries = [...decoder.push(bytes)];
  decoder.end();
  return entries;
}

test('entries come out whole, however the bytes are cut', () => {
  const bytes = Buffer.concat([
    encode({ name: text('a'), kind: FileKind.REGULAR, size: 7n, mode: 0o4755, modifiedNs: 1_500_000n }),
    encode({ name: text('link'), kind: FileKind.SYMLINK, target: text('x'.repeat(4000)) }),
    encode({ name: text(''), kind: FileKind.DIRECTORY, birthNs: 2_000_000_000n }),
  ]);
  const decoder = new FileEntryDecoder();
  const entries = [...bytes].flatMap((byte) => [...decoder.push(Buffer.of(byte))]);
  decoder.end();
  assert.deepEqual(entries, decode(bytes));
  assert.deepEqual(
    entries.map(({ name, kind, target, createdMs }) => [name, kind, target?.length, createdMs]),
    [
      ['a', 'file', undefined, undefined],
      ['link', 'symlink', 4000, undefined],
      ['', 'directory', undefined, 2000],
    ],
  );
  assert.deepEqual([entries[0]?.mode, entries[0]?.sizeBytes, entries[0]?.modifiedMs], [0o4755, 7, 1]);
});

test('names that would lead elsewhere, impossible numbers and broken bytes are refused', () => {
  const lies: Record<string, Uint8Array> = {
    slash: encode({ name: text('../etc/passwd') }),
    dots: encode({ name: text('..') }),
    nul: encode({ name: text('a\0b') }),
    size: encode({ name: text('a'), size: 2n ** 63n }),
    time: encode({ name: text('a'), modifiedNs: 2n ** 63n - 1n, birthNs: -1n }).fill(0xff, 0, 1),
    'too long': Buffer.of(0xff, 0x7f),
    'length without end': Buffer.of(0xff, 0xff, 0xff),
    half: encode({ name: text('abc') }).subarray(0, 3),
    garbage: Buffer.concat([length(9), Buffer.alloc(9, 0xff)]),
  };
  for (const [what, bytes] of Object.entries(lies))
    assert.throws(() => decode(bytes), { code: 'AGENT_PROTOCOL' }, what);
});

test('random bytes end in entries or in AGENT_PROTOCOL, never in anything else', () => {
  for (let round = 0; round < 2_000; round++) {
    try {
      for (const { name } of decode(randomBytes(randomInt(64)))) assert.ok(!name.includes('/'));
    } catch (error) {
      assert.ok(error instanceof BulkheadError && error.code === 'AGENT_PROTOCOL', String(error));
    }
  }
});
