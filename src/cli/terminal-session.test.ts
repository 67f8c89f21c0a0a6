import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { SANDBOX_KIND } from '../api/kinds.ts';
import { parseDetachKeys } from '../client/terminal/session.ts';
import { sandboxDocument, startHarness } from '../server/testing/harness.ts';
import { BULKHEAD, environment } from './testing/bulkhead.ts';

test('detach keys are control keys and characters', () => {
  assert.deepEqual(parseDetachKeys('ctrl-]'), Uint8Array.of(0x1d));
  assert.deepEqual(parseDetachKeys('ctrl-p,ctrl-q'), Uint8Array.of(0x10, 0x11));
  assert.deepEqual(parseDetachKeys('x'), Uint8Array.of(0x78));
  assert.deepEqual(parseDetachKeys(''), new Uint8Array());
  assert.equal(parseDetachKeys('meta-x'), undefined);
});

const hasScript = spawnSync('script', ['--version']).status === 0;

/** Runs a shell line on a terminal of its own, and types into it when it has printed something. */
async function onTerminal(
  socketPath: string,
  line: string,
  answer: { after: string; type: string },
): Promise<string> {
  const child = spawn('script', ['-qec', line, '/dev/null'], {
    env: { ...environment(socketPath), TERM: 'xterm' },
  });
  let output = '';
  let typed = false;
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
    if (!typed && output.includes(answer.after)) {
      typed = true;
      child.stdin.write(answer.type);
    }
  });
  await once(child, 'close');
  return output;
}

test('exec -it has a terminal of the right size, sends keys as they are typed and puts the terminal back', {
  skip: hasScript ? false : 'needs script(1)',
}, async () => {
  const keys: Buffer[] = [];
  await using harness = await startHarness({
    commands: {
      keys: async ({ request, stdin, out }) => {
        await out(`size ${request.tty?.columns}x${request.tty?.rows}\r\n`);
        for await (const chunk of stdin as AsyncIterable<Buffer>) {
          keys.push(chunk);
          if (chunk.includes(0x03)) break;
        }
        return { exitCode: 5 };
      },
    },
  });
  await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument('a'));
  const line = `stty cols 91 rows 33; ${BULKHEAD} exec -it a -- keys; echo code $?; stty -a`;
  // Without raw mode ctrl-c would be a signal and never arrive as a key.
  const output = await onTerminal(harness.socketPath, line, { after: 'size 91x33', type: 'q\x03' });
  assert.match(output, /code 5/);
  assert.equal(Buffer.concat(keys).toString(), 'q\x03');
  assert.match(output, /[^-]icanon/, 'the terminal reads lines again');
  assert.match(output, /[^-]echo\b/, 'the terminal echoes again');
});

test('top --watch draws bars on a terminal whose locale has them, and on no other', {
  skip: hasScript ? false : 'needs script(1)',
}, async () => {
  await using harness = await startHarness();
  await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument('a'));
  const watch = (locale: string) =>
    // Interrupted when it has shown a page.
    onTerminal(harness.socketPath, `export LC_ALL=${locale}; ${BULKHEAD} top --watch`, {
      after: 'Together: 1 sandbox',
      type: '\x03',
    });
  const screen = await watch('C.UTF-8');
  assert.match(screen, /^a +0m +▁+ +64MiB +▂+ +512MiB/m);
  assert.match(screen, /Together: 1 sandbox, CPU 0m, memory 64MiB/);
  const plain = await watch('C');
  assert.match(plain, /^a +0m +64MiB +512MiB/m);
  assert.doesNotMatch(plain, /[▁-█]/);
});
