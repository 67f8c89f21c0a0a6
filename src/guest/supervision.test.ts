// What the host does with an agent that is silent or slow; all on a clock of the tests' own.
import assert from 'node:assert/strict';
import type { Duplex } from 'node:stream';
import { describe, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { connectGuest } from './client.ts';
import type { GuestClock } from './clock.ts';
import {
  CLOCK_SKEW_MAX_MS,
  HELLO_TIMEOUT_MS,
  PING_INTERVAL_MS,
  PING_MISSES,
  REDIAL_MAX_MS,
} from './limits.ts';
import { encodeGuest, FakeAgent } from './testing/fake-agent.ts';

class FakeClock implements GuestClock {
  #now = 0;
  readonly #timers = new Set<{ at: number; callback: () => void }>();

  now(): number {
    return this.#now;
  }

  after(ms: number, callback: () => void): () => void {
    const timer = { at: this.#now + ms, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Lets everything happen that is due until then, in order, and what follows from each. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      await setImmediate();
      const next = [...this.#timers].filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.#timers.delete(next);
      this.#now = next.at;
      next.callback();
    }
    this.#now = end;
  }
}

const never = (): Promise<Duplex> => new Promise(() => {});
const STATS = { case: 'stats', value: {} } as const;

describe('heartbeats', () => {
  test('an agent that falls silent is not connected, and is dialled again', async () => {
    const clock = new FakeClock();
    const silent = new FakeAgent();
    const next = new FakeAgent();
    const duplexes = [silent.host, next.host];
    const changes: boolean[] = [];
    const guest = await connectGuest(() => Promise.resolve(duplexes.shift() ?? new FakeAgent().host), {
      clock,
    });
    guest.onConnectionChange((connected) => changes.push(connected));
    await clock.advance(PING_INTERVAL_MS * (PING_MISSES + 1) - 1);
    assert.deepEqual([guest.connected, silent.host.destroyed], [true, false]);
    await clock.advance(1);
    assert.ok(silent.host.destroyed);
    assert.deepEqual(changes, [false, true]);
    await guest.close();
  });

  test('it stays unconnected while nobody answers', async () => {
    const clock = new FakeClock();
    const silent = new FakeAgent();
    let dials = 0;
    const guest = await connectGuest(() => (dials++ ? never() : Promise.resolve(silent.host)), { clock });
    await clock.advance(PING_INTERVAL_MS * (PING_MISSES + 2));
    assert.deepEqual([guest.connected, dials], [false, 2]);
    await guest.close();
  });

  test('an agent that answers now and then stays connected', async () => {
    const clock = new FakeClock();
    const fake = new FakeAgent();
    let pings = 0;
    fake.onMessage = (message) => {
      if (message.body.case === 'ping' && ++pings % PING_MISSES === 0)
        fake.send(message.requestId, { case: 'done', value: {} });
    };
    const guest = await connectGuest(() => Promise.resolve(fake.host), { clock });
    await clock.advance(PING_INTERVAL_MS * 30);
    assert.deepEqual([guest.connected, fake.host.destroyed], [true, false]);
    assert.ok(pings >= 29, `${pings} pings`);
    await guest.close();
  });
});

describe('slow peers', () => {
  const slow: Record<string, (nonce: Uint8Array, agent: FakeAgent, clock: FakeClock) => void> = {
    'says nothing to the hello': () => {},
    'drips its hello': (nonce, agent, clock) => {
      const bytes = Buffer.concat([nonce, encodeGuest(0n, agent.hello)]);
      const drip = (at: number): void => {
        agent.raw(bytes.subarray(at, at + 1));
        if (at + 1 < bytes.length) clock.after(HELLO_TIMEOUT_MS / 4, () => drip(at + 1));
      };
      drip(0);
    },
    'begins a frame and stops': (nonce, agent) => {
      agent.raw(nonce);
      agent.raw(encodeGuest(0n, agent.hello).subarray(0, 14));
    },
  };
  for (const [name, answer] of Object.entries(slow)) {
    test(`a peer that ${name} is left within the limit of a hello`, async () => {
      const clock = new FakeClock();
      const agents: FakeAgent[] = [];
      const controller = new AbortController();
      const connecting = connectGuest(
        () => {
          const agent = new FakeAgent();
          agent.onHello = (nonce) => answer(nonce, agent, clock);
          agents.push(agent);
          return Promise.resolve(agent.host);
        },
        { clock, signal: controller.signal },
      );
      const rejected = assert.rejects(connecting, { code: 'AGENT_UNREACHABLE' });
      for (let i = 0; i < 8; i++) await clock.advance(HELLO_TIMEOUT_MS + REDIAL_MAX_MS);
      assert.ok(agents.length >= 8, `${agents.length} attempts`);
      assert.ok(agents.slice(0, -1).every((agent) => agent.host.destroyed));
      controller.abort();
      await rejected;
      assert.ok(agents.at(-1)?.host.destroyed);
    });
  }

  test('a frame that drips does not count as an answer to heartbeats', async () => {
    const clock = new FakeClock();
    const fake = new FakeAgent();
    let dials = 0;
    const guest = await connectGuest(() => (dials++ ? never() : Promise.resolve(fake.host)), { clock });
    const frame = encodeGuest(1n, STATS);
    fake.onMessage = () => {};
    for (let at = 0; at < frame.length - 1 && !fake.host.destroyed; at++) {
      fake.raw(frame.subarray(at, at + 1));
      await clock.advance(PING_INTERVAL_MS);
    }
    assert.deepEqual([guest.connected, fake.host.destroyed], [false, true]);
    await guest.close();
  });
});

describe('the clock of a guest', () => {
  const NOW = 1_800_000_000_000;

  /** The times that the guest is given after a hello with this clock, and then after a pause that the host tells of. */
  async function timesSet(hello: { timeMs?: bigint; personalized: boolean }): Promise<number[]> {
    const clock = new FakeClock();
    await clock.advance(NOW);
    const fake = new FakeAgent();
    fake.hello = { case: 'hello', value: { protocolVersion: 1, bootId: 'boot-1', ...hello } };
    const times: number[] = [];
    fake.onMessage = (message) => {
      if (message.body.case === 'setClock') times.push(Number(message.body.value.timeMs) - NOW);
      fake.send(message.requestId, { case: 'done', value: {} });
    };
    const guest = await connectGuest(() => Promise.resolve(fake.host), { clock });
    await clock.advance(5);
    await guest.setClock();
    await guest.close();
    return times;
  }

  test('is set when it is off at the hello, either way, and whenever the host says so', async () => {
    for (const off of [-CLOCK_SKEW_MAX_MS - 1, CLOCK_SKEW_MAX_MS + 1])
      assert.deepEqual(await timesSet({ timeMs: BigInt(NOW + off), personalized: true }), [0, 5]);
  });

  test('stays as it is when it is right, or when the guest is nobody yet', async () => {
    for (const off of [-CLOCK_SKEW_MAX_MS, 0, CLOCK_SKEW_MAX_MS])
      assert.deepEqual(await timesSet({ timeMs: BigInt(NOW + off), personalized: true }), [5]);
    assert.deepEqual(await timesSet({ timeMs: 1n, personalized: false }), [5]);
  });

  test('is not touched where the agent knows no way to set it', async () => {
    assert.deepEqual(await timesSet({ personalized: true }), []);
  });
});
