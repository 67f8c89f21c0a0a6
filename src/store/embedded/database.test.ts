import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { BulkheadError, type ErrorCode } from '../../api/errors.ts';
import { EmbeddedStore } from './embedded-store.ts';
import { MIGRATIONS } from './migrations.ts';
import { sandbox, temporaryDirectory } from './testing.ts';

/** A closed store with some objects. */
async function filledStore(directory: string): Promise<string> {
  const path = join(directory, 'store.db');
  const store = EmbeddedStore.open({ path });
  for (let i = 0; i < 50; i += 1) await store.create(sandbox(`a${i}`, { text: 'x'.repeat(2000) }));
  await store.close();
  return path;
}

function openFails(path: string, code: ErrorCode): BulkheadError {
  try {
    EmbeddedStore.open({ path, lockWaitMs: 1 });
  } catch (error) {
    assert.ok(error instanceof BulkheadError, String(error));
    assert.equal(error.code, code, error.message);
    return error;
  }
  return assert.fail('the store opened');
}

/** Changes the file through a connection of its own, as another program would. */
function alter(path: string, sql: string): void {
  const database = new DatabaseSync(path);
  database.exec(sql);
  database.close();
}

const DAMAGE: Record<string, (path: string) => void> = {
  'cut to nothing': (path) => writeFileSync(path, ''),
  'cut in half': (path) => writeFileSync(path, readFileSync(path).subarray(0, statSync(path).size / 2)),
  'replaced by text': (path) => writeFileSync(path, 'not a database\n'.repeat(1000)),
  'with a page of zeros': (path) => writeFileSync(path, readFileSync(path).fill(0, 3 * 4096, 4 * 4096)),
  'with a page of noise': (path) => writeFileSync(path, readFileSync(path).fill(0xa5, 4 * 4096, 5 * 4096)),
  'with an object that is no JSON': (path) =>
    alter(path, "UPDATE objects SET object = '{' WHERE name = 'a7'"),
  'with an object under a wrong name': (path) =>
    alter(path, "UPDATE objects SET name = 'b' WHERE name = 'a7'"),
  'with a gap in its changes': (path) =>
    alter(
      path,
      'DELETE FROM changes WHERE resource_version = 7 + (SELECT min(resource_version) FROM changes)',
    ),
  'made by another program': (path) => alter(path, 'PRAGMA application_id = 1'),
};

for (const [what, damage] of Object.entries(DAMAGE)) {
  test(`a store file ${what} is STORE_CORRUPT, says what to do, and is left as it is`, async () => {
    await using directory = await temporaryDirectory();
    const path = await filledStore(directory.path);
    damage(path);
    const before = readFileSync(path);
    const error = openFails(path, 'STORE_CORRUPT');
    assert.match(error.message, /store\.db/);
    assert.match(error.row.hint, /backup/);
    assert.deepEqual(readFileSync(path), before);
  });
}

test('a store that is open is STORE_LOCKED for a second one, and unharmed by it', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'store.db');
  const store = EmbeddedStore.open({ path });
  openFails(path, 'STORE_LOCKED');
  await store.create(sandbox('apple'));
  await store.close();
  await EmbeddedStore.open({ path }).close();
});

test('of processes that open a new store at the same moment one gets it, and the others are told so', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'store.db');
  const program = join(import.meta.dirname, 'fixtures', 'open-once.ts');
  const children = Array.from({ length: 4 }, () =>
    spawn(process.execPath, ['--disable-warning=ExperimentalWarning', program, path], {
      stdio: ['pipe', 'pipe', 'inherit'],
    }),
  );
  const said = await Promise.all(
    children.map(async ({ stdout }) => String((await once(stdout, 'data'))[0]).trim()),
  );
  for (const { stdin } of children) stdin.end();
  await Promise.all(children.map((child) => once(child, 'close')));
  assert.deepEqual(said.sort(), ['STORE_LOCKED', 'STORE_LOCKED', 'STORE_LOCKED', 'opened']);
  await EmbeddedStore.open({ path }).close();
});

test('a store of a newer version is STORE_TOO_NEW', async () => {
  await using directory = await temporaryDirectory();
  const path = await filledStore(directory.path);
  alter(path, `PRAGMA user_version = ${MIGRATIONS.length + 1}`);
  openFails(path, 'STORE_TOO_NEW');
});

test('the log of a store that was moved away is not replayed into the new one', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'store.db');
  writeFileSync(`${path}-wal`, 'the log of another store');
  const store = EmbeddedStore.open({ path });
  assert.deepEqual((await store.list('Sandbox')).items, []);
  await store.close();
  assert.deepEqual(readdirSync(directory.path).sort(), [
    'store.db',
    'store.db-lock',
    'store.db-revision',
    'store.db-wal.orphan',
  ]);
});

test('a store whose making was cut short is made again', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'store.db');
  writeFileSync(`${path}.new`, 'half a database');
  writeFileSync(`${path}.new-journal`, 'half a journal');
  await EmbeddedStore.open({ path }).close();
  assert.deepEqual(readdirSync(directory.path).sort(), ['store.db', 'store.db-lock', 'store.db-revision']);
});
