import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { BulkheadError } from '../api/errors.ts';
import { loadHostLibrary } from './ffi.ts';
import { OpenHostPaths } from './host-paths.ts';

const library = loadHostLibrary(resolve(import.meta.dirname, '../../build'));
/** Looks while somebody swaps; some of each kind are met within far fewer. */
const LOOKS = 20_000;

let dir: string;
let root: string;
let state: string;
before(() => {
  dir = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), 'bulkhead-host-paths-')));
  root = join(dir, 'root');
  state = join(root, 'state');
  for (const path of [
    root,
    state,
    join(state, 'in'),
    join(dir, 'root2'),
    join(dir, 'outside'),
    join(root, 'a'),
  ])
    fs.mkdirSync(path);
  fs.writeFileSync(join(root, 'file'), '');
});
after(() => fs.rmSync(dir, { recursive: true, force: true }));

const open = (roots = [root]) => new OpenHostPaths({ library, roots, kept: [state] });

/** Opens and gives where that is, or the code of the refusal. */
function outcome(paths: OpenHostPaths, path: string, type: 'Directory' | 'File' = 'Directory'): string {
  let fd: number;
  try {
    fd = paths.open(path, type);
  } catch (error) {
    assert.ok(error instanceof BulkheadError, String(error));
    return error.code;
  }
  const place = fs.readlinkSync(`/proc/self/fd/${fd}`);
  fs.closeSync(fd);
  return place;
}

test('what is below a root is opened, through links too as long as they stay below', () => {
  using paths = open();
  fs.symlinkSync('a', join(root, 'to-a'));
  fs.mkdirSync(join(root, 'new\nline'));
  assert.equal(outcome(paths, join(root, 'a')), join(root, 'a'));
  assert.equal(outcome(paths, join(root, 'to-a')), join(root, 'a'));
  assert.equal(outcome(paths, join(root, 'file'), 'File'), join(root, 'file'));
  assert.equal(outcome(paths, join(root, 'new\nline')), join(root, 'new\nline'));
});

test('every other path is refused with its reason', async (t) => {
  using paths = open();
  using nothing = open([]);
  using everything = open(['/']);
  const link = (name: string, target: string) => {
    fs.symlinkSync(target, join(root, name));
    return join(root, name);
  };
  execFileSync('mkfifo', [join(root, 'fifo')]);
  const server = createServer().listen(join(root, 'socket'));
  await new Promise((listening) => server.once('listening', listening));
  const cases: [OpenHostPaths, string, 'Directory' | 'File', string][] = [
    [nothing, join(root, 'a'), 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [paths, '/etc', 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [paths, dir, 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [paths, join(dir, 'root2'), 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [paths, `${root}/../outside`, 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [paths, `${root}/a/../../outside`, 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [paths, link('absolute', join(dir, 'outside')), 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [paths, link('back', join(root, 'a')), 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [paths, link('relative', '../outside'), 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [paths, link('chain', 'relative'), 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [paths, `${link('up', '..')}/outside`, 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [paths, link('magic', `/proc/self/root${dir}/outside`), 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [paths, link('loop', 'loop'), 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [everything, '/proc/self/root/etc', 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [everything, '/proc/self/cwd', 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [everything, '/proc', 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [everything, '/sys', 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [paths, link('dangling', 'nowhere'), 'Directory', 'HOST_PATH_NOT_FOUND'],
    [paths, join(root, 'missing'), 'Directory', 'HOST_PATH_NOT_FOUND'],
    [paths, join(root, 'file'), 'Directory', 'HOST_PATH_NOT_FOUND'],
    [paths, join(root, 'a'), 'File', 'HOST_PATH_NOT_FOUND'],
    [paths, join(root, 'fifo'), 'File', 'HOST_PATH_NOT_FOUND'],
    [paths, join(root, 'socket'), 'File', 'HOST_PATH_NOT_FOUND'],
    [everything, '/dev/null', 'File', 'HOST_PATH_NOT_FOUND'],
    [paths, state, 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [paths, join(state, 'in'), 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [paths, root, 'Directory', 'HOST_PATH_NOT_ALLOWED'],
    [paths, link('to-state', 'state/in'), 'Directory', 'HOST_PATH_NOT_ALLOWED'],
  ];
  for (const [from, path, type, code] of cases) assert.equal(outcome(from, path, type), code, path);
  t.diagnostic(`${cases.length} paths refused`);
  await new Promise((closed) => server.close(closed));
});

test('a root that is named through a link is refused, and one that is replaced stays the one that was named', () => {
  const [named, moved] = [join(dir, 'named'), join(dir, 'moved')];
  fs.mkdirSync(named);
  fs.mkdirSync(join(named, 'mine'));
  fs.symlinkSync(named, join(dir, 'link'));
  assert.throws(() => open([join(dir, 'link')]), /--host-path-root .*link in it/);
  using paths = open([named]);
  fs.renameSync(named, moved);
  fs.symlinkSync(join(dir, 'outside'), named);
  fs.mkdirSync(join(dir, 'outside/mine'));
  assert.equal(outcome(paths, join(named, 'mine')), join(moved, 'mine'));
});

test('no link that comes and goes meanwhile leads out', async () => {
  using paths = open();
  const place = join(root, 'swapped');
  fs.mkdirSync(join(root, 'swapped-dir'));
  const worker = new Worker(
    `const fs = require('node:fs'); const [dir, link, place] = require('node:worker_threads').workerData;
     for (;;) { fs.renameSync(dir, place); fs.renameSync(place, dir); fs.symlinkSync(link, place); fs.rmSync(place); }`,
    { eval: true, workerData: [join(root, 'swapped-dir'), '../outside', place] },
  );
  await new Promise((online) => worker.once('online', online));
  const seen = new Set<string>();
  for (let look = 0; look < LOOKS; look += 1) seen.add(outcome(paths, place));
  await worker.terminate();
  assert.ok(
    [...seen].every((each) => each.startsWith('HOST_PATH_') || each.startsWith(`${root}/swapped`)),
    [...seen].join(),
  );
  assert.ok(seen.has('HOST_PATH_NOT_ALLOWED'), 'the link was met');
});
