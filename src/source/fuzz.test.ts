// A folder in which anything happens: files written well and badly, damaged, renamed, removed, while daemons come and go.
// Whatever it was, a folder that is put in order is in force in the end, and what is not the folder's is never touched.
import assert from 'node:assert/strict';
import { readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { damaged, fuzz, type Pick } from '../../test/fixtures/chance.ts';
import { PRUNE_OPTIONS } from './prune.ts';
import { documents, SourceHarness, sandboxYaml } from './testing/harness.ts';

const ROUNDS = 15;
const STEPS = 20;
const FILES = [
  'a.yaml',
  'b.yml',
  'c.json',
  'sub/d.yaml',
  'sub/deeper/e.yaml',
  '.hidden.yaml',
  'no-manifest.txt',
  'f.yaml~',
];
const NAMES = ['one', 'two', 'three', 'four', 'five', 'theirs'];
const TOKENS = [
  '---\n',
  ': ',
  '\t',
  '\0',
  '&a ',
  '*a',
  '!!js/function ',
  '{',
  '}',
  '"',
  '\xff\xfe',
  '- ',
  '#',
];
/** More passes than the longest chain of holds takes. */
const PASSES_MAX = 20;

function one<T>(pick: Pick, values: readonly T[]): T {
  return values[pick(values.length)] as T;
}

function text(pick: Pick): Buffer {
  const many = Array.from({ length: 1 + pick(3) }, () =>
    sandboxYaml(one(pick, NAMES), { resources: { cpus: 1 + pick(3) } }),
  );
  const bytes = Buffer.from(documents(...many));
  return pick(3) === 0 ? damaged(bytes, TOKENS, pick) : bytes;
}

async function filesOf(h: SourceHarness): Promise<string[]> {
  const entries = await readdir(h.folder.root, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
}

async function step(h: SourceHarness, pick: Pick): Promise<void> {
  const files = await filesOf(h);
  const file = files.length === 0 ? undefined : one(pick, files);
  switch (pick(8)) {
    case 0:
    case 1:
    case 2:
      return h.folder.write(one(pick, FILES), text(pick));
    case 3:
      if (file !== undefined) await h.folder.remove(file.slice(h.folder.root.length + 1));
      return;
    case 4:
      if (file !== undefined) await rename(file, join(h.folder.root, one(pick, ['x.yaml', 'y.yaml', 'z'])));
      return;
    case 5:
      h.daemon();
      return;
    case 6:
      return h.clock.advance(one(pick, [PRUNE_OPTIONS.settleMs, PRUNE_OPTIONS.holdMs]));
    default:
      await h.pass();
  }
}

/** Passes until nothing is waited for. */
async function untilQuiet(h: SourceHarness): Promise<void> {
  for (let passes = 0; passes < PASSES_MAX; passes++) {
    const { checkAfterMs } = await h.pass();
    if (checkAfterMs === undefined) return;
    await h.clock.advance(checkAfterMs);
  }
  assert.fail(`the folder does not come to rest: ${h.problems().join('\n')}`);
}

fuzz('a folder that is put in order is in force in the end', ROUNDS, async (pick) => {
  await using h = await SourceHarness.create();
  const theirs = await h.store.create(JSON.parse(sandboxYaml('theirs')));
  let taken = false;
  for (let i = 0; i < STEPS; i++) {
    await step(h, pick);
    taken ||= (await h.names()).length > 2;
  }
  for (const file of await filesOf(h)) await h.folder.remove(file.slice(h.folder.root.length + 1));
  // Also where the damage was in a field that cannot change.
  const good = { updateStrategy: 'Recreate', resources: { cpus: 7 } };
  await h.folder.write('good.yaml', documents(sandboxYaml('one', good), sandboxYaml('six')));
  await untilQuiet(h);
  assert.deepEqual(h.problems(), []);
  assert.deepEqual(await h.names(), ['one', 'six', 'theirs']);
  assert.deepEqual(((await h.must('one')).spec as { resources: { cpus: number } }).resources.cpus, 7);
  const now = await h.must('theirs');
  assert.equal(now.metadata.uid, theirs.metadata.uid);
  assert.deepEqual(now.spec, theirs.spec);
  return taken;
});
