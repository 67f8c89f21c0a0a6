// A machine that its host's full disk pauses: what is said of it, and how it comes to go on.
import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { VmStall } from '../driver.ts';
import { QmpClient } from './qmp.ts';
import { StallWatch, untilStalled } from './stall-watch.ts';

/** The client needs libvmm only to pass descriptors, which these tests do not. */
const noLibrary = Object.create(null);

/** A machine with a monitor, on a disk that may be full; and the watch's pauses, which pass at once. */
class FakeMachine extends EventEmitter implements AsyncDisposable {
  status = 'running';
  room = true;
  /** Every command, `stalled`/`running` as it was told, and every pause in milliseconds. */
  readonly log: (string | number)[] = [];
  readonly dir = mkdtempSync(join(tmpdir(), 'stall-'));
  readonly #exit = Promise.withResolvers<void>();
  readonly exited = this.#exit.promise;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #stall: VmStall | undefined;

  constructor() {
    super();
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.write('{"QMP": {}}\n');
      socket.on('data', (data) => {
        for (const line of data.toString().split('\n').filter(Boolean))
          this.#answer(socket, JSON.parse(line));
      });
    });
  }

  get stall(): VmStall | undefined {
    return this.#stall;
  }

  async listen(): Promise<void> {
    this.#server.listen(join(this.dir, 'qmp'));
    await once(this.#server, 'listening');
  }

  setStall(stall: VmStall | undefined): void {
    if ((stall === undefined) === (this.#stall === undefined)) return;
    this.#stall = stall;
    this.log.push(stall === undefined ? 'running' : 'stalled');
    this.emit('change');
  }

  /** The guest writes and there is no room. */
  fill(): void {
    this.room = false;
    this.status = 'io-error';
    for (const socket of this.#sockets) socket.write('{"event": "STOP", "timestamp": {}}\n');
  }

  disconnect(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async connect(): Promise<QmpClient> {
    const socket = new Socket().connect(join(this.dir, 'qmp'));
    await once(socket, 'connect');
    return QmpClient.connect(noLibrary, { socket, fd: -1 }, new AbortController().signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#exit.resolve();
    this.disconnect();
    this.#server.close();
    rmSync(this.dir, { recursive: true });
  }

  #answer(socket: Socket, { execute, id }: { execute: string; id: number }): void {
    if (execute === 'cont') {
      this.log.push('cont');
      if (this.room) this.status = 'running';
    }
    socket.write(`${JSON.stringify({ return: { status: this.status }, id })}\n`);
    this.emit(execute);
  }
}

function watch(machine: FakeMachine): StallWatch {
  return new StallWatch(machine, {
    connect: () => machine.connect(),
    pause: async (ms, signal) => {
      signal.throwIfAborted();
      machine.log.push(ms);
    },
  });
}

test('a machine without room is told of, and continued with longer and longer waits until there is room', async () => {
  await using machine = new FakeMachine();
  await machine.listen();
  const watching = watch(machine);
  await watching.known;
  assert.deepEqual(machine.log, []);
  const told = once(machine, 'change');
  machine.fill();
  await told;
  assert.equal(machine.stall?.code, 'DISK_FULL');
  assert.match(machine.stall?.message ?? '', /is full.*nothing of it is lost.*Free space there/s);
  while (machine.log.filter((entry) => entry === 'cont').length < 6) await once(machine, 'cont');
  const resumed = once(machine, 'change');
  machine.room = true;
  await resumed;
  assert.equal(machine.stall, undefined);
  const waits = machine.log.filter((_entry, index) => machine.log[index + 1] === 'cont');
  assert.deepEqual(waits.slice(0, 6), [1000, 2000, 4000, 8000, 15000, 15000]);
  await watching.close();
});

test('one that stood still before it was watched, and whose monitor breaks off, is found and continued all the same', async () => {
  await using machine = new FakeMachine();
  await machine.listen();
  machine.fill();
  const watching = watch(machine);
  await watching.known;
  assert.equal(machine.stall?.code, 'DISK_FULL');
  machine.disconnect();
  await once(machine, 'cont');
  const resumed = once(machine, 'change');
  machine.room = true;
  await resumed;
  await watching.close();
});

test('a machine that is gone is watched no more', async () => {
  const machine = new FakeMachine();
  await machine.listen();
  const watching = watch(machine);
  await watching.known;
  await machine[Symbol.asyncDispose]();
  await watching.done;
});

test('a flood of events costs one question each pause', async () => {
  await using machine = new FakeMachine();
  await machine.listen();
  const pauses: (() => void)[] = [];
  const watching = new StallWatch(machine, {
    connect: () => machine.connect(),
    pause: (_ms, signal) =>
      new Promise((resolve, reject) => {
        signal.throwIfAborted();
        signal.addEventListener('abort', () => reject(signal.reason), { once: true });
        pauses.push(resolve);
        machine.emit('pause');
      }),
  });
  await watching.known;
  let questions = 0;
  machine.on('query-status', () => questions++);
  const paused = once(machine, 'pause');
  for (let event = 0; event < 1000; event++) machine.fill();
  machine.status = 'running';
  await paused;
  assert.equal(questions, 0, 'the events of one pause are looked at after it');
  const asked = once(machine, 'query-status');
  pauses.shift()?.();
  await asked;
  assert.equal(questions, 1);
  await watching.close();
});

test('one who cannot wait for room is told when the machine stops for lack of it', async () => {
  await using machine = new FakeMachine();
  await machine.listen();
  const qmp = await machine.connect();
  const asked = once(machine, 'query-status');
  const stalled = untilStalled(qmp, new AbortController().signal);
  await asked;
  machine.fill();
  await stalled;
  qmp.close();
  await assert.rejects(untilStalled(qmp, new AbortController().signal), { code: 'VM_START_FAILED' });
});
