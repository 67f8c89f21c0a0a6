// A store that lost writes which it had acknowledged must not open as if nothing were: deleted objects would be back.
import assert from 'node:assert/strict';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { BulkheadError } from '../../api/errors.ts';
import { EmbeddedStore } from './embedded-store.ts';
import { sandbox, temporaryDirectory } from './testing.ts';

/** Sizes in SQLite's log: its header, and the header before each page. */
const LOG_HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
const PAGE_BYTES = 4096;
const FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_BYTES;
const OBJECTS = 10;

interface Killed {
  /** Of store.db; the other files lie beside it. */
  path: string;
  log: string;
  mark: string;
  /** Size of the log before the last write, which deleted a0. */
  before: number;
}

/** The files of a store as kill -9 leaves them: everything in the log, the last write a deletion. */
async function killedStore(directory: string): Promise<Killed> {
  const live = join(directory, 'live');
  const dead = join(directory, 'dead');
  mkdirSync(live);
  const store = EmbeddedStore.open({ path: join(live, 'store.db') });
  for (let i = 0; i < OBJECTS; i += 1) await store.create(sandbox(`a${i}`, { text: 'x'.repeat(2000) }));
  const before = readFileSync(join(live, 'store.db-wal')).length;
  await store.delete({ kind: 'Sandbox', namespace: 'default', name: 'a0' });
  cpSync(live, dead, { recursive: true });
  await store.close();
  const path = join(dead, 'store.db');
  return { path, log: `${path}-wal`, mark: `${path}-revision`, before };
}

async function names(path: string): Promise<string[]> {
  const store = EmbeddedStore.open({ path, lockWaitMs: 1 });
  const { items } = await store.list('Sandbox');
  await store.close();
  return items.map(({ metadata }) => metadata.name).sort();
}

const EXPECTED = Array.from({ length: OBJECTS - 1 }, (_, i) => `a${i + 1}`);

/** All files beside the store; an empty log is none. */
function content(path: string): Record<string, Buffer> {
  const directory = join(path, '..');
  const files = readdirSync(directory).map((name) => [name, readFileSync(join(directory, name))] as const);
  return Object.fromEntries(files.filter(([, bytes]) => bytes.length > 0));
}

function damage(path: string, from: number, bytes: number): void {
  const log = readFileSync(path);
  writeFileSync(path, log.fill(0xa5, from, Math.min(from + bytes, log.length)));
}

const LOSSES: Record<string, (store: Killed) => void> = {
  'whose log is gone': ({ log }) => rmSync(log),
  'whose log is empty': ({ log }) => truncateSync(log, 0),
  'whose log was damaged in its header': ({ log }) => damage(log, 8, 8),
  'whose log was damaged from its first page on': ({ log }) => damage(log, LOG_HEADER_BYTES, Infinity),
  'whose log was damaged in the middle': ({ log, before }) => damage(log, before >> 1, 100),
  'whose log was damaged in its last write': ({ log }) => damage(log, readFileSync(log).length - 100, 100),
  'whose log was cut before its last write': ({ log, before }) => truncateSync(log, before),
};

for (const [what, lose] of Object.entries(LOSSES)) {
  test(`a store ${what} is STORE_CORRUPT, says what to do, and is left as it is`, async () => {
    await using directory = await temporaryDirectory();
    const killed = await killedStore(directory.path);
    lose(killed);
    const before = content(killed.path);
    // Twice: a refusal leaves the evidence.
    for (const _ of [1, 2]) {
      await assert.rejects(names(killed.path), (error) => {
        assert.ok(error instanceof BulkheadError, String(error));
        assert.equal(error.code, 'STORE_CORRUPT');
        assert.match(
          error.message,
          /revision \d+ was acknowledged.*store\.db-wal.*Restore.*remove .*store\.db-revision/,
        );
        return true;
      });
    }
    assert.deepEqual(content(killed.path), before);
  });
}

test('a store that was killed opens with all it acknowledged', async () => {
  await using directory = await temporaryDirectory();
  const { path } = await killedStore(directory.path);
  assert.deepEqual(await names(path), EXPECTED);
});

