import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import type { OutputChunk } from '../../../guest/agent.ts';
import { type LogReadOptions, SandboxLogs } from './logs.ts';
import { decodeRecord, encodeRecord } from './record.ts';
import { segmentPath } from './segments.ts';
import { LogWriter } from './writer.ts';

class Fixture {
  readonly dir: string;
  readonly errors: Error[] = [];
  time = 1_000;
  logs: SandboxLogs;

  private constructor(dir: string) {
    this.dir = dir;
    this.logs = this.open();
  }

  static async make(): Promise<Fixture> {
    return new Fixture(await mkdtemp(join(tmpdir(), 'bulkhead-logs-')));
  }

  open(): SandboxLogs {
    return new SandboxLogs(
      this.dir,
      () => this.time,
      (_uid, error) => this.errors.push(error),
    );
  }

  get folder(): string {
    return join(this.dir, 'u', 'logs');
  }

  async read(options: Partial<LogReadOptions> = {}): Promise<string> {
    let text = '';
    const { signal } = new AbortController();
    for await (const entry of this.logs.read('u', { signal, ...options })) {
      text += entry.lostBytes > 0 ? `[${entry.lostBytes} lost]` : Buffer.from(entry.data).toString();
    }
    return text;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.dir, { recursive: true, force: true });
  }
}

function chunk(text: string, offset: number, stream: 'stdout' | 'stderr' = 'stdout'): OutputChunk {
  return { stream, offset, data: Buffer.from(text), lostBefore: 0 };
}

test('output is read in the order in which it came, with its stream', async () => {
  await using f = await Fixture.make();
  const writer = await f.logs.writer('u', 1);
  await writer.append(chunk('a', 0));
  await writer.append(chunk('b', 0, 'stderr'));
  await writer.append(chunk('c', 1));
  assert.equal(await f.read(), 'abc');
  assert.deepEqual(writer.offsets, { stdout: 2, stderr: 1 });
});

test('a writer that takes over goes on without loss or repetition, whatever is replayed', async () => {
  await using f = await Fixture.make();
  const first = await f.logs.writer('u', 1);
  await first.append(chunk('hello ', 0));
  f.logs = f.open();
  const second = await f.logs.writer('u', 1);
  assert.deepEqual(second.offsets, { stdout: 6, stderr: 0 });
  await second.append(chunk('lo world', 3));
  assert.equal(await f.read(), 'hello world');
});

test('a torn last record is cut off, at whatever byte it was torn', async () => {
  await using f = await Fixture.make();
  const writer = await f.logs.writer('u', 1);
  await writer.append(chunk('kept', 0));
  const path = segmentPath(f.folder, 1, 1);
  const whole = (await stat(path)).size;
  await writer.append(chunk('torn', 4));
  const content = await readFile(path);
  for (let size = whole; size < content.length; size += 1) {
    await writeFile(path, content);
    await truncate(path, size);
    const next = await f.open().writer('u', 1);
    assert.deepEqual(next.offsets, { stdout: 4, stderr: 0 }, `torn at ${size}`);
    await next.append(chunk('torn', 4));
    await next.close();
    assert.equal(await f.read(), 'kepttorn');
  }
});

test('a damaged record is where the log is taken up again', async () => {
  await using f = await Fixture.make();
  const writer = await f.logs.writer('u', 1);
  await writer.append(chunk('kept', 0));
  const path = segmentPath(f.folder, 1, 1);
  const { size } = await stat(path);
  await writer.append(chunk('rotten', 4));
  const content = await readFile(path);
  content.writeUInt8(0x21, size + 26);
  await writeFile(path, content);
  const next = await f.open().writer('u', 1);
  assert.deepEqual(next.offsets, { stdout: 4, stderr: 0 });
});

test("what the guest's ring dropped is counted at its place", async () => {
  await using f = await Fixture.make();
  const writer = await f.logs.writer('u', 1);
  await writer.append(chunk('a', 0));
  await writer.append({ ...chunk('b', 101), lostBefore: 100 });
  assert.equal(await f.read(), 'a[100 lost]b');
});

test('a log that cannot be written loses bytes, counts them, and stops nobody', async () => {
  await using f = await Fixture.make();
  await writeFile(join(f.dir, 'u'), 'a file where the directory should be');
  const writer = await f.logs.writer('u', 1);
  await writer.append(chunk('lost', 0));
  await writer.append(chunk('too', 4));
  assert.equal(f.errors.length, 1);
  await rm(join(f.dir, 'u'));
  await writer.append(chunk('kept', 7));
  assert.equal(await f.read(), '[7 lost]kept');
});

