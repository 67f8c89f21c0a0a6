// Random damage to real layers: whatever the bytes, the answer is a disk or IMAGE_INVALID, never a crash and never a hang.
import assert from 'node:assert/strict';
import { it } from 'node:test';
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

const ROUNDS = process.env.BULKHEAD_SOAK ? 50_000 : 400;
const SEED = Number(process.env.BULKHEAD_FUZZ_SEED ?? Date.now() % 1_000_000);

/** mulberry32: small, and the same everywhere for a seed. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

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

function mutate(seed: Buffer, random: (below: number) => number): Buffer {
  const layer = Buffer.from(seed);
  for (let i = 1 + random(4); i > 0; i--) {
    const at = random(layer.length);
    if (random(2) === 0) layer[at] = random(256);
    else layer.write(TOKENS[random(TOKENS.length)] ?? '', at, 'latin1');
  }
  // Most damage would end at the checksum; making those right again lets it deeper in.
  for (let at = 0; at + 512 <= layer.length && random(8) !== 0; at += 512) {
    if (layer.toString('latin1', at + 257, at + 262) === 'ustar')
      writeTarChecksum(layer.subarray(at, at + 512));
  }
  return random(4) === 0 ? layer.subarray(0, random(layer.length)) : layer;
}

it(`survives ${ROUNDS} damaged layers (BULKHEAD_FUZZ_SEED=${SEED})`, async () => {
  const random = randomFrom(SEED);
  const limits = { maxDiskBytes: 16 << 20 };
  let built = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const layers = Array.from({ length: 1 + random(2) }, () =>
      mutate(SEEDS[random(SEEDS.length)] ?? tar(), random),
    );
    try {
      await treeOf(layers, { limits });
      built++;
    } catch (error) {
      const isRefusal = error instanceof BulkheadError && error.code === 'IMAGE_INVALID';
      assert.ok(isRefusal, `round ${round}: ${error instanceof Error ? error.stack : String(error)}`);
    }
  }
  assert.ok(built > 0 && built < ROUNDS, 'the damage is neither always fatal nor never');
});
