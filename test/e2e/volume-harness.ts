// What tests of volumes need: manifests, statuses, and ends as in a power cut.
import assert from 'node:assert/strict';
import { sandboxYaml, type TestDaemon } from './daemon-harness.ts';
import { eventually } from './daemon-observations.ts';

const SLEEP = { command: ['sleep', 'infinity'] };

export interface VolumeStatus {
  phase: string;
  capacity?: string;
  usedBytes?: number;
  availableBytes?: number;
  mountedBy?: string[];
  conditions: { type: string; status: string; reason: string; message: string }[];
}

export interface VolumeView {
  metadata: { uid: string };
  status: VolumeStatus;
}

/** A Volume document that goes with its disk, unless `spec` says otherwise. */
export function volumeYaml(name: string, spec: Record<string, unknown> = {}): string {
  const head = { apiVersion: 'bulkhead.dev/v1alpha1', kind: 'Volume', metadata: { name } };
  return `${JSON.stringify({ ...head, spec: { capacity: '64Mi', reclaimPolicy: 'Delete', ...spec } })}\n`;
}

/** A sandbox with Volumes of these names, each mounted at /NAME. */
export function withVolumes(
  name: string,
  volumes: readonly string[],
  spec: Record<string, unknown> = {},
): string {
  return sandboxYaml(name, {
    main: SLEEP,
    volumes: volumes.map((each) => ({ name: each, volume: { name: each } })),
    volumeMounts: volumes.map((each) => ({ name: each, mountPath: `/${each}` })),
    ...spec,
  });
}

export async function volumeOf(daemon: TestDaemon, name: string): Promise<VolumeView> {
  return JSON.parse(await daemon.ok('get', 'volume', name, '-o', 'json')) as VolumeView;
}

/** The first status of a volume that `holds`. */
export async function untilVolume(
  daemon: TestDaemon,
  name: string,
  holds: (status: VolumeStatus) => boolean,
): Promise<VolumeStatus> {
  let last = '';
  return eventually(
    `the status of volume ${name} that ${holds}`,
    async () => {
      const { status } = await volumeOf(daemon, name);
      last = JSON.stringify(status);
      return holds(status) ? status : undefined;
    },
    () => `${last}\n--- daemon log\n${daemon.log().slice(-3000)}`,
  );
}

/** Ends the VMM of a sandbox as in a power cut. */
export async function cutPower(daemon: TestDaemon, name: string): Promise<void> {
  const { vm } = (await daemon.get(name)).status;
  assert.ok(vm !== undefined, `${name} has no VM`);
  process.kill(vm.pid, 'SIGKILL');
}
