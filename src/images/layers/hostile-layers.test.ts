// Layers made to break out, to break the parser or to eat the host: each is refused, with the layer and the entry named.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import {
  device,
  extension,
  file,
  folder,
  hardLink,
  patched,
  paxRecord,
  symlink,
  tar,
  treeOf,
} from '../../../test/fixtures/images-compose.ts';
import { BulkheadError } from '../../api/errors.ts';
import type { ImageLimits } from '../limits.ts';
import { TAR_END } from '../tar/writer.ts';

interface HostileCase {
  name: string;
  layers: Buffer[];
  /** Part of the message. */
  because: RegExp;
  limits?: Partial<ImageLimits>;
  stored?: Buffer[];
}

const x = (key: string, value: string): Buffer => extension('x', paxRecord(key, value));
const sparseHeader = (pieces: string, realSize: string): Buffer => {
  const entry = patched(file('sparse', 'x'.repeat(512)), 156, 'S');
  const gnu = patched(entry, 257, 'ustar  \0');
  return patched(patched(gnu, 386, pieces), 483, realSize);
};
const octal = (value: number): string => `${value.toString(8).padStart(11, '0')}\0`;
const deep = (count: number): string => `${'d/'.repeat(count)}f`;

const CASES: HostileCase[] = [
  // Paths
  {
    name: 'a path that climbs with ..',
    layers: [tar(file('../etc/shadow', 'x'))],
    because: /entry "..\/etc\/shadow": path climbs/,
  },
  { name: 'a path that climbs in its middle', layers: [tar(file('a/../../b'))], because: /path climbs/ },
  { name: 'a path that ends in ..', layers: [tar(folder('a/..'))], because: /path climbs/ },
  { name: 'an absolute path that climbs', layers: [tar(file('/../../etc/passwd'))], because: /path climbs/ },
  {
    name: 'a climbing path in a pax record',
    layers: [tar(x('path', '../p'), file('a'))],
    because: /path climbs/,
  },
  {
    name: 'a climbing path in a GNU long name',
    layers: [tar(extension('L', '../p\0'), file('a'))],
    because: /path climbs/,
  },
  { name: 'a whiteout that climbs', layers: [tar(file('../.wh.etc'))], because: /path climbs/ },
  { name: 'a whiteout of nothing', layers: [tar(file('a/.wh.'))], because: /whiteout of no name/ },
  { name: 'a whiteout of the folder itself', layers: [tar(file('a/.wh..'))], because: /whiteout of no name/ },
  { name: 'a whiteout of the parent', layers: [tar(file('a/.wh...'))], because: /whiteout of no name/ },
  { name: 'a NUL byte in a pax path', layers: [tar(x('path', 'a\0b'), file('a'))], because: /NUL byte/ },
  {
    name: 'a NUL byte in a pax link target',
    layers: [tar(x('linkpath', 'a\0b'), symlink('l', 'a'))],
    because: /NUL byte/,
  },
  {
    name: 'a name of 256 bytes',
    layers: [tar(file('n'.repeat(256)))],
    because: /name of more than 255 bytes/,
  },
  {
    name: 'a path of 4096 bytes',
    layers: [tar(file(`${'p/'.repeat(2047)}pp`))],
    because: /path of more than 4095 bytes/,
  },
  { name: 'folders too deep', layers: [tar(file(deep(1025)))], because: /folders deep/ },
  {
    name: 'folders too deep by way of a symlink',
    layers: [tar(folder('d/'.repeat(1000)), symlink('s', 'd/'.repeat(1000)), file(`s/${deep(1000)}`))],
    because: /folders deep/,
  },
  {
    name: 'the root as a file',
    layers: [tar(file('.', 'x'))],
    because: /the root must be a folder/,
  },
  {
    name: 'the root as a symlink',
    layers: [tar(symlink('.', '/tmp'))],
    because: /the root must be a folder/,
  },
  { name: 'the root as a device', layers: [tar(device('/', 1, 3))], because: /the root must be a folder/ },
  // Links
  {
    name: 'a symlink loop among parents',
    layers: [tar(symlink('a', 'b'), symlink('b', 'a'), file('a/f'))],
    because: /symlinks in its parent path loop/,
  },
  {
    name: 'a symlink to itself as a parent',
    layers: [tar(symlink('a', 'a'), file('a/f'))],
    because: /symlinks in its parent path loop/,
  },
  { name: 'a parent that is a file', layers: [tar(file('a'), file('a/b'))], because: /not a folder/ },
  {
    name: 'a parent that is a device',
    layers: [tar(device('a', 1, 3), file('a/b'))],
    because: /not a folder/,
  },
  {
    name: 'a hard link that climbs',
    layers: [tar(hardLink('a', '../../etc/shadow'))],
    because: /path climbs/,
  },
  {
    name: 'a hard link to a missing file',
    layers: [tar(hardLink('a', 'missing'))],
    because: /entry "a": hard link to a missing file/,
  },
  {
    name: 'a hard link to a host file by an absolute path',
    layers: [tar(hardLink('a', '/etc/passwd'))],
    because: /hard link to a missing file/,
  },
  {
    name: 'a hard link out through a symlink',
    layers: [tar(symlink('up', '../../..'), hardLink('a', 'up/etc/passwd'))],
    because: /hard link to a missing file/,
  },
  {
    name: 'a hard link to a folder',
    layers: [tar(folder('d'), hardLink('a', 'd'))],
    because: /hard link to a folder/,
  },
  { name: 'a hard link to the root', layers: [tar(hardLink('a', '/'))], because: /hard link to a folder/ },
  {
    name: 'a hard link to itself',
    layers: [tar(file('a'), hardLink('a', 'a'))],
    because: /hard link to itself/,
  },
  {
    name: 'a hard link to what a whiteout removed',
    layers: [tar(file('a')), tar(file('.wh.a'), hardLink('b', 'a'))],
    because: /layer 2 of 2, entry "b": hard link to a missing file/,
  },
  {
    name: 'a symlink without a target',
    layers: [tar(symlink('a', ''))],
    because: /symlink without a target/,
  },
  {
    name: 'a symlink target of 4096 bytes',
    layers: [tar(symlink('a', 't'.repeat(4096)))],
    because: /symlink target of more than/,
  },
  // Devices and owners
  {
    name: 'a device number out of range',
    layers: [tar(device('a', 4096, 0))],
    because: /device number is out of range/,
  },
  {
    name: 'a device minor out of range',
    layers: [tar(device('a', 1, 1 << 20))],
    because: /device number is out of range/,
  },
  {
    name: 'a negative device number',
    layers: [tar(patched(device('a', 1, 1), 329, Buffer.alloc(8, 0xff)))],
    because: /device number is out of range/,
  },
  {
    name: 'an owner beyond 32 bits',
    layers: [tar(x('uid', '4294967296'), file('a'))],
    because: /uid is out of range/,
  },
  {
    name: 'a negative group',
    layers: [tar(patched(file('a'), 116, Buffer.alloc(8, 0xff)))],
    because: /gid is out of range/,
  },
  {
    name: 'an entry type that is none',
    layers: [tar(patched(file('a'), 156, 'Z'))],
    because: /entry type "Z" is not supported/,
  },
  // Headers
  {
    name: 'a wrong header checksum',
    layers: [tar(Buffer.concat([Buffer.from('b'), file('a').subarray(1)]))],
    because: /wrong header checksum/,
  },
  {
    name: 'a size that is no number',
    layers: [tar(patched(file('a'), 124, '12345678xyz'))],
    because: /size is not a number/,
  },
  {
    name: 'a negative size',
    layers: [tar(patched(file('a'), 124, Buffer.alloc(12, 0xff)))],
    because: /negative size/,
  },
  {
    name: 'a size beyond 2^53',
    layers: [tar(patched(file('a'), 124, Buffer.from('\x80\0\0\0\x7fffffff', 'latin1')))],
    because: /out of range|larger than|ends within/,
  },
  {
    name: 'a pax size that is no number',
    layers: [tar(x('size', '-5'), file('a'))],
    because: /size is not a number in range/,
  },
  {
    name: 'a pax size larger than the layer',
    layers: [tar(x('size', '99999999'), file('a'))],
    because: /ends within the data/,
  },
  {
    name: 'a pax size larger than any disk',
    layers: [tar(x('size', '9007199254740991'), file('a'))],
    because: /the image is larger than/,
  },
  {
    name: 'a pax mtime that is no number',
    layers: [tar(x('mtime', 'soon'), file('a'))],
    because: /mtime is not a number/,
  },
  {
    name: 'a pax record without a length',
    layers: [tar(extension('x', 'path=a\n'), file('a'))],
    because: /without a length/,
  },
  {
    name: 'a pax record that reaches past its header',
    layers: [tar(extension('x', '99 path=a\n'), file('a'))],
    because: /wrong length/,
  },
  {
    name: 'a pax record of length 0',
    layers: [tar(extension('x', '0 path=a\n'), file('a'))],
    because: /wrong length/,
  },
  {
    name: 'a pax record without "="',
    layers: [tar(extension('x', '7 path\n'), file('a'))],
    because: /without "="/,
  },
  {
    name: 'a pax header of 2 MiB',
    layers: [tar(x('comment', 'c'.repeat(2 << 20)), file('a'))],
    because: /extended header of more than/,
  },
  {
    name: 'a GNU long name of 2 MiB',
    layers: [tar(extension('L', 'n'.repeat(2 << 20)), file('a'))],
    because: /extended header of more than/,
  },
  {
    name: 'pax headers without end',
    layers: [tar(...Array.from({ length: 9 }, () => x('comment', 'c')), file('a'))],
    because: /too many extended headers in a row/,
  },
  {
    name: 'global pax headers without end',
    layers: [tar(...Array.from({ length: 1025 }, () => extension('g', paxRecord('comment', 'c'))))],
    because: /too many global pax headers/,
  },
  { name: 'a pax header with nothing after it', layers: [tar(x('path', 'a'))], because: /without its entry/ },
  {
    name: 'an xattr larger than Linux takes',
    layers: [tar(x('SCHILY.xattr.user.a', 'v'.repeat(65_536)), file('a'))],
    because: /xattr of more than/,
  },
  {
    name: 'an xattr name longer than Linux takes',
    layers: [tar(x(`SCHILY.xattr.user.${'n'.repeat(300)}`, 'v'), file('a'))],
    because: /xattr name of more than/,
  },
  {
    name: 'more xattrs on one file than it can hold',
    layers: [
      tar(
        extension(
          'x',
          ['a', 'b', 'c'].map((k) => paxRecord(`SCHILY.xattr.user.${k}`, 'v'.repeat(60_000))).join(''),
        ),
        file('a'),
      ),
    ],
    because: /xattrs of more than/,
  },
  // Sparse files
  {
    name: 'a sparse piece past the end',
    layers: [tar(sparseHeader(octal(4096) + octal(512), octal(4100)))],
    because: /overlaps or leaves the file/,
  },
  {
    name: 'sparse pieces that overlap',
    layers: [tar(sparseHeader(octal(100) + octal(256) + octal(0) + octal(256), octal(4096)))],
    because: /overlaps or leaves the file/,
  },
  {
    name: 'a sparse map that promises more data than there is',
    layers: [tar(sparseHeader(octal(0) + octal(1024), octal(4096)))],
    because: /sparse map and stored size differ/,
  },
  {
    name: 'a sparse file larger than any disk',
    layers: [tar(sparseHeader(octal(0) + octal(512), '77777777777\0'), file('b'))],
    because: /the image is larger than/,
    limits: { maxDiskBytes: 1 << 30 },
  },
  {
    name: 'a pax 1.0 sparse map that is not made of numbers',
    layers: [
      tar(
        extension('x', paxRecord('GNU.sparse.major', '1') + paxRecord('GNU.sparse.realsize', '10')),
        file('a', 'what\n'.repeat(200)),
      ),
    ],
    because: /not made of numbers/,
  },
  {
    name: 'a pax 1.0 sparse map without end',
    layers: [
      tar(
        extension('x', paxRecord('GNU.sparse.major', '1') + paxRecord('GNU.sparse.realsize', '10')),
        file('a', '9'.repeat(1024)),
      ),
    ],
    because: /sparse map is longer than its entry/,
  },
  {
    name: 'a pax 0.1 sparse map of odd length',
    layers: [
      tar(
        extension('x', paxRecord('GNU.sparse.map', '0,1,2') + paxRecord('GNU.sparse.size', '9')),
        file('a', 'x'),
      ),
    ],
    because: /odd length/,
  },
  {
    name: 'a pax 0.0 sparse map out of order',
    layers: [
      tar(
        extension('x', paxRecord('GNU.sparse.numbytes', '1') + paxRecord('GNU.sparse.size', '9')),
        file('a', 'x'),
      ),
    ],
    because: /out of order/,
  },
  // Truncation and bombs
  {
    name: 'a layer cut within a header',
    layers: [file('a').subarray(0, 300)],
    because: /ends within a header/,
  },
  {
    name: 'a layer cut within data',
    layers: [file('a', 'x'.repeat(2000)).subarray(0, 1024)],
    because: /ends within the data/,
  },
  {
    name: 'a gzip stream cut short',
    layers: [tar(file('a'))],
    stored: [gzipSync(tar(file('a'))).subarray(0, 60)],
    because: /gzip stream is broken/,
  },
  {
    name: 'a gzip stream with a wrong checksum',
    layers: [tar(file('a'))],
    stored: [corruptTail(gzipSync(tar(file('a'))))],
    because: /gzip stream is broken/,
  },
  {
    name: 'a zstd stream that is broken',
    layers: [tar(file('a'))],
    stored: [corruptTail(zstdCompressSync(tar(file('a', 'x'.repeat(9000)))).subarray(0, 40))],
    because: /zstd stream is broken/,
  },
  {
    name: 'a gzip bomb',
    layers: [bomb()],
    stored: [gzipSync(bomb())],
    because: /decompresses to more than/,
    limits: { ratioFloorBytes: 1 << 20 },
  },
  {
    name: 'a zstd bomb',
    layers: [bomb()],
    stored: [zstdCompressSync(bomb())],
    because: /decompresses to more than/,
    limits: { ratioFloorBytes: 1 << 20 },
  },
  {
    name: 'zeros without end after the archive',
    layers: [Buffer.concat([TAR_END, Buffer.alloc(8 << 20)])],
    stored: [gzipSync(Buffer.concat([TAR_END, Buffer.alloc(8 << 20)]))],
    because: /decompresses to more than/,
    limits: { ratioFloorBytes: 1 << 20 },
  },
  {
    name: 'a layer larger than the limit',
    layers: [tar(file('a', 'x'.repeat(9000)))],
    because: /decompresses to more than/,
    limits: { maxLayerUncompressedBytes: 4096 },
  },
  {
    name: 'more entries than the limit',
    layers: [tar(file('a'), file('b'), file('c'))],
    because: /entry "c": more than 2 entries/,
    limits: { maxEntries: 2 },
  },
  {
    name: 'more names and xattrs than the limit',
    layers: [tar(file('a'.repeat(99)), file('b'.repeat(99)))],
    because: /names, links and xattrs of more than/,
    limits: { maxMetadataBytes: 150 },
  },
  {
    name: 'files larger than the disk may be',
    layers: [tar(file('a', 'x'.repeat(9000)))],
    because: /the image is larger than/,
    limits: { maxDiskBytes: 8192 },
  },
];

