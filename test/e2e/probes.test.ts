// Probes and hooks in real guests, and roots that are made anew.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sandboxYaml, TestDaemon } from './daemon-harness.ts';
import { allEvents, condition, until, untilEvent } from './daemon-observations.ts';

let daemon: TestDaemon;

before(async () => {
  daemon = await TestDaemon.start();
});
after(async () => {
  await daemon?.[Symbol.asyncDispose]();
});

async function apply(document: string): Promise<void> {
  const { code, stderr } = await daemon.cliWithInput(document, 'apply', '-f', '-');
  assert.equal(code, 0, stderr);
}

const sh = (name: string, script: string) => daemon.ok('exec', name, '--', 'sh', '-c', script);
const readyIs = (status: string, reason: string) => (o: { conditions: Parameters<typeof condition>[0] }) => {
  const ready = condition(o.conditions, 'Ready');
  return ready?.status === status && ready.reason === reason;
};
/** A command takes part of a second in an emulated guest, and several on a crowded machine. */
const PATIENT = { periodSeconds: 1, timeoutSeconds: 20 };

/** Serves /www on all addresses. */
const SERVER = { command: ['sh', '-c', 'mkdir -p /www; exec httpd -f -p 8080 -h /www'] };
const CLOSED = JSON.stringify({
  apiVersion: 'bulkhead.dev/v1alpha1',
  kind: 'NetworkPolicy',
  metadata: { name: 'closed' },
  spec: { sandboxSelector: {}, egress: { mode: 'Airgapped' } },
});

test('Ready follows HTTP and TCP probes under a policy that closes the network, over a kill of the daemon', async () => {
  await apply(CLOSED);
  await apply(
    sandboxYaml('web', {
      main: SERVER,
      readinessProbe: { httpGet: { port: 8080, path: '/ready' }, ...PATIENT, failureThreshold: 2 },
      livenessProbe: { tcpSocket: { port: 8080 }, ...PATIENT, initialDelaySeconds: 10 },
    }),
  );
  const { conditions } = await until(daemon, 'web', readyIs('False', 'ReadinessProbeFailed'));
  assert.match(condition(conditions, 'Ready')?.message ?? '', /HTTP 404|Connection refused/);
  await untilEvent(daemon, /Unhealthy/);
  await sh('web', 'echo yes > /www/ready');
  await daemon.waitReady('web');
  const { pid } = (await daemon.get('web')).status.vm ?? {};

  await daemon.crash();
  await daemon.launch();
  // At once, before it has probed: what the status said of this VM holds.
  assert.equal(condition((await daemon.get('web')).status.conditions, 'Ready')?.status, 'True');
  await sh('web', 'rm /www/ready');
  await until(daemon, 'web', readyIs('False', 'ReadinessProbeFailed'));
  await sh('web', 'echo yes > /www/ready');
  const { vm, restarts } = await until(daemon, 'web', readyIs('True', 'Ready'));
  assert.deepEqual([vm?.pid, restarts ?? 0], [pid, 0]);

  await sh('web', 'killall httpd').catch(() => undefined);
  await daemon.ok('wait', 'sandbox/web', '--for=condition=Finished', '--timeout', '120s');
  await daemon.ok('delete', 'sandbox', 'web');
});

test('a liveness probe that fails restarts the VM on its disks, after preStop', async () => {
  await apply(
    sandboxYaml('live', {
      main: { command: ['sh', '-c', 'rm -f /dead; echo run >> /runs; exec sleep 100000'] },
      restartPolicy: 'Always',
      startupProbe: { exec: { command: ['test', '-s', '/runs'] }, ...PATIENT, failureThreshold: 60 },
      livenessProbe: {
        exec: { command: ['sh', '-c', 'test ! -e /dead || { echo died; exit 3; }'] },
        ...PATIENT,
      },
      lifecycle: {
        postStart: { exec: { command: ['sh', '-c', 'echo hello >> /hooks'] } },
        preStop: { exec: { command: ['sh', '-c', 'echo bye >> /hooks'] } },
      },
    }),
  );
  await daemon.waitReady('live');
  assert.equal(await sh('live', 'cat /hooks'), 'hello\n');
  await sh('live', 'touch /dead');
  const { lastTermination } = await until(daemon, 'live', ({ restarts }) => (restarts ?? 0) === 1);
  assert.equal(lastTermination?.reason, 'LivenessProbeFailed');
  assert.match(lastTermination?.message ?? '', /3 times in a row: exit code 3: died/);
  await daemon.waitReady('live');
  assert.equal(await sh('live', 'cat /hooks /runs'), 'hello\nbye\nhello\nrun\nrun\n');
  await daemon.ok('delete', 'sandbox', 'live');
});

test('a probe that hangs is killed in the guest, and a postStart hook that fails ends the run', async () => {
  await apply(
    sandboxYaml('hangs', {
      livenessProbe: {
        exec: { command: ['sleep', '77777'] },
        periodSeconds: 1,
        timeoutSeconds: 2,
        failureThreshold: 100,
      },
    }),
  );
  await untilEvent(daemon, /timed out after 2 s/);
  const running = await sh('hangs', 'ps | grep -c "sleep 7777[7]" || true');
  assert.ok(Number(running) <= 1, `${running} of them run`);
  await daemon.ok('delete', 'sandbox', 'hangs');

  await apply(
    sandboxYaml('bad', {
      lifecycle: { postStart: { exec: { command: ['sh', '-c', 'echo no database; exit 4'] } } },
    }),
  );
  await daemon.ok('wait', 'sandbox/bad', '--for=condition=Finished', '--timeout', '180s');
  const { status } = await daemon.get('bad');
  assert.equal(status.lastTermination?.reason, 'PostStartHookFailed');
  assert.match(status.lastTermination?.message ?? '', /exit code 4: no database/);
});

test('Recreate makes another root file system and keeps volumes', async () => {
  const volume = { apiVersion: 'bulkhead.dev/v1alpha1', kind: 'Volume', metadata: { name: 'data' } };
  await apply(JSON.stringify({ ...volume, spec: { capacity: '64Mi' } }));
  const document = (greeting: string) =>
    sandboxYaml('anew', {
      updateStrategy: 'Recreate',
      patches: [{ text: { path: '/etc/greeting', content: greeting } }],
      volumes: [{ name: 'data', volume: { name: 'data' } }],
      volumeMounts: [{ name: 'data', mountPath: '/data' }],
    });
  await apply(document('one'));
  await daemon.waitReady('anew');
  await sh('anew', 'echo kept > /data/file; echo lost > /root/file; echo changed > /etc/greeting; sync');
  const { pid } = (await daemon.get('anew')).status.vm ?? {};
  await apply(document('two'));
  await until(
    daemon,
    'anew',
    ({ vm, conditions }) =>
      vm !== undefined && vm.pid !== pid && condition(conditions, 'Ready')?.status === 'True',
  );
  assert.equal(await sh('anew', 'cat /etc/greeting /data/file; ls /root'), 'twokept\n');
  assert.match(await allEvents(daemon), /Recreated/);
  await daemon.ok('delete', 'sandbox', 'anew');
});

test('run --replace takes the place of an older sandbox', async () => {
  const run = ['run', '-d', '--name', 'job', '--replace', '-m', '128Mi', 'bulkhead.local/busybox:latest'];
  await daemon.ok(...run, '--', 'sleep', '1000');
  await daemon.waitReady('job');
  const older = (await daemon.get('job')).metadata.uid;
  await daemon.ok(...run, '--', 'sleep', '2000');
  await daemon.waitReady('job');
  assert.notEqual((await daemon.get('job')).metadata.uid, older);
});
