import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { sandboxAccess } from './sandbox-access.ts';

test('a connection into a VM ends with the VM, which would say nothing, and those to others go on', async () => {
  const ends = new Map<string, () => void>();
  const handles = new Map(
    ['a', 'b'].map((uid) => {
      const { promise: exited, resolve } = Promise.withResolvers<void>();
      ends.set(uid, resolve);
      return [uid, { exited }] as const;
    }),
  );
  const live = {
    takenUp: async () => {},
    agentOf: () => ({}),
    get: (uid: string) => ({ handle: handles.get(uid), execDefaults: {}, startedAt: new Date() }),
  };
  const access = sandboxAccess(
    ...([
      { get: async ({ name }: { name: string }) => ({ metadata: { uid: name } }) },
      { live },
      { dial: async () => new PassThrough() },
      {},
    ] as unknown as Parameters<typeof sandboxAccess>),
  );
  const dial = async (name: string) => (await access.live('default', name)).dial(80);
  const [first, second, other] = [await dial('a'), await dial('a'), await dial('b')];
  const closed = Promise.all(
    [first, second].map(
      (stream) => new Promise<unknown>((resolve) => stream.once('error', resolve).once('close', resolve)),
    ),
  );
  ends.get('a')?.();
  for (const error of await closed) assert.match(String(error), /the sandbox has ended/);
  assert.deepEqual([first.destroyed, second.destroyed, other.destroyed], [true, true, false]);
});
