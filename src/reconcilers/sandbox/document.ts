// Writes docs/sandbox-lifecycle.md: the diagram is the machine itself, so that it cannot be out of date.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { AnyStateNode } from 'xstate';

import {
  AFTER_PRE_STOP_MS,
  AGENT_SILENCE_MS,
  BOOT_DEADLINE_MS,
  FINALIZER,
  FROZEN_AFTER_MS,
  RESTART_BACKOFF_BASE_MS,
  RESTART_BACKOFF_MAX_MS,
  RESTART_BACKOFF_RESET_MS,
  RESTARTED_AT_ANNOTATION,
  STOP_MARGIN_MS,
} from './limits.ts';
import { sandboxMachine } from './machine.ts';

const { root } = sandboxMachine;

/** A state's name in the diagram: its path without the machine's own name. */
function nameOf({ path }: AnyStateNode): string {
  return path.join('_');
}

function arrows(node: AnyStateNode): string[] {
  const transitions = [...node.transitions.values()].flat().concat(node.always ?? []);
  const lines = transitions.flatMap(({ target, guard }) =>
    (target ?? [])
      .filter((each) => each !== node)
      .map((each) => `  ${nameOf(node)} --> ${nameOf(each)}${typeof guard === 'string' ? `: ${guard}` : ''}`),
  );
  // One arrow for each pair of states that differs only in its guard reads better than two.
  return [...new Set(lines)];
}

/** The top states and the ways between them, as a Mermaid diagram. */
function overview(): string {
  const states = Object.values(root.states) as AnyStateNode[];
  const deletion = 'object is deleted';
  const lines = states.flatMap((state) => {
    const inner = descendants(state).flatMap(arrows);
    const leaving = inner
      .map((line) => line.replace(/^ {2}\S+ --> /, ''))
      .filter((rest) => states.some((each) => each !== state && rest.split(':')[0] === nameOf(each)))
      .map((rest) => `  ${nameOf(state)} --> ${rest}`);
    return [...new Set([...arrows(state), ...leaving])].filter((line) => !line.endsWith(deletion));
  });
  return ['stateDiagram-v2', '  [*] --> Pending', ...lines, '  Gone --> [*]'].join('\n');
}

/** A state with its inner states. */
function detail(state: AnyStateNode): string {
  const inside = descendants(state);
  const lines = inside.flatMap((node) =>
    arrows(node).filter((line) => inside.some((each) => line.split(':')[0]?.endsWith(` ${nameOf(each)}`))),
  );
  const entries = inside.flatMap((node) =>
    commandsOf(node).map((command) => `  ${nameOf(node)}: ${node.key} / ${command}`),
  );
  const plain = inside
    .filter((node) => commandsOf(node).length === 0 && node.type !== 'compound')
    .map((node) => `  ${nameOf(node)}: ${node.key}`);
  return ['stateDiagram-v2', ...plain, ...entries, ...lines].join('\n');
}

function descendants(node: AnyStateNode): AnyStateNode[] {
  const children = Object.values(node.states) as AnyStateNode[];
  return children.flatMap((child) => [child, ...descendants(child)]);
}

function commandsOf(node: AnyStateNode): string[] {
  return node.entry.map((action) => (typeof action === 'string' ? action : '')).filter((name) => name !== '');
}

function table(): string {
  const rows = (Object.values(root.states) as AnyStateNode[]).map((state) => {
    const commands = commandsOf(state).map((name) => `\`${name}\``);
    return `| ${state.key} | ${state.description ?? ''} | ${commands.join(', ')} |`;
  });
  return ['| State | Meaning | Commands on entry |', '|---|---|---|', ...rows].join('\n');
}

const seconds = (ms: number): string => `${ms / 1_000} s`;
const fence = (text: string): string => `\`\`\`mermaid\n${text}\n\`\`\``;
const inner = (['Preparing', 'Starting', 'Running', 'Deleting'] as const).map(
  (key) => `### ${key}\n\n${fence(detail(root.states[key] as AnyStateNode))}`,
);

