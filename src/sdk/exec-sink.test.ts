import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { BulkheadError, DaemonUnavailableError, SandboxNotRunningError } from './errors.ts';
import { ExecSink } from './exec-sink.ts';

/** Input whose end, or whose every write, fails. */
function failing(where: 'end' | 'write', code: 'DAEMON_UNAVAILABLE' | 'SANDBOX_NOT_RUNNING'): Writable {
  const fail = (done: (error?: Error) => void): void => done(new BulkheadError(code, 'gone'));
  const stdin = new Writable({
    write: (_chunk, _encoding, done) => (where === 'write' ? fail(done) : done()),
    final: fail,
  });
  stdin.on('error', () => {});
  return stdin;
}

test('an input whose end did not arrive says so, typed, each time it is closed', async () => {
  const sink = new ExecSink(failing('end', 'DAEMON_UNAVAILABLE'));
  await sink.write('data');
  await assert.rejects(sink.close(), DaemonUnavailableError);
  await assert.rejects(sink.close(), DaemonUnavailableError);
});

test('a write that nobody waited for and that failed shows when the input is closed', async () => {
  const sink = new ExecSink(failing('write', 'SANDBOX_NOT_RUNNING'));
  const write = sink.write('data');
  const closed = assert.rejects(sink.close(), SandboxNotRunningError);
  await assert.rejects(write, SandboxNotRunningError);
  await closed;
});

test('an input is closed once and for all; closing it again is no failure', async () => {
  const pieces: string[] = [];
  const sink = new ExecSink(
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        pieces.push(chunk.toString());
        done();
      },
    }),
  );
  await sink.write('a');
  await Promise.all([sink.close(), sink.close()]);
  await sink.close();
  assert.deepEqual(pieces, ['a']);
});