test('a log that was torn in a write which nobody was told of is cut there, and nothing else is lost', async () => {
  await using directory = await temporaryDirectory();
  const { path, log } = await killedStore(directory.path);
  const whole = readFileSync(log);
  // What a power cut leaves of the next write: a frame that belongs to this log, and half a page of it.
  const torn = Buffer.concat([whole, whole.subarray(-FRAME_BYTES, -PAGE_BYTES / 2)]);
  writeFileSync(log, torn);
  assert.deepEqual(await names(path), EXPECTED);
});

test('a mark that a power cut left behind refuses nothing', async () => {
  await using directory = await temporaryDirectory();
  const { path, mark } = await killedStore(directory.path);
  const revision = Number(readFileSync(mark, 'latin1'));
  writeFileSync(mark, `${String(revision - 3).padStart(16, '0')}\n`);
  assert.deepEqual(await names(path), EXPECTED);
  assert.equal(Number(readFileSync(mark, 'latin1')), revision, 'it has caught up');
});

test('who wants the older state gets it by removing the mark', async () => {
  await using directory = await temporaryDirectory();
  const { path, log, mark, before } = await killedStore(directory.path);
  truncateSync(log, before);
  rmSync(mark);
  assert.deepEqual(await names(path), ['a0', ...EXPECTED]);
  assert.ok(existsSync(mark), 'from here on it is watched again');
});

test('a store of a release without marks gets one', async () => {
  await using directory = await temporaryDirectory();
  const { path, mark } = await killedStore(directory.path);
  rmSync(mark);
  assert.deepEqual(await names(path), EXPECTED);
  rmSync(path);
  writeFileSync(path, readFileSync(join(directory.path, 'live', 'store.db')));
  assert.deepEqual(await names(path), EXPECTED, 'merged or not, it is the same revision');
});

test('a mark that cannot be read is STORE_CORRUPT and says which file', async () => {
  for (const text of ['', 'xyz', '00000000000000', `${'9'.repeat(20)}\n`]) {
    await using directory = await temporaryDirectory();
    const { path, mark } = await killedStore(directory.path);
    writeFileSync(mark, text);
    await assert.rejects(names(path), /store\.db-revision is no revision.*remove that file/);
    assert.equal(readFileSync(mark, 'latin1'), text);
  }
});

test('moving the store and its log away begins anew, whatever the mark says', async () => {
  await using directory = await temporaryDirectory();
  const { path, log } = await killedStore(directory.path);
  rmSync(path);
  rmSync(log);
  assert.deepEqual(await names(path), []);
});

/** Places in the log where one damage may fall; its stale end of earlier rounds included. */
const RANDOM_DAMAGES = process.env.BULKHEAD_SOAK === '1' ? 2_000 : 60;

test(`${RANDOM_DAMAGES} random damages to the log either harm nothing or are refused`, async (t) => {
  await using directory = await temporaryDirectory();
  const { path, log } = await killedStore(directory.path);
  const files = content(path);
  const whole = files['store.db-wal'] ?? Buffer.alloc(0);
  let refused = 0;
  for (let i = 0; i < RANDOM_DAMAGES; i += 1) {
    for (const [name, bytes] of Object.entries(files)) writeFileSync(join(path, '..', name), bytes);
    const at = Math.floor(Math.random() * whole.length);
    const kind = i % 3;
    if (kind === 0) truncateSync(log, at);
    else if (kind === 1) damage(log, at, 1 + Math.floor(Math.random() * 64));
    else damage(log, at, Infinity);
    const found = await names(path).catch((error: unknown) => {
      assert.ok(
        error instanceof BulkheadError && error.code === 'STORE_CORRUPT',
        `damage at ${at}: ${String(error)}`,
      );
      refused += 1;
      return EXPECTED;
    });
    assert.deepEqual(found, EXPECTED, `damage of kind ${kind} at ${at} of ${whole.length} went unseen`);
  }
  t.diagnostic(`${refused} refused`);
  assert.ok(refused > 0);
});
