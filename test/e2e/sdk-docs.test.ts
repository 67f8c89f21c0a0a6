// The programs in the pages about the SDK, as they stand there: each `// prints ...` has to come true, in order.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { BUILTIN_IMAGE, TestDaemon } from './daemon-harness.ts';

const run = promisify(execFile);
const PROJECT = join(import.meta.dirname, '..', '..');
const NODE = join(PROJECT, 'node_modules', '.bin', 'node');
const PAGES = ['sdk.md', 'sdk-migration.md'];
/** The image of the pages; the tests have none from outside. */
const DOCUMENTED_IMAGE = /docker\.io\/library\/alpine:[\d.]+/g;

let daemon: TestDaemon;

before(async () => {
  daemon = await TestDaemon.start();
});
after(() => daemon?.[Symbol.asyncDispose]());

function programsOf(page: string): string[] {
  const markdown = readFileSync(join(PROJECT, 'docs', page), 'utf8');
  return [...markdown.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, program = '']) => program);
}

for (const page of PAGES) {
  describe(page, () => {
    const programs = programsOf(page);
    test('has programs, each of which says what it prints', () => {
      assert.ok(programs.length > 0);
      for (const program of programs) assert.match(program, /\/\/ prints \S/);
    });
    for (const [index, program] of programs.entries()) {
      test(`program ${index + 1} runs, and prints what it says`, { timeout: 120_000 }, async () => {
        const source = program.replaceAll(DOCUMENTED_IMAGE, BUILTIN_IMAGE);
        const args = [
          '--disable-warning=ExperimentalWarning',
          '--input-type=module-typescript',
          '-e',
          source,
        ];
        const env = { ...process.env, BULKHEAD_SOCKET: daemon.socket };
        const { stdout } = await run(NODE, args, { cwd: PROJECT, env });
        let rest = stdout.replaceAll(/\s+/g, ' ');
        for (const [, expected = ''] of program.matchAll(/\/\/ prints (.*)$/gm)) {
          const at = rest.indexOf(expected.trim());
          assert.notEqual(at, -1, `"${expected}" is missing, or out of order, in:\n${stdout}\n${program}`);
          rest = rest.slice(at + expected.length);
        }
      });
    }
  });
}
