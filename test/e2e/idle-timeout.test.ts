// A sandbox that nobody uses ends by itself; one that is used goes on, over a kill of the daemon too.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sandboxYaml, TestDaemon } from './daemon-harness.ts';

const IDLE_SECONDS = 4;

test('a sandbox ends when nobody has used it for its idle time', async () => {
  await using daemon = await TestDaemon.start();
  const finished = (name: string) =>
    daemon.ok('wait', `sandbox/${name}`, '--for=condition=Finished', '--timeout', '120s');
  await daemon.write('used.yaml', sandboxYaml('used', { idleTimeoutSeconds: IDLE_SECONDS }));
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
});
