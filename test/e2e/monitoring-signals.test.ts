// What one sandbox's start and traffic look like to Prometheus, to a collector of traces and in the log.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { Collector } from './collector.ts';
import { sandboxYaml, TestDaemon } from './daemon-harness.ts';
import { eventually } from './daemon-observations.ts';
import { freePort, Prometheus } from './prometheus.ts';

const MIB = 2 ** 20;
/** Where a thing never comes, its test is to fail, not the whole run. */
const LIMITED = { timeout: 300_000 };
const TRAFFIC_BYTES = 100 * MIB;
/** In a variable of the sandbox: must be in no trace. */
const SECRET = 'hunter2-of-the-sandbox';
const WORK = '{namespace="default",name="work"}';

let target = '';
let fromGuest = 0;
let intoGuest = 0;
let collector: Collector;
let daemon: TestDaemon;
let prometheus: Prometheus;

before(async () => {
  target = `127.0.0.1:${await freePort()}`;
  [fromGuest, intoGuest] = [await freePort(), await freePort()];
  collector = await Collector.start();
  daemon = await TestDaemon.start({ extraArgs: arguments_() });
  prometheus = await Prometheus.start({ target, speed: 20 });
  const ports = [
    { name: 'out', port: 9000, hostPort: fromGuest },
    { name: 'in', port: 9001, hostPort: intoGuest },
  ];
  const env = [{ name: 'TOKEN', value: SECRET }];
  await daemon.write('work.yaml', sandboxYaml('work', { ports, env }));
  await daemon.waitReady('work');
});

after(async () => {
  await prometheus?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
  await collector?.[Symbol.asyncDispose]();
});

function arguments_(): string[] {
  return ['--metrics-address', target, '--trace-endpoint', collector.url];
}

test('a start is one trace with the stages of its status, and nothing secret in it', LIMITED, async () => {
  const { whole, stages } = await collector.traceOf('work');
  const { metadata, status } = await daemon.get('work');
  const { startStages = [] } = status.vm as { startStages?: { name: string; milliseconds: number }[] };
  assert.deepEqual(
    stages.map(({ name }) => name),
    startStages.map(({ name }) => name),
  );
  assert.ok(stages.length > 3);
  for (const { traceId } of stages) assert.equal(traceId, whole.traceId);
  const attributes = new Map(whole.attributes.map(({ key, value }) => [key, value.stringValue]));
  assert.equal(attributes.get('bulkhead.sandbox.uid'), metadata.uid);
  assert.equal(attributes.get('bulkhead.vm.driver'), status.vm?.driver);
  assert.ok(!collector.bodies.some((body) => body.includes(SECRET)));
});

test(
  'the metrics of the daemon are clean to promtool, and Prometheus has the trace of the start as an exemplar',
  LIMITED,
  async () => {
    await daemon.ok('exec', 'work', '--', 'true');
    const plain = await fetch(`http://${target}/metrics`, { headers: { accept: 'text/plain' } });
    assert.equal(plain.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
    const input = await plain.text();
    assert.match(input, /^sandbox_time_to_first_exec_seconds_count\{.*\} 1$/m);
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], {
      input,
      encoding: 'utf8',
    });
    assert.equal(`${stdout}${stderr}`, '');
    assert.equal(status, 0);

    const { whole } = await collector.traceOf('work');
    await prometheus.until('up{job="bulkhead"}', (up) => up === 1);
    for (const metric of [
      'sandbox_start_duration_seconds_bucket',
      'sandbox_time_to_first_exec_seconds_bucket',
    ])
      await eventually(
        `an exemplar of ${metric}`,
        async () =>
          (await prometheus.exemplars(metric)).some(({ trace_id }) => trace_id === whole.traceId) ||
          undefined,
        async () => JSON.stringify(await prometheus.exemplars(metric)),
      );
  },
);

test('each line of the log about a reconcile says which one, and of which object', LIMITED, async () => {
  await daemon.write('missing.yaml', sandboxYaml('missing', { image: '127.0.0.1:1/nothing:1' }));
  const line = await eventually(
    'a line about the reconcile that failed',
    async () =>
      daemon
        .log()
        .split('\n')
        .filter((text) => text.startsWith('{'))
        .map((text) => JSON.parse(text) as Record<string, unknown> & { object?: { name?: string } })
        .find(({ object }) => object?.name === 'missing'),
    async () => daemon.log().slice(-4000),
  );
  assert.match(String(line.reconcile), /^[0-9a-f-]{36}$/);
  assert.equal(line.controller, 'sandbox');
  assert.equal(line.uid, (await daemon.get('missing')).metadata.uid);
  await daemon.remove('missing.yaml');
});

/** A connection to a port of the guest, at whose other end the guest says something or listens. */
async function dial(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  return socket;
}

