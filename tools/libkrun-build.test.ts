// libvmm/krun/build.sh where it cannot or need not build: it must say so, and not fail the build of everything else.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';

const SCRIPT = resolve(import.meta.dirname, '../libvmm/krun/build.sh');
/** What the script calls; everything else, cargo before all, is missing. */
const TOOLS = ['bash', 'dirname', 'mkdir', 'rm', 'ln', 'nm', 'grep', 'sed', 'cut', 'sort', 'head'];
/** What bulkhead-krun needs of a library: every call that it makes. */
const CALLS = readFileSync(resolve(import.meta.dirname, '../libvmm/krun-vm/krun.h'), 'utf8');
const NEEDED = [...CALLS.matchAll(/^ +CALL\((\w+),/gm)].map(([, name]) => `krun_${name}`);

let dir: string;
let bin: string;
let out: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bulkhead-libkrun-build-'));
  bin = join(dir, 'bin');
  out = join(dir, 'out');
  mkdirSync(bin);
  for (const tool of TOOLS)
    symlinkSync(execFileSync('which', [tool], { encoding: 'utf8' }).trim(), join(bin, tool));
});
afterEach(() => rmSync(dir, { recursive: true }));

function program(name: string, text: string): void {
  writeFileSync(join(bin, name), `#!${join(bin, 'bash')}\n${text}\n`);
  chmodSync(join(bin, name), 0o755);
}

/** A libkrun of the system, as pkg-config finds it, that exports `symbols`. */
function systemLibrary(symbols: readonly string[]): string {
  const source = symbols.map((name) => `void ${name}(void) {}`).join('\n');
  writeFileSync(join(dir, 'krun.c'), source);
  const library = join(dir, 'libkrun.so.1');
  execFileSync('gcc', ['-shared', '-fPIC', '-o', library, join(dir, 'krun.c')]);
  program('pkg-config', `case $1 in --atleast-version=*) exit 0 ;; --variable=libdir) echo ${dir} ;; esac`);
  return library;
}

function build(): { status: number | null; stderr: string } {
  const { status, stderr } = spawnSync(join(bin, 'bash'), [SCRIPT, out], {
    env: { PATH: bin, HOME: dir, BULKHEAD_BUILD_CACHE: join(dir, 'cache') },
    encoding: 'utf8',
  });
  return { status, stderr };
}

function assertWithout({ status, stderr }: ReturnType<typeof build>): void {
  assert.equal(status, 0, stderr);
  assert.match(stderr, /no cargo of version .* or later was found .*Debian 12 has one in the package/);
  assert.match(stderr, /WITHOUT the libkrun driver: sandboxes run on the slower software driver/);
  assert.equal(existsSync(join(out, 'libkrun.so')), false);
}

test('with neither a libkrun nor a Rust toolchain the build goes on and says what is lacking', () => {
  assertWithout(build());
});

test('a cargo that is too old counts as none', () => {
  program('cargo', 'echo cargo 1.63.0');
  assertWithout(build());
});

test('a libkrun of the system that has all that is needed is used', () => {
  const library = systemLibrary(NEEDED);
  const { status, stderr } = build();
  assert.equal(status, 0, stderr);
  assert.equal(readlinkSync(join(out, 'libkrun.so')), library);
});

test('a libkrun of the system that was built without disks is passed over', () => {
  assert.ok(NEEDED.includes('krun_add_disk3'));
  systemLibrary(NEEDED.filter((name) => name !== 'krun_add_disk3'));
  assertWithout(build());
});

test('a link to a libkrun that has gone does not stay', () => {
  mkdirSync(out);
  symlinkSync('/nowhere/libkrun.so.1', join(out, 'libkrun.so'));
  assertWithout(build());
  assert.throws(() => readlinkSync(join(out, 'libkrun.so')), { code: 'ENOENT' });
});