const text = `# The life of a Sandbox

<!-- Generated from src/reconcilers/sandbox/machine.ts by tools/generate.sh. Do not edit. -->

A sandbox's state is never stored. Each time it is looked at, its state is derived from what is observed: the object, the
host's record of its runs (\`run.json\` in its directory), whether a VM is alive, whether its agent answers, what the guest
says of itself. The machine then takes one step, and its commands are carried out. So it does not matter when the daemon
is killed: the next one derives the same state and goes on. Running VMs do not notice.

${table()}

From every state but Gone, deletion of the object leads to Deleting; those arrows are left out.

${fence(overview())}

${inner.join('\n\n')}

## Rules

- The finalizer \`${FINALIZER}\` is on before the first effect outside the store. It comes off when the VM is gone and its
  directory, image lease and host resources are given back.
- Without \`main\` the VM idles and serves exec. With \`main\` the process is the work: it ends, the VM is stopped, and its exit
  code is in \`status.lastTermination\`. A command that cannot be started ends the run with 126 or 127.
- A run that ends badly (a failed main process or probe, a crashed VM, a guest that is not up within ${seconds(BOOT_DEADLINE_MS)}) is followed by
  another as \`restartPolicy\` says, after ${seconds(RESTART_BACKOFF_BASE_MS)}, then twice as long each time up to ${seconds(RESTART_BACKOFF_MAX_MS)}; a run of ${seconds(RESTART_BACKOFF_RESET_MS)} or more starts
  the row again. Every run boots a fresh kernel on the same disks.
- Probes have a Pod's fields, defaults and meanings. They run in the guest through its agent, HTTP and TCP too (to the guest's own
  address, as published ports do), so that neither a network policy nor the gateway has a part in them; a server that listens on
  127.0.0.1 alone is not reached. Ports are numbers, and there is no probe of gRPC. They begin when \`postStart\` is over, and change with the spec at once. While \`startupProbe\` or
  \`readinessProbe\` has not succeeded the sandbox is not Ready, and published ports stay as they are. A \`livenessProbe\` or
  \`startupProbe\` that fails stops the VM (\`LivenessProbeFailed\`, \`StartupProbeFailed\`), which counts as a run that ended badly,
  whatever the main process then says. A guest that does not answer at all fails; one that the host holds (\`DiskFull\`) does not.
  The first failure of a row is the event \`Unhealthy\`. Probes are no use of a sandbox for \`idleTimeoutSeconds\`. After a restart of the
  daemon they go on, spread over their period, with the readiness that the status tells of; what was counted is counted anew.
- \`lifecycle.postStart\` runs beside the main process, once for each run; its failure ends the run (\`PostStartHookFailed\`).
  \`lifecycle.preStop\` comes before every stop but that after the end of the main process, and is part of the grace period; where it takes all of
  it, ${seconds(AFTER_PRE_STOP_MS)} are left to the guest. Hooks may run twice where the daemon is killed just as they end.
- \`operatingMode: Suspended\` stops the VM and keeps the disks. \`Running\` goes on with them, with restarts and active time at zero.
- A new value of the annotation \`${RESTARTED_AT_ANNOTATION}\` restarts once, without waiting; also a sandbox that is finished.
- A stop sends the main process \`lifecycle.stopSignal\`, else the image's, else SIGTERM, and gives the guest \`terminationGracePeriodSeconds\`, and ${seconds(STOP_MARGIN_MS)} more to unmount and power off; then the VM is killed.
- \`activeDeadlineSeconds\` counts from \`status.startTime\`, over restarts by policy. Deadlines are measured with a clock that does not
  jump, from times that were recorded: neither a restart of the daemon nor a change of the host's clock moves them.
  \`shutdownTime\` alone follows the host's clock.
- \`idleTimeoutSeconds\` counts while nobody has an exec, a terminal or a connection to a port open (those to published ports are looked at
  every 5 s) and no main process runs, over restarts of the daemon. A guest that does not answer (for ${seconds(FROZEN_AFTER_MS)} at least) is used by nobody, whoever waits for it; one that
  the host holds (\`DiskFull\`) is not to blame.
- A change of \`env\`, \`main\`, \`workingDir\`, \`hostname\` or \`resources\` applies at the next start; until then the condition
  \`RestartRequired\` says so, with what of \`resources\` the VM keeps: neither driver changes the processors or the memory of a VM that runs.
  What its guest has used and freed, a VM of libkrun gives back to the host; one of the software driver keeps it until it ends.
- A change of \`image\`, \`driver\`, \`user\`, \`patches\` or to a smaller disk is taken with \`updateStrategy: Recreate\` alone. It stops the VM
  (\`Recreating\`), and the next run, without back-off, has a new root file system from the image as the registry has it then; volumes
  stay. A sandbox that is finished runs again; one that is suspended gets the new root when it goes on. The old root goes at the last
  moment before the new run starts: until then, taking the change back keeps it. A VM that runs is not stopped for a spec
  that this host cannot meet.
- \`patches\` change the root file system once, in their order, before the main process first runs. The guest's agent makes them, so
  that no path and no link leads out of the VM. A start that is cut short goes on with the first that is not
  yet on the disk; when all are, they are never made again. One that cannot be made ends the run with \`BootFailed\` and is named. Lines that are
  appended to \`/etc/hosts\` are part of that file at each start; the other files that the agent writes itself (\`/etc/hostname\`,
  \`/etc/resolv.conf\`) are not for patches. What the image has at a path is replaced only with \`replace: true\`; what an earlier patch
  made there is not the image's.
- A patch of the kind \`copy\` takes a file or folder from beside the manifest, with permission bits and links, for root: at most
  32 MiB in 2,000 files, folders and links. Links on the way to it are not followed, and what a link in it leads to is not copied. Folder,
  \`bulkhead apply\` and SDK read it and write its digest into the patch; a change of the files is a change of the patch. Files named
  \`*.yaml\` and \`*.json\` in the watched folder are manifests: copy them from a folder whose name begins with a dot.
- \`bulkhead commit SANDBOX IMAGE\` makes an image of what its guest sees of the root file system: the image below, its own changes
  above, with removals, renames, owners, attributes and links. Volumes are not part of it, and the configuration is the image's. A guest
  that runs stands still while its disk is copied (at once where the file system shares blocks); after a minute it goes on by itself,
  whatever became of the daemon, and the commit fails. The result is an image like any other: it can be run, saved and committed again.
- What does not fit on the host waits, and starts by itself when there is room; until then condition \`Scheduled\` is False with
  \`InsufficientMemory\` or \`InsufficientDisk\`. Memory of all that run, start or back off counts up to \`bulkhead daemon --memory-overcommit\` (2)
  times the host's, and what a start asks for, divided by that, has to be free then. Disks are sparse: nothing starts when less than
  \`--min-free-disk\` (1Gi, at most a twentieth of the disk) would be free, and no image is fetched below twice of it, so that who runs
  already goes short last. It is looked at when a sandbox ends, and every 10 s.
- A Secret or ConfigMap that does not exist yet holds a start back (\`ReferenceNotFound\`); the sandbox goes on when it appears.
- An agent that is silent for ${seconds(AGENT_SILENCE_MS)} costs the sandbox its \`Ready\`, until it answers again.
- \`Suspended\` and \`Succeeded\` sandboxes are not Ready, since nothing can run in them, and not Reconciling either. Wait for them
  with \`--for=condition=Suspended\` or \`--for=condition=Finished\`.
`;

writeFileSync(join(import.meta.dirname, '..', '..', '..', 'docs', 'sandbox-lifecycle.md'), text);
