// Every alert: when it fires, what it says, and what a person does then. Rules, the list in docs/monitoring.md and the
// runbook pages are generated from here.
import { SLOW_START_SECONDS } from './recording.ts';
import type { Times } from './times.ts';

export interface Alert {
  name: string;
  /** `critical`: wake somebody. `warning`: look at it today. */
  severity: 'critical' | 'warning';
  expr(times: Times): string;
  /** Minutes that the condition must hold. */
  forMinutes: number;
  summary: string;
  description: string;
  runbook: {
    /** What users notice, and why it matters. */
    meaning: string;
    /** Commands that show the cause. */
    diagnose: readonly string[];
    /** What to do, most likely cause first. */
    act: readonly string[];
  };
}

/** Identify one sandbox or volume. */
const OBJECT = 'namespace, name, node';
const THIS_SANDBOX = '{{ $labels.namespace }}/{{ $labels.name }} on {{ $labels.node }}';
/** A terminal failure has an alert of its own. */
const NOT_STALLED = `unless on (${OBJECT}) sandbox_status_condition{condition="Stalled",status="true"}`;

export const ALERTS: readonly Alert[] = [
  {
    name: 'BulkheadControllerDown',
    severity: 'critical',
    expr: () => 'up{job="bulkhead"} == 0 or absent(up{job="bulkhead"})',
    forMinutes: 2,
    summary: 'Bulkhead does not answer at /metrics.',
    description:
      'The daemon at {{ $labels.instance }} has not answered for 2 minutes. VMs go on without it; nothing is started, stopped or restarted.',
    runbook: {
      meaning:
        'The daemon is down, hangs, or cannot be reached from Prometheus. Running sandboxes are not touched: the next daemon finds them again.',
      diagnose: ['bulkhead status', 'systemctl status bulkhead', 'journalctl -u bulkhead -n 100'],
      act: [
        'Start the daemon again. Its last log lines say why it ended; a refused start says what to do.',
        'If it runs and answers on its socket, compare `--metrics-address` with what Prometheus scrapes.',
      ],
    },
  },
  {
    name: 'BulkheadNoLeader',
    severity: 'critical',
    expr: () => 'max by (name) (leader_election_master_status) == 0',
    forMinutes: 2,
    summary: 'No controller of the cluster leads.',
    description:
      'For 2 minutes no controller has held the lease {{ $labels.name }}: sandboxes that run go on, but none is placed on a node.',
    runbook: {
      meaning:
        'The controllers run and wait to lead. As a rule the API server refuses them the lease, or one that is gone still holds it, which ends by itself after 15 seconds.',
      diagnose: [
        'kubectl -n bulkhead-system get lease bulkhead-controller -o yaml',
        'kubectl -n bulkhead-system logs -l app.kubernetes.io/component=controller --tail=50',
      ],
      act: [
        'Mend what their log names: the API server, or their rights to leases in their namespace.',
        'Where a controller outside of this installation renews the lease, end it.',
      ],
    },
  },
  {
    name: 'BulkheadReconcileErrorBurst',
    severity: 'warning',
    expr: ({ minutes }) =>
      // Each attempt that fails comes with a dozen that look on and find nothing to do yet.
      'instance_controller:controller_runtime_reconcile_errors:ratio_rate5m > 0.05' +
      ` and sum by (instance, controller) (increase(controller_runtime_reconcile_errors_total[${minutes(5)}])) > 20`,
    forMinutes: 0,
    summary: 'Many reconciles fail.',
    description:
      'More than 20 reconciles of controller {{ $labels.controller }} failed in 5 minutes, {{ $value | humanizePercentage }} of all.',
    runbook: {
      meaning:
        'One cause usually stands behind many failures: a registry that does not answer, a full disk, a missing driver. Each failure is tried again with a growing pause.',
      diagnose: [
        'bulkhead events -A --types Warning',
        'bulkhead doctor',
        'journalctl -u bulkhead -p err -n 100',
      ],
      act: [
        'Mend what most of the events name; nothing has to be restarted afterwards.',
        'If `controller_runtime_reconcile_panics_total` grows, it is a defect: report it with the log.',
      ],
    },
  },
  {
    name: 'BulkheadQueueStuck',
    severity: 'critical',
    expr: ({ seconds }) => `workqueue_longest_running_processor_seconds > ${seconds(5)}`,
    forMinutes: 5,
    summary: 'A reconcile does not end.',
    description:
      'A key of queue {{ $labels.name }} has been worked on for {{ $value | humanizeDuration }}; its object is not looked after meanwhile.',
    runbook: {
      meaning:
        'Reconciles take milliseconds and are aborted after their time limit. One that goes on hangs in a call that cannot be aborted, as a rule on a disk that does not answer.',
      diagnose: [
        'journalctl -u bulkhead -n 200',
        'cat /proc/$(systemctl show -p MainPID --value bulkhead)/task/*/wchan',
        'dmesg | tail -50',
      ],
      act: [
        'Mend the disk or mount that hangs.',
        'Restart the daemon; VMs go on. If it happens again, report it with the log.',
      ],
    },
  },
  {
    name: 'BulkheadSandboxStuckStarting',
    severity: 'warning',
    expr: () => `sandbox_status_phase{phase=~"Pending|Starting"} ${NOT_STALLED}`,
    forMinutes: 10,
    summary: 'A sandbox has been starting for 10 minutes.',
    description: `Sandbox ${THIS_SANDBOX} has been {{ $labels.phase }} for 10 minutes.`,
    runbook: {
      meaning:
        'A start takes seconds, and the pull of a large image minutes. What takes longer waits for something: a registry, room on the disk, a Secret, or its back-off after failures.',
      diagnose: ['bulkhead describe sandbox NAME', 'bulkhead events sandbox NAME'],
      act: [
        'The condition Ready of the sandbox says what it waits for. ImageReady False: check the registry and its credentials.',
        'With the reason BackOff its work ends at once each time: see BulkheadSandboxRestartLoop.',
      ],
    },
  },
  {
    name: 'BulkheadSandboxStalled',
    severity: 'warning',
    expr: () => 'sandbox_status_condition{condition="Stalled",status="true"}',
    forMinutes: 5,
    summary: 'A sandbox cannot go on by itself.',
    description: `Sandbox ${THIS_SANDBOX} has a failure that only a change of its spec or its image mends.`,
    runbook: {
      meaning:
        'The image does not exist or is invalid, the spec asks for what cannot be given, or the work failed and is not to be restarted.',
      diagnose: ['bulkhead describe sandbox NAME', 'bulkhead logs NAME'],
      act: ['Correct what the condition Stalled names, or delete the sandbox.'],
    },
  },
  {
    name: 'BulkheadSandboxRestartLoop',
    severity: 'warning',
    expr: ({ minutes }) => `increase(sandbox_restarts_total[${minutes(30)}]) > 2`,
    forMinutes: 0,
    summary: 'A sandbox restarts again and again.',
    description: `Sandbox ${THIS_SANDBOX} was restarted {{ $value | humanize }} times in 30 minutes.`,
    runbook: {
      meaning:
        'The main process or the VM ends soon after each start; the pause between starts grows to 5 minutes.',
      diagnose: [
        'bulkhead logs NAME --previous',
        'bulkhead get sandbox NAME -o jsonpath={.status.lastTermination}',
      ],
      act: [
        'Exit code above 0: the work itself fails, its log says why.',
        'OOMKilled: give it more memory (spec.resources.memory).',
        'VmCrashed: the message has the last line of the guest; report it with the console log.',
      ],
    },
  },
  {
    name: 'BulkheadSandboxAgentUnreachable',
    severity: 'warning',
    expr: () =>
      `sandbox_status_condition{condition="AgentConnected",status="false"} and on (${OBJECT}) sandbox_status_phase{phase="Running"}`,
    forMinutes: 5,
    summary: 'The guest of a sandbox does not answer.',
    description: `The VM of sandbox ${THIS_SANDBOX} runs, but its agent has not answered for 5 minutes: exec, files and probes do not work.`,
    runbook: {
      meaning: 'The guest hangs, is starved of CPU, or is paused. Work in it may or may not go on.',
      diagnose: ['bulkhead describe sandbox NAME', 'bulkhead top NAME', 'bulkhead events sandbox NAME'],
      act: [
        'A CPU use of 0 in `bulkhead top`: the VMM is paused. With the reason DiskFull, make room on the host.',
        'A full CPU: the guest is busy to the point of silence, or hangs in its kernel. `bulkhead restart NAME` boots it anew on the same disk.',
      ],
    },
  },
  {
    name: 'BulkheadSandboxMemoryNearlyFull',
    severity: 'warning',
    expr: () =>
      'sandbox_memory_guest_available_bytes / (sandbox_memory_guest_used_bytes + sandbox_memory_guest_available_bytes) < 0.05',
    forMinutes: 5,
    summary: 'A guest has almost no memory left.',
    description: `Work in sandbox ${THIS_SANDBOX} can get {{ $value | humanizePercentage }} of its memory only, as its guest says.`,
    runbook: {
      meaning: 'The guest is about to kill processes for want of memory, and is slow already.',
      diagnose: ['bulkhead top NAME', 'bulkhead exec NAME -- top -b -n 1'],
      act: ['Raise spec.resources.memory and restart the sandbox, or end what uses the memory.'],
    },
  },
  {
    name: 'BulkheadSandboxDiskNearlyFull',
    severity: 'warning',
    expr: () => 'sandbox_fs_guest_used_bytes / sandbox_fs_guest_limit_bytes > 0.9',
    forMinutes: 5,
    summary: 'The root disk of a guest is nearly full.',
    description: `The root file system of sandbox ${THIS_SANDBOX} is {{ $value | humanizePercentage }} full, as its guest says.`,
    runbook: {
      meaning: 'Work in the guest soon fails with "No space left on device".',
      diagnose: ['bulkhead exec NAME -- df -h /', 'bulkhead exec NAME -- du -xsh /var /tmp /root'],
      act: ['Remove files in it, or raise spec.resources.disk and restart the sandbox: the disk grows.'],
    },
  },
  {
    name: 'BulkheadStartLatencySLOBurn',
    severity: 'critical',
    expr: ({ minutes }) =>
      'job:sandbox_starts_slow:ratio_5m > 0.144 and job:sandbox_starts_slow:ratio_1h > 0.144' +
      ` and sum(increase(sandbox_start_duration_seconds_count{stage="total"}[${minutes(60)}])) >= 10`,
    forMinutes: 0,
    summary: 'Too many starts are slow.',
    description: `{{ $value | humanizePercentage }} of the starts take longer than ${SLOW_START_SECONDS} s: 14 times what the objective of 99 % allows.`,
    runbook: {
      meaning: `Users wait for sandboxes. The objective is that 99 % of the starts take at most ${SLOW_START_SECONDS} s, the pull of the image included.`,
      diagnose: ['bulkhead status', 'bulkhead describe sandbox NAME'],
      act: [
        'The panel "Start by stage" of the board Fleet, or the table Start of `describe`, tells which stage is slow.',
        'image: the registry or the network. queue: too many starts at once. kernel, connect: the node has too little CPU.',
      ],
    },
  },
  {
    name: 'BulkheadNodeOutOfCapacity',
    severity: 'warning',
    expr: () => 'instance:node_sandbox_memory:allocated_ratio > 0.9',
    forMinutes: 5,
    summary: 'The memory of a node is nearly given away.',
    description:
      'Sandboxes that run at {{ $labels.instance }} were given {{ $value | humanizePercentage }} of the memory that it may give.',
    runbook: {
      meaning:
        'What does not fit any more waits with the reason InsufficientMemory. What may be given is the memory of the host times `--memory-overcommit`: guests use theirs only as they need it.',
      diagnose: ['bulkhead status', 'bulkhead top -A --sort memory'],
      act: [
        'Suspend or delete sandboxes that nobody needs, give others less memory, or run some elsewhere.',
        "Where they use little of the host's memory, as the first lines of `bulkhead status` say, raise `--memory-overcommit`. Set too high, the host kills VMs for want of memory.",
      ],
    },
  },
  {
    name: 'BulkheadNodeStorageNearlyFull',
    severity: 'critical',
    expr: () => 'node_sandbox_storage_available_bytes / node_sandbox_storage_size_bytes < 0.1',
    forMinutes: 5,
    summary: 'A file system of the daemon is nearly full.',
    description:
      'The file system of {{ $labels.store }} at {{ $labels.instance }} has {{ $value | humanizePercentage }} left.',
    runbook: {
      meaning:
        'Disks of guests grow as they are written. When the file system is full, VMs pause in the middle of a write (nothing is lost) and nothing new starts.',
      diagnose: ['df -h', 'bulkhead image ls', 'bulkhead volume ls'],
      act: [
        'Remove images that nothing uses: `bulkhead image prune`.',
        'Remove volumes that were kept without an object, and sandboxes that nobody needs.',
        'Make the file system larger; paused VMs go on by themselves.',
      ],
    },
  },
  {
    name: 'BulkheadVmsStalled',
    severity: 'critical',
    expr: () => 'sandbox_vms_stalled > 0',
    forMinutes: 1,
    summary: 'VMs stand still because of the host.',
    description: '{{ $value }} VMs at {{ $labels.instance }} are paused for the reason {{ $labels.reason }}.',
    runbook: {
      meaning:
        'DiskFull: the host has no room for what guests write. They are paused in the write, and lose nothing.',
      diagnose: ['bulkhead status', 'df -h'],
      act: ['Make room on the file system that the sandboxes name; the VMs go on by themselves.'],
    },
  },
  {
    name: 'BulkheadVmmOrphaned',
    severity: 'warning',
    expr: () => 'shim_orphans > 0',
    forMinutes: 10,
    summary: 'Remains of deleted VMs cannot be removed.',
    description:
      '{{ $value }} directories of VMs without an object at {{ $labels.instance }} could not be cleaned up.',
    runbook: {
      meaning:
        'Something of a sandbox that has no object is left on the host, perhaps its VM too. It takes memory or disk, and nobody sees it in `get`.',
      diagnose: ['journalctl -u bulkhead | grep "clean-up after a sandbox that has no object failed"'],
      act: [
        'The log names the directory and why it cannot be removed: an immutable file, a mount, a disk that fails. Mend that; the sweep of every 5 minutes does the rest.',
      ],
    },
  },
  {
    name: 'BulkheadVolumeNearlyFull',
    severity: 'warning',
    expr: () => 'volume_used_bytes / (volume_used_bytes + volume_available_bytes) > 0.9',
    forMinutes: 5,
    summary: 'A volume is nearly full.',
    description: `Volume ${THIS_SANDBOX} is {{ $value | humanizePercentage }} full, as measured when no sandbox last wrote to it.`,
    runbook: {
      meaning: 'Writes to the volume soon fail with "No space left on device".',
      diagnose: ['bulkhead describe volume NAME', 'bulkhead volume ls'],
      act: ['Raise spec.capacity: the disk grows when no sandbox has it. Or remove files.'],
    },
  },
  {
    name: 'BulkheadVolumeDamaged',
    severity: 'critical',
    expr: ({ minutes }) => `increase(volume_checks_total{result="Damaged"}[${minutes(60)}]) > 0`,
    forMinutes: 0,
    summary: 'The file system of a volume is damaged.',
    description:
      'An integrity check at {{ $labels.instance }} found a volume that it could not put in order.',
    runbook: {
      meaning: 'The volume is not given to any sandbox, so that nothing makes it worse.',
      diagnose: ['bulkhead get volumes -A', 'bulkhead describe volume NAME', 'dmesg | tail -50'],
      act: [
        'Restore the volume from a backup: `bulkhead volume import --overwrite`.',
        "Look for errors of the host's disk; damage rarely comes alone.",
      ],
    },
  },
  {
    name: 'BulkheadGatewayDown',
    severity: 'critical',
    expr: () => 'gateway_up == 0',
    forMinutes: 2,
    summary: 'No gateway serves the networks of the sandboxes.',
    description:
      'For 2 minutes no gateway has served on {{ $labels.instance }}: the networks of all its sandboxes are closed.',
    runbook: {
      meaning:
        'Nothing reaches a sandbox and nothing leaves one; the sandboxes themselves go on. The daemon tries again by itself.',
      diagnose: ['bulkhead doctor', 'cat STATE_DIR/network/gateway.log', 'journalctl -u bulkhead'],
      act: [
        'Mend what doctor names; nftables with TPROXY (nft_tproxy) and libnftables are needed.',
        'A gateway that ends again and again is a defect: its log has the reason.',
      ],
    },
  },
  {
    name: 'BulkheadEgressDeniedSpike',
    severity: 'warning',
    expr: ({ minutes }) => `rate(sandbox_egress_denied_total[${minutes(5)}]) > 5`,
    forMinutes: 5,
    summary: 'A sandbox tries again and again to reach what its policies refuse.',
    description: `More than 5 connections or questions a second of ${THIS_SANDBOX} were refused for 5 minutes.`,
    runbook: {
      meaning: 'Its work lacks something that a policy closes, or it looks for a way out.',
      diagnose: ['bulkhead network log NAME --denied', 'bulkhead describe sandbox NAME'],
      act: [
        'Allow what the work is meant to reach, in a NetworkPolicy that selects it.',
        'Where nobody knows what it looks for, suspend it: `bulkhead suspend NAME` keeps its disk.',
      ],
    },
  },
  {
    name: 'BulkheadSourceSyncFailing',
    severity: 'warning',
    expr: ({ minutes }) =>
      `source_invalid_documents > 0 or sum by (instance) (rate(source_sync_total{result="error"}[${minutes(15)}])) > 0`,
    forMinutes: 10,
    summary: 'The folder of manifests is not in force.',
    description:
      'For 10 minutes documents in the folder of {{ $labels.instance }} could not be applied, or the folder could not be read.',
    runbook: {
      meaning:
        'What the folder says is not what runs. The last good versions stay in force, and nothing is deleted meanwhile.',
      diagnose: ['bulkhead doctor', 'bulkhead events -A --types Warning', 'bulkhead validate -f FOLDER'],
      act: ['Mend what the events name by file, line and column; the folder is read again by itself.'],
    },
  },
];

/** Alerts that operators of clusters know, and why they are not here. */
export const LEFT_OUT: Readonly<Record<string, string>> = {
  NodeAgentDown:
    'agents and controllers have one job, whose instances tell them apart: BulkheadControllerDown',
  WarmPoolExhausted: 'there are no warm pools',
};
