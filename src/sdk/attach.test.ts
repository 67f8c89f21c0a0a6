import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { FakeCommand } from '../server/testing/fake-guest.ts';
import { sandboxDocument, startHarness } from '../server/testing/harness.ts';

/** Asks for a line and says it. */
const line: FakeCommand = async ({ stdin, out, request }) => {
  await out(`${request.argv[1]}?\r\n`);
  let typed = '';
  for await (const piece of stdin as AsyncIterable<Buffer>) {
    typed += piece.toString();
    if (typed.includes('\r')) break;
  }
  await out(`<${typed.trim()}>\r\n`);
  return { exitCode: 6 };
};

test('a program attaches its terminal again and again, and has its input afterwards', {
  skip: spawnSync('script', ['--version']).status === 0 ? false : 'needs script(1)',
}, async () => {
  await using harness = await startHarness({ commands: { line } });
  await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument('a'));
  const program = join(harness.dir, 'program.ts');
  await writeFile(
    program,
    `import { attachTerminal } from ${JSON.stringify(join(import.meta.dirname, 'attach.ts'))};
     import { BulkheadClient } from ${JSON.stringify(join(import.meta.dirname, '..', 'client', 'client.ts'))};
     const client = new BulkheadClient({ socketPath: ${JSON.stringify(harness.socketPath)} });
     const attach = (config) => attachTerminal((query, retry) => client.execResumable('default', 'a', query, retry), config);
     console.log('code ' + (await attach({ cmd: 'line', args: ['first'] })));
     console.log('code ' + (await attach({ cmd: 'line', args: ['second'] })));
     const onDetach = ({ id, stdoutOffset }) => console.log(id.length + ' ' + stdoutOffset);
     console.log('left ' + (await attach({ cmd: 'line', args: ['third'], detachKeys: 'ctrl-a,d', onDetach })));
     console.log('own?');
     process.stdin.once('data', (piece) => { console.log('own ' + piece); process.stdin.pause(); process.stdin.unref(); });
     process.stdin.ref(); process.stdin.resume();
     client.close();`,
  );
  const answers = new Map([
    ['first?', 'one\r'],
    ['second?', 'two\r'],
    ['third?', '\u0001d'],
    ['own?', 'mine\r'],
  ]);
  const command = `${process.execPath} --disable-warning=ExperimentalWarning ${program}`;
  const child = spawn('script', ['-qec', command, '/dev/null'], { timeout: 60_000 });
  let output = '';
  child.stdout.on('data', (piece: Buffer) => {
    output += piece.toString();
    for (const [question, answer] of answers)
      if (output.includes(question) && answers.delete(question)) child.stdin.write(answer);
  });
  const [code] = (await once(child, 'close')) as [number | null];
  assert.equal(code, 0, output);
  for (const said of ['<one>', 'code 6', '<two>', `36 ${'third?\r\n'.length}`, 'left 0', 'own mine'])
    assert.ok(output.includes(said), `"${said}" is missing in:\n${output}`);
});
