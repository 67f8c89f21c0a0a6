// A sandbox that nobody uses ends by itself; one that is used goes on, over a kill of the daemon too.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setTimeout as passTime } from 'node:timers/promises';
import { sandboxYaml, TestDaemon } from './daemon-harness.ts';

const IDLE_SECONDS = 4;
/** Longer than the daemon takes to hear of a connection, also where others keep the machine busy. */
const SERVED_IDLE_SECONDS = 15;

test('a sandbox ends when nobody has used it for its idle time', async () => {
  await using daemon = await TestDaemon.start();
  const finished = (name: string) =>
    daemon.ok('wait', `sandbox/${name}`, '--for=condition=Finished', '--timeout', '120s');
  const ports = [{ name: 'web', port: 8000 }];
  await daemon.write(
    'served.yaml',
    sandboxYaml('served', { ports, idleTimeoutSeconds: SERVED_IDLE_SECONDS }),
  );
  await daemon.write('used.yaml', sandboxYaml('used', { idleTimeoutSeconds: IDLE_SECONDS }));
  await daemon.waitReady('served');
  await daemon.ok('exec', 'served', '--', 'sh', '-c', 'nc -ll -p 8000 -e cat >/dev/null 2>&1 &');
  const { network } = (await daemon.get('served')).status as { network?: { ports?: { hostPort: number }[] } };
  // Says nothing more, and stands over the kill of the daemon.
  const client = connect(network?.ports?.[0]?.hostPort ?? 0, '127.0.0.1');
  client.write('hello');
  assert.equal(String((await once(client, 'data'))[0]), 'hello');
  const connected = performance.now();

  await daemon.waitReady('used');
  // Twice as long as it may be idle: it would be gone before the end.
  const said = await daemon.ok('exec', 'used', '--', 'sh', '-c', `sleep ${2 * IDLE_SECONDS}; echo done`);
  assert.equal(said, 'done\n');
  await daemon.crash();
  await daemon.launch();
  await finished('used');
  assert.equal((await daemon.get('used')).status.phase, 'Succeeded');
  const text = await daemon.ok('describe', 'sandbox', 'used');
  assert.match(text, /IdleTimeout.*Nobody used it for idleTimeoutSeconds \(4\)/);

  await passTime(Math.max(0, 2 * SERVED_IDLE_SECONDS * 1_000 - (performance.now() - connected)));
  assert.equal((await daemon.get('served')).status.phase, 'Running', 'a connection to its port is use');
  client.destroy();
  await finished('served');
});
