// Which end-to-end tests run in the lab. Node is some thirty times slower there than outside, so a file has to be worth it.
import { globSync } from 'node:fs';
import { join } from 'node:path';

const PROJECT = join(import.meta.dirname, '..', '..');

/** Files that stay out, each with its reason. A file that is not named here runs. */
const LEFT_OUT: Readonly<Record<string, string>> = {
  'attacks.test.ts': 'clients of the daemon, the same with any driver',
  'commit.test.ts': 'disks at rest and the agent, the same with any driver',
  'cp.test.ts': "the agent's files, the same with any driver",
  'exec-terminal.test.ts': "the agent's terminals, the same with any driver; parity has one",
  'extremes.test.ts': 'what the daemon refuses, the same with any driver',
  'faults.test.ts': 'faults around the daemon, the same with any driver',
  'folder.test.ts': 'manifests and objects, the same with any driver',
  'garbage.test.ts': 'what is left on the host without a VM, and minutes of daemons there',
  'guest-files.test.ts': 'the agent on a bare QEMU, without a driver',
  'guest-freeze.test.ts': 'the agent on a bare QEMU, without a driver',
  'guest-exec.test.ts': 'the agent on a bare QEMU, without a driver',
  'guest-kernel.test.ts': 'the guest kernel on a bare QEMU, without a driver',
  'guest-link.test.ts': 'the agent on a bare QEMU, without a driver',
  'host-paths.test.ts':
    'minutes of ways out; vmm-volumes.test.ts has directories of the host with each driver',
  'idle-timeout.test.ts': 'times of the daemon, the same with any driver',
  'images.test.ts': 'registries and disks, without a VM',
  'images-crash.test.ts': 'registries and disks, without a VM',
  'images-in-guests.test.ts': 'what images hold, the same with any driver',
  'interception.test.ts': 'what the gateway opens, the same with any driver; network.test.ts has the traffic',
  'kvm-verdict.test.ts': 'a device that is no KVM, where there is one',
  'leaks.test.ts': 'cycles of a daemon, too slow there; vmm-lifecycle has cycles of the driver',
  'monitoring.test.ts': 'figures against a clock, where time is emulated',
  'monitoring-alerts.test.ts': 'alerts of the daemon, without a VM',
  'monitoring-node-alerts.test.ts': 'alerts of a node, the same with any driver',
  'monitoring-truth.test.ts': 'figures with libkrun; not seen to pass here yet',
  'monitoring-host-alerts.test.ts': 'alerts of the daemon, without a VM',
  'monitoring-signals.test.ts': 'what the daemon tells of guests, the same with any driver',
  'network-bypass.test.ts':
    'what the gateway decides, the same with any driver; network.test.ts has the traffic',
  'network-many.test.ts': 'namespaces in place of VMs, without a driver',
  'patches.test.ts': "the agent's files, the same with any driver",
  'power-cuts.test.ts': 'minutes of daemons there; vmm-volumes has disks and kills of the driver',
  'probes.test.ts': 'times of the daemon; parity has a probe',
  'room.test.ts': 'what the daemon admits, the same with any driver',
  'sandbox-volumes.test.ts': 'minutes of daemons there; the mounts of volumes go through the same disks',
  'sdk.test.ts': 'clients of the daemon, the same with any driver',
  'sdk-docs.test.ts': 'clients of the daemon, the same with any driver',
  'sdk-embedded.test.ts': 'clients of the daemon, the same with any driver',
  'sdk-examples.test.ts': 'clients of the daemon, the same with any driver',
  'sdk-package.test.ts': 'a package, without a VM',
  'scale.test.ts': 'the store and the queue under load, the same with any driver',
  'store-disk-full.test.ts': 'the store, without a VM',
  'survival.test.ts':
    'minutes of daemons there; parity has one kill of each kind, vmm-kills those at random moments of a start',
  'volumes.test.ts': 'disks, without a VM',
  'vmm-warm.test.ts': 'snapshots, which libkrun does not have',
};

export interface LabPlan {
  /** Paths from the project's root. */
  files: string[];
  leftOut: { file: string; reason: string }[];
}

export function labPlan(): LabPlan {
  const plan: LabPlan = { files: [], leftOut: [] };
  for (const path of globSync('test/e2e/*.test.ts', { cwd: PROJECT }).toSorted()) {
    const file = path.slice('test/e2e/'.length);
    const reason = LEFT_OUT[file];
    if (reason === undefined) plan.files.push(path);
    else plan.leftOut.push({ file, reason });
  }
  return plan;
}
