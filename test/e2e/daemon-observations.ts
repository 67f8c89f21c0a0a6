// What tests wait for in a daemon's answers: conditions, events, their texts.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { SandboxStatusView, TestDaemon } from './daemon-harness.ts';

type Conditions = SandboxStatusView['conditions'];

/** Long enough for a failed step to be tried again at its longest back-off, on a crowded machine. */
const OBSERVATION_TIMEOUT_MS = 180_000;
const POLL_MS = 250;

export function condition(conditions: Conditions, type: string): Conditions[number] | undefined {
  return conditions.find((each) => each.type === type);
}

/** Polls until `probe` gives a value; `describe` says what was there instead when it never does. */
export async function eventually<T>(
  what: string,
  probe: () => Promise<T | undefined>,
  describe: () => Promise<string> | string,
  timeoutMs = OBSERVATION_TIMEOUT_MS,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    if (Date.now() > deadline) assert.fail(`${what} did not come about:\n${await describe()}`);
    await delay(POLL_MS);
  }
}

/** The first status that `holds`. */
export async function until(
  daemon: TestDaemon,
  name: string,
  holds: (status: SandboxStatusView) => boolean,
): Promise<SandboxStatusView> {
  let last = '';
  return eventually(
    `the status of ${name} that ${holds}`,
    async () => {
      const { code, stdout } = await daemon.cli('get', 'sandbox', name, '-o', 'json');
      if (code !== 0) return undefined;
      last = stdout;
      const { status } = JSON.parse(stdout) as { status?: SandboxStatusView };
      return status?.conditions !== undefined && holds(status) ? status : undefined;
    },
    () => `${last}\n--- daemon log\n${daemon.log().slice(-3000)}`,
  );
}

/** Every event, with its whole message. */
export async function allEvents(daemon: TestDaemon): Promise<string> {
  return daemon.ok('events', '--all-namespaces', '-o', 'json');
}

/** The list of events once it matches. */
export async function untilEvent(daemon: TestDaemon, pattern: RegExp): Promise<string> {
  return eventually(
    `an event that matches ${pattern}`,
    async () => {
      const events = await allEvents(daemon);
      return pattern.test(events) ? events : undefined;
    },
    () => allEvents(daemon),
  );
}

/** CPU time that all threads of a process had, and waited for, in seconds: the scheduler's own account. */
export function scheduled(pid: number): { ran: number; waited: number } {
  const total = { ran: 0, waited: 0 };
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const [ran, waited] = readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ').map(Number);
    total.ran += (ran ?? 0) / 1e9;
    total.waited += (waited ?? 0) / 1e9;
  }
  return total;
}
