// What a guest uses is seen in the right series with libkrun too. A light form, read from /metrics without Prometheus: with the
// software driver monitoring.test.ts and monitoring-signals.test.ts do the same at full size.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { BulkheadClient } from '../../src/client/client.ts';
import { configure, Sandbox } from '../../src/sdk/index.ts';
import { sandboxYaml, TestDaemon } from './daemon-harness.ts';
import { eventually, scheduled } from './daemon-observations.ts';
import { freePort } from './prometheus.ts';
import { onlyWith } from './test-driver.ts';

const MIB = 2 ** 20;
/** Less than elsewhere, since the host of the lab is emulated. */
const BURN_SECONDS = 10;
const MEMORY_MIB = 64;
const DISK_MIB = 64;
const SENT_MIB = 16;
const LIMITED = { timeout: 600_000 };

let daemon: TestDaemon;
let client: BulkheadClient;
let work: Sandbox;
let port = 0;
let vmm = 0;

const here = onlyWith('libkrun', 'monitoring.test.ts and monitoring-signals.test.ts do this at full size');

async function value(name: string): Promise<number> {
  const samples = (await client.metrics()).filter(
    (each) => each.name === name && each.labels.name === 'work',
  );
  assert.equal(samples.length, 1, name);
  return samples[0]?.value ?? 0;
}

/** Of the next scrape that is not shared with the one before. */
async function settled(name: string): Promise<number> {
  let former = Number.NaN;
  return eventually(
    `an end of ${name}`,
    async () => {
      const now = await value(name);
      const same = now === former;
      former = now;
      return same ? now : undefined;
    },
    () => String(former),
  );
}

function near(what: string, measured: number, truth: number, slack = 0): void {
  const text = `${what}: the series says ${measured.toFixed(2)}, it was ${truth.toFixed(2)}`;
  console.log(text);
  assert.ok(Math.abs(measured - truth) <= truth * 0.05 + slack, text);
}

describe('figures of a guest', { ...here, concurrency: false }, () => {
  before(async () => {
    port = await freePort();
    daemon = await TestDaemon.start();
    configure({ socketPath: daemon.socket });
    client = new BulkheadClient({ socketPath: daemon.socket });
    const ports = [{ name: 'out', port: 9000, hostPort: port }];
    const resources = { cpus: 1, memory: '256Mi', disk: '512Mi' };
    await daemon.write('work.yaml', sandboxYaml('work', { resources, ports }));
    await daemon.waitReady('work');
    vmm = (await daemon.get('work')).status.vm?.pid ?? 0;
    work = await (await Sandbox.get('work')).connect();
  });

  after(async () => {
    client?.close();
    await daemon?.[Symbol.asyncDispose]();
  });

  test('a CPU that is burnt', LIMITED, async () => {
    const [seenBefore, before_] = [await value('sandbox_cpu_usage_seconds_total'), scheduled(vmm)];
    await work.shell(`timeout ${BURN_SECONDS} sh -c 'while :; do :; done'; true`);
    const [seen, after_] = [await settled('sandbox_cpu_usage_seconds_total'), scheduled(vmm)];
    const ran = after_.ran - before_.ran;
    // What is read at two moments is not quite the same.
    near('CPU seconds', seen - seenBefore, ran, 0.5);
    // On a crowded host the guest waited for the rest.
    assert.ok(ran + after_.waited - before_.waited > BURN_SECONDS / 2);
  });

  test('memory', LIMITED, async () => {
    const [guest, host] = [
      await value('sandbox_memory_guest_used_bytes'),
      await value('sandbox_memory_resident_bytes'),
    ];
    await work.shell(
      `mkdir /m && mount -t tmpfs -o size=200m m /m && dd if=/dev/zero of=/m/x bs=1M count=${MEMORY_MIB}`,
    );
    const most = guest + 0.8 * MEMORY_MIB * MIB;
    const used = await eventually(
      'the memory of the guest',
      async () => {
        const now = await value('sandbox_memory_guest_used_bytes');
        return now > most ? now : undefined;
      },
      async () => String(await value('sandbox_memory_guest_used_bytes')),
    );
    near('MiB in the guest', (used - guest) / MIB, MEMORY_MIB, 1);
    const resident = (await value('sandbox_memory_resident_bytes')) - host;
    // A guest takes pages that it had before first.
    near('MiB on the host', resident / MIB, MEMORY_MIB, MEMORY_MIB * 0.2);
  });

  test('writes to the disk', LIMITED, async () => {
    const before_ = await value('sandbox_fs_writes_bytes_total');
    await work.shell(`dd if=/dev/zero of=/x bs=1M count=${DISK_MIB} conv=fsync`);
    near('MiB written', ((await settled('sandbox_fs_writes_bytes_total')) - before_) / MIB, DISK_MIB, 2);
  });

  test('what is sent', LIMITED, async () => {
    const link = async () =>
      Number((await work.shell('cat /sys/class/net/eth0/statistics/tx_bytes')).stdout());
    const [before_, truth] = [await settled('sandbox_network_transmit_bytes_total'), await link()];
    await work.shell(
      `(dd if=/dev/zero bs=64k count=${SENT_MIB * 16} | nc -l -p 9000) >/dev/null 2>&1 &
       until cat /proc/net/tcp /proc/net/tcp6 | grep -q ' 0A '; do usleep 50000; done`,
    );
    const socket = connect(port, '127.0.0.1');
    let bytes = 0;
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes >= SENT_MIB * MIB) socket.end();
    });
    await once(socket, 'close');
    assert.equal(bytes, SENT_MIB * MIB);
    const seen = (await settled('sandbox_network_transmit_bytes_total')) - before_;
    near('MiB sent', seen / MIB, ((await link()) - truth) / MIB, 0.1);
  });

  test('no counter falls when the daemon is killed', LIMITED, async () => {
    const names = [
      'sandbox_cpu_usage_seconds_total',
      'sandbox_fs_writes_bytes_total',
      'sandbox_network_transmit_bytes_total',
    ];
    const before_ = await Promise.all(names.map(value));
    await daemon.crash();
    await daemon.launch();
    await daemon.waitReady('work');
    for (const [index, name] of names.entries())
      assert.ok((await value(name)) >= (before_[index] ?? 0), name);
  });
});
