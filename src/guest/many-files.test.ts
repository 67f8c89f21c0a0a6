import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import type { FileContent, GuestFile } from './agent.ts';
import { FileEntrySchema, FileKind } from './generated/agent_pb.js';
import { ManyFilesDecoder, readMany, writeMany } from './many-files.ts';

const MAX = 8;

function encode(name: string, content: string, kind = FileKind.REGULAR, size = content.length): Buffer {
  const entry = create(FileEntrySchema, { name: Buffer.from(name), kind, size: BigInt(size) });
  const bytes = toBinary(FileEntrySchema, entry);
  return Buffer.concat([Buffer.of(bytes.length), bytes, Buffer.from(content)]);
}

function decode(pieces: Iterable<Uint8Array>, count: number): [string, string | undefined][] {
  const decoder = new ManyFilesDecoder(count, MAX);
  const files = [...pieces].flatMap((piece): FileContent[] => [...decoder.push(piece)]);
  decoder.end();
  return files.map(({ file, content }) => [file.name, content?.toString()]);
}

test('files come out whole, however the bytes are cut; one that is too large comes without its content', () => {
  const bytes = Buffer.concat([
    encode('a', 'content'),
    encode('empty', ''),
    encode('large', '', FileKind.REGULAR, MAX + 1),
    encode('last', 'the last'),
  ]);
  const expected = [
    ['a', 'content'],
    ['empty', ''],
    ['large', undefined],
    ['last', 'the last'],
  ];
  assert.deepEqual(decode([bytes], 4), expected);
  assert.deepEqual(
    decode(
      [...bytes].map((byte) => Buffer.of(byte)),
      4,
    ),
    expected,
  );
});

test('a guest that sends more, less or other things than was asked for is refused', () => {
  const lies: Record<string, Uint8Array> = {
    more: Buffer.concat([encode('a', 'x'), encode('b', 'y')]),
    none: Buffer.alloc(0),
    'a directory': encode('a', '', FileKind.DIRECTORY),
    'half a content': encode('a', 'x', FileKind.REGULAR, 2),
    'half an entry': encode('a', 'x').subarray(0, 3),
    'content of one that is too large': Buffer.concat([
      encode('a', 'x'.repeat(MAX + 1)),
      Buffer.from('more'),
    ]),
  };
  for (const [what, bytes] of Object.entries(lies))
    assert.throws(() => decode([bytes], 1), { code: 'AGENT_PROTOCOL' }, what);
});

test('with an agent that knows no such session each is made and read by itself', async () => {
  const calls: string[] = [];
  const stat = async (path: string): Promise<GuestFile> => {
    calls.push(`stat ${path}`);
    const sizeBytes = path === '/large' ? MAX + 1 : 3;
    return { ...{ name: path, kind: 'file', sizeBytes }, mode: 0o644, uid: 0, gid: 0, modifiedMs: 0 };
  };
  const files = {
    stat,
    write: async (path: string, content: AsyncIterable<Uint8Array>, { mode }: { mode: number }) => {
      let text = '';
      for await (const piece of content) text += Buffer.from(piece).toString();
      calls.push(`write ${path} ${mode.toString(8)} ${text}`);
    },
    makeDirectory: async (path: string) => void calls.push(`mkdir ${path}`),
    symlink: async (path: string, target: string) => void calls.push(`link ${path} ${target}`),
    read: async () => Readable.from([Buffer.from('abc')]),
  };
  await writeMany(
    files,
    undefined,
    [
      { kind: 'directory', path: '/d', mode: 0o755 },
      { kind: 'file', path: '/d/f', mode: 0o600, content: Buffer.from('x') },
      { kind: 'symlink', path: '/d/l', target: 'f' },
    ],
    {},
  );
  const read: (string | undefined)[] = [];
  for await (const { content } of readMany(files, undefined, ['/f', '/large'], { contentMax: MAX }))
    read.push(content?.toString());
  assert.deepEqual(read, ['abc', undefined]);
  assert.deepEqual(calls, ['mkdir /d', 'write /d/f 600 x', 'link /d/l f', 'stat /f', 'stat /large']);
});
