import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { EmbeddedStore } from './embedded-store.ts';
import { temporaryDirectory } from './testing.ts';

const WRITER = join(import.meta.dirname, 'fixtures', 'write-loop.ts');
const ROUNDS = 5;

/** Runs the writer until it acknowledged `count` writes, kills it, and returns all that it acknowledged. */
async function writeUntilKilled(path: string, prefix: string, count: number): Promise<Map<string, string>> {
  const child = spawn(process.execPath, [WRITER, path, prefix], { stdio: ['ignore', 'pipe', 'inherit'] });
  const acknowledged = new Map<string, string>();
  for await (const line of createInterface({ input: child.stdout })) {
    const [name, uid] = line.split(' ');
    assert.ok(name && uid, `a whole line: ${line}`);
    acknowledged.set(name, uid);
    if (acknowledged.size === count) child.kill('SIGKILL');
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  assert.equal(child.signalCode, 'SIGKILL');
  return acknowledged;
}

test('every acknowledged write survives kill -9, round after round', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'store.db');
  const acknowledged = new Map<string, string>();
  let latest = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const count = 20 + Math.floor(Math.random() * 200);
    for (const [name, uid] of await writeUntilKilled(path, `r${round}`, count)) acknowledged.set(name, uid);
    const mark = Number(readFileSync(`${path}-revision`, 'latin1'));
    const store = EmbeddedStore.open({ path });
    const { items, resourceVersion } = await store.list('Sandbox');
    const found = new Map(items.map((object) => [object.metadata.name, object]));
    for (const [name, uid] of acknowledged) {
      assert.equal(found.get(name)?.metadata.uid, uid, `${name} of ${acknowledged.size} is there`);
      assert.ok(found.get(name)?.status, `${name} has its status`);
      const revision = Number(found.get(name)?.metadata.resourceVersion);
      assert.ok(revision <= mark, `the mark ${mark} covers what was acknowledged at ${revision}`);
    }
    assert.ok(Number(resourceVersion) > latest, 'versions only grow');
    assert.ok(Number(resourceVersion) >= mark, 'the mark is never ahead');
    latest = Number(resourceVersion);
    await store.close();
  }
});