function corruptTail(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  copy.fill(0x55, copy.length - 8);
  return copy;
}

function bomb(): Buffer {
  return tar(file('zeros', '\0'.repeat(16 << 20)));
}

describe('hostile layers are refused', () => {
  for (const { name, layers, because, limits, stored } of CASES) {
    it(name, async () => {
      const built = treeOf(layers, { ...(limits && { limits }), ...(stored && { stored }) });
      await assert.rejects(built, (error) => {
        assert.ok(error instanceof BulkheadError, String(error));
        assert.equal(error.code, 'IMAGE_INVALID', error.message);
        assert.match(error.message, because);
        assert.match(error.message, /^layer \d+ of \d+/);
        assert.match(error.message, /^[\x20-\x7e]*$/, 'names from images are escaped in messages');
        return true;
      });
    });
  }

  it('a layer with another diff ID than the image says', async () => {
    const built = treeOf([tar(file('a'))], { stored: [tar(file('b'))] });
    await assert.rejects(built, /layer 1 of 1: its diff ID is sha256:[0-9a-f]{64}, the image says/);
  });
});

describe('what only looks hostile works inside the root', () => {
  it('absolute paths are relative to the root', async () => {
    const tree = await treeOf([tar(file('/etc/passwd', 'inside'))]);
    assert.equal(tree.get('etc/passwd')?.content, 'inside');
  });

  it('a symlink out of the root in a parent stays inside it', async () => {
    const tree = await treeOf([
      tar(folder('etc'), symlink('up', '../../../etc'), file('up/passwd', 'inside')),
    ]);
    assert.equal(tree.get('etc/passwd')?.content, 'inside');
    assert.equal(tree.get('up')?.inode.kind, 'symlink');
  });

  it('an absolute symlink in a parent is resolved from the root', async () => {
    const tree = await treeOf([
      tar(folder('usr/lib'), symlink('lib', '/usr/lib')),
      tar(file('lib/x', 'inside')),
    ]);
    assert.equal(tree.get('usr/lib/x')?.content, 'inside');
    assert.equal(tree.get('lib')?.target, '/usr/lib');
  });

  it('a dangling symlink in a parent gets the folders it names', async () => {
    const tree = await treeOf([tar(symlink('a', 'b/c'), file('a/f', 'inside'))]);
    assert.equal(tree.get('b/c/f')?.content, 'inside');
  });

  it('a hard link is made to a symlink itself, not to what it names', async () => {
    const tree = await treeOf([tar(symlink('s', '/etc/passwd'), hardLink('h', 's'))]);
    assert.equal(tree.get('h')?.target, '/etc/passwd');
    assert.equal(tree.get('h')?.inode.links, 2);
  });
});
