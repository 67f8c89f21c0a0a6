// bulkhead cp as a user types it.
import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { sandboxYaml, TestDaemon } from './daemon-harness.ts';

let daemon: TestDaemon;
let dir: string;

before(async () => {
  daemon = await TestDaemon.start();
  dir = join(daemon.root, 'host');
  await mkdir(join(dir, 'tree', 'sub'), { recursive: true });
  await writeFile(join(dir, 'tree', 'a'), 'a');
  await writeFile(join(dir, 'tree', 'sub', 'run'), '#!/bin/sh\necho ran\n', { mode: 0o755 });
  await daemon.write('box.yaml', sandboxYaml('box'));
  await daemon.waitReady('box');
});
after(() => daemon?.[Symbol.asyncDispose]());

test('a directory goes in, runs, and comes out as it was', async () => {
  await daemon.ok('cp', join(dir, 'tree'), 'box:/');
  assert.equal(await daemon.ok('exec', 'box', '--', '/tree/sub/run'), 'ran\n');
  await daemon.ok('cp', 'box:/tree', join(dir, 'copy'));
  assert.equal(await readFile(join(dir, 'copy', 'sub', 'run'), 'utf8'), '#!/bin/sh\necho ran\n');
  // Into it, now that it is there.
  await daemon.ok('cp', 'sandbox/box:/tree/a', join(dir, 'copy'));
  assert.deepEqual((await readdir(join(dir, 'copy'))).toSorted(), ['a', 'sub']);
});

test('standard input and output are files too', async () => {
  const sent = await daemon.cliWithInput('typed', 'cp', '-', 'box:/typed');
  assert.equal(sent.code, 0, sent.stderr);
  assert.equal(await daemon.ok('cp', 'box:/typed', '-'), 'typed');
});

test('mistakes are told, and leave nothing', async () => {
  const cases: [string[], number, RegExp][] = [
    [['cp', 'a', 'b'], 2, /must be in a sandbox/],
    [['cp', 'box:/a', 'box:/b'], 2, /must be in a sandbox/],
    [['cp', 'box:relative', 'b'], 2, /must be absolute/],
    [['cp', 'box:/none', join(dir, 'none')], 1, /No such file/],
    [['cp', join(dir, 'none'), 'box:/none'], 1, /no such file/i],
    [['cp', 'nobody:/etc', join(dir, 'none')], 1, /not found/],
    [['cp', 'box:/etc/passwd', '/proc/none/x'], 1, /ENOENT|no such/i],
  ];
  for (const [args, code, message] of cases) {
    const result = await daemon.cli(...args);
    assert.match(result.stderr, message, args.join(' '));
    assert.equal(result.code, code, args.join(' '));
  }
  assert.deepEqual((await readdir(dir)).toSorted(), ['copy', 'tree']);
});