/** Runs a command in the guest and `transfer` beside it. */
async function withGuest(script: string, transfer: () => Promise<void>): Promise<void> {
  await daemon.ok('exec', 'work', '--', 'sh', '-c', `(${script}) >/dev/null 2>&1 &`);
  await daemon.ok(
    ...['exec', 'work', '--', 'sh', '-c'],
    'timeout 60 sh -c "until cat /proc/net/tcp /proc/net/tcp6 | grep -q \\" 0A \\"; do usleep 50000; done"',
  );
  await transfer();
}

/** Bytes of a series when two more scrapes were taken and nothing was added between them. */
async function settled(series: string): Promise<number> {
  let former = -1;
  let at = 0;
  return eventually(
    `an end of ${series}`,
    async () => {
      const [value, time] = [await prometheus.value(series), await prometheus.value(`timestamp(${series})`)];
      if (time === at) return undefined;
      const same = value === former;
      [former, at] = [value, time];
      return same ? value : undefined;
    },
    async () => String(former),
  );
}

/**
 * Bytes that the guest's own kernel counts on its link: frames with their headers, and what had to be sent again, of which a
 * loaded host makes more. Without reading it by a command, whose traffic would go another way.
 */
async function guestLinkBytes(counter: 'tx_bytes' | 'rx_bytes'): Promise<number> {
  const path = `/sys/class/net/eth0/statistics/${counter}`;
  return Number(await daemon.ok('exec', 'work', '--', 'cat', path));
}

const DIRECTIONS = [
  {
    name: 'sends',
    counter: 'tx_bytes',
    series: `sandbox_network_transmit_bytes_total${WORK}`,
    gateway: 'gateway_egress_bytes_total',
    other: `sandbox_network_receive_bytes_total${WORK}`,
    // Without a pipe: nc would copy it by kilobytes, which takes an emulated processor most of a minute.
    script: 'nc -l -p 9000 -e dd if=/dev/zero bs=64k count=1600',
    transfer: async () => {
      const socket = await dial(fromGuest);
      let bytes = 0;
      socket.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes >= TRAFFIC_BYTES) socket.end();
      });
      await once(socket, 'close');
      assert.equal(bytes, TRAFFIC_BYTES);
    },
  },
  {
    name: 'receives',
    counter: 'rx_bytes',
    series: `sandbox_network_receive_bytes_total${WORK}`,
    gateway: 'gateway_ingress_bytes_total',
    other: `sandbox_network_transmit_bytes_total${WORK}`,
    // With an input that does not end: nc would else say at once that it has nothing to send, and the connection be half closed.
    script: 'tail -f /dev/null | nc -l -p 9001',
    transfer: async () => {
      const socket = await dial(intoGuest);
      socket.resume();
      const block = Buffer.alloc(MIB);
      for (let sent = 0; sent < TRAFFIC_BYTES; sent += MIB)
        if (!socket.write(block)) await once(socket, 'drain');
      socket.end();
      await once(socket, 'close');
    },
  },
] as const;

for (const { name, counter, series, gateway, other, script, transfer } of DIRECTIONS) {
  test(`100 MiB that a guest ${name} are seen in the series of that direction`, LIMITED, async () => {
    const [before_, otherBefore] = [await settled(series), await settled(other)];
    const carriedBefore = await settled(gateway);
    const guestBefore = await guestLinkBytes(counter);
    await withGuest(script, transfer);
    const seen = (await settled(series)) - before_;
    const counted = (await guestLinkBytes(counter)) - guestBefore;
    const carried = (await settled(gateway)) - carriedBefore;
    const beside = (await settled(other)) - otherBefore;
    console.log(
      `${name}: ${(seen / MIB).toFixed(2)} MiB seen, ${(counted / MIB).toFixed(2)} MiB in the guest, ` +
        `${(beside / MIB).toFixed(2)} MiB the other way`,
    );
    assert.ok(seen >= TRAFFIC_BYTES, `${seen / MIB} MiB`);
    assert.ok(Math.abs(seen - counted) <= 0.05 * counted, `${seen / MIB} MiB, ${counted / MIB} in the guest`);
    assert.ok(carried >= TRAFFIC_BYTES, `${carried / MIB} MiB through the gateway`);
    // Acknowledgements: at most one of 66 bytes for each segment.
    assert.ok(beside < 0.1 * TRAFFIC_BYTES, `${beside / MIB} MiB the other way`);
  });
}

test('a collector that hangs harms neither starts nor the stop of the daemon', LIMITED, async () => {
  collector.answers = false;
  await daemon.write('other.yaml', sandboxYaml('other'));
  await daemon.waitReady('other');
  await collector.traceOf('other');
  await daemon.stop();
  await daemon.launch(arguments_());
  await daemon.waitReady('other');
  assert.match(daemon.log(), /the collector takes no traces/);
});