test('a log is bounded: old segments go, the end stays', async () => {
  await using f = await Fixture.make();
  const writer = await LogWriter.open({
    dir: f.folder,
    run: 1,
    now: () => 0,
    onAppend: () => {},
    onError: (error) => assert.fail(error),
    segmentMaxBytes: 1_000,
  });
  let offset = 0;
  for (let line = 0; line < 200; line += 1) {
    const text = `line ${String(line).padStart(4, '0')} ${'x'.repeat(50)}\n`;
    await writer.append(chunk(text, offset));
    offset += text.length;
  }
  assert.equal((await readdir(f.folder)).length, 5);
  const text = await f.read();
  assert.match(text, /line 0199/);
  assert.doesNotMatch(text, /line 0000/);
  const next = await f.open().writer('u', 1);
  assert.deepEqual(next.offsets, { stdout: offset, stderr: 0 });
});

test('the run before is kept, older ones are not', async () => {
  await using f = await Fixture.make();
  for (const run of [1, 2, 4]) {
    const writer = await f.logs.writer('u', run);
    await writer.append(chunk(`run ${run}`, 0));
    await writer.close();
    f.logs.finish('u', run);
  }
  assert.equal(await f.read(), 'run 4');
  assert.equal(await f.read({ previous: true }), 'run 2');
  assert.equal((await readdir(f.folder)).length, 2);
});

test('tail gives the last lines, over streams and records', async () => {
  await using f = await Fixture.make();
  const writer = await f.logs.writer('u', 1);
  await writer.append(chunk('one\ntwo\nth', 0));
  await writer.append(chunk('warning\n', 0, 'stderr'));
  await writer.append(chunk('ree\nfour\n', 10));
  assert.equal(await f.read({ tailLines: 1 }), 'four\n');
  assert.equal(await f.read({ tailLines: 2 }), 'ree\nfour\n');
  assert.equal(await f.read({ tailLines: 0 }), '');
  assert.equal(await f.read({ tailLines: 100 }), 'one\ntwo\nthwarning\nree\nfour\n');
});

test('since gives what came at that time or later', async () => {
  await using f = await Fixture.make();
  const writer = await f.logs.writer('u', 1);
  await writer.append(chunk('early', 0));
  f.time = 5_000;
  await writer.append(chunk('late', 5));
  assert.equal(await f.read({ since: new Date(5_000) }), 'late');
});

test('a follower sees every byte as it comes, and ends with the run', async () => {
  await using f = await Fixture.make();
  const writer = await f.logs.writer('u', 1);
  await writer.append(chunk('0 ', 0));
  const following = f.read({ follow: true });
  let offset = 2;
  for (let index = 1; index < 200; index += 1) {
    const text = `${index} `;
    await writer.append(chunk(text, offset));
    offset += text.length;
  }
  await writer.close();
  f.logs.finish('u', 1);
  const expected = Array.from({ length: 200 }, (_, index) => `${index} `).join('');
  assert.equal(await following, expected);
});

test('a follower ends when its client goes, and when the sandbox goes', async () => {
  await using f = await Fixture.make();
  await f.logs.writer('u', 1);
  const client = new AbortController();
  const left = f.read({ follow: true, signal: client.signal });
  const stayed = f.read({ follow: true });
  await new Promise((resolve) => setImmediate(resolve));
  client.abort();
  assert.equal(await left, '');
  f.logs.forget('u');
  assert.equal(await stayed, '');
});

test('a sandbox that never ran has an empty log', async () => {
  await using f = await Fixture.make();
  assert.equal(await f.read(), '');
  assert.equal(await f.read({ previous: true, follow: true }), '');
});

test('bytes that are no record are refused, whatever they are', async () => {
  const record = {
    kind: 'output',
    stream: 'stdout',
    timeMs: 1,
    endOffset: 3,
    data: Buffer.from('abc'),
  } as const;
  const good = encodeRecord(record);
  assert.deepEqual(decodeRecord(good, 0)?.record, record);
  for (let bit = 0; bit < good.length * 8; bit += 1) {
    const bad = Buffer.from(good);
    bad.writeUInt8(bad.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    assert.equal(decodeRecord(bad, 0), undefined, `bit ${bit}`);
  }
});

test('foreign files in the log directory are left alone', async () => {
  await using f = await Fixture.make();
  const writer = await f.logs.writer('u', 1);
  await writer.append(chunk('a', 0));
  await appendFile(join(f.folder, 'notes.txt'), 'mine');
  await f.open().writer('u', 3);
  assert.ok((await readdir(f.folder)).includes('notes.txt'));
});
