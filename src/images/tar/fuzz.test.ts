// Random damage to real layers: whatever the bytes, the answer is a disk or IMAGE_INVALID, never a crash and never a hang.
import { damaged, fuzz, type Pick } from '../../../test/fixtures/chance.ts';
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
import { writeTarChecksum } from './writer.ts';

const ROUNDS = 400;

const SEEDS = [
  tar(folder('d'), file('d/a', 'x'.repeat(700)), symlink('s', 'd'), hardLink('h', 'd/a'), device('n', 1, 3)),
  tar(
    extension('x', paxRecord('path', 'p/q') + paxRecord('SCHILY.xattr.user.a', 'v')),
    file('a', 'x'),
    file('.wh.b'),
  ),
  tar(extension('L', 'long/name\0'), extension('K', 'target\0'), symlink('s', 't'), file('s/.wh..wh..opq')),
  tar(patched(patched(file('sp', 'x'.repeat(512)), 156, 'S'), 257, 'ustar  \0')),
  tar(
    extension('x', paxRecord('GNU.sparse.major', '1') + paxRecord('GNU.sparse.realsize', '99')),
    file('a', '1\n0\n3\n'.padEnd(515, '\0')),
  ),
];
const TOKENS = [
  '../',
  '/',
  '\0',
  '.wh.',
  '.wh..wh..opq',
  '77777777777',
  '\x80\xff',
  'size=',
  '99999',
  '=',
  '\n',
  'S',
  'x',
  'L',
  '1',
  '2',
];

/** Most damage would end at the checksum; making those right again lets it deeper in. */
function layerOf(pick: Pick): Buffer {
  const layer = damaged(SEEDS[pick(SEEDS.length)] ?? tar(), TOKENS, pick);
  for (let at = 0; at + 512 <= layer.length && pick(8) !== 0; at += 512) {
    if (layer.toString('latin1', at + 257, at + 262) === 'ustar')
      writeTarChecksum(layer.subarray(at, at + 512));
  }
  return layer;
}

fuzz('layers are a disk or IMAGE_INVALID', ROUNDS, async (pick) => {
  const layers = Array.from({ length: 1 + pick(2) }, () => layerOf(pick));
  try {
    await treeOf(layers, { limits: { maxDiskBytes: 16 << 20 } });
    return true;
  } catch (error) {
    if (error instanceof BulkheadError && error.code === 'IMAGE_INVALID') return false;
    throw error;
  }
});
