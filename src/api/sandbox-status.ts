// Status of a Sandbox: written by its reconciler alone, from what it observes.
import { Type } from 'typebox';
import {
  choice,
  conditionList,
  INT32_MAX,
  integer,
  keyedList,
  list,
  object,
  observedGeneration,
  SAFE_INTEGER_MAX,
  text,
  time,
} from './schema.ts';

/** One word for people, derived from the conditions. */
export const SANDBOX_PHASES = [
  'Pending',
  'Starting',
  'Running',
  'Suspended',
  'Stopping',
  'Succeeded',
  'Failed',
  'Unknown',
] as const;

/** Longest value of the annotation that is echoed; longer ones are cut. */
export const HANDLED_RECONCILE_MAX = 1024;

/** A start has about ten. */
export const START_STAGES_MAX = 16;

const count = (description: string) => integer({ description, minimum: 0, maximum: SAFE_INTEGER_MAX });

const ImageStatusSchema = object(
  {
    reference: Type.Optional(text({ description: 'Reference that was resolved.', maxLength: 1024 })),
    digest: Type.Optional(text({ description: 'Manifest digest that runs.', maxLength: 256 })),
    sizeBytes: Type.Optional(count('Size of the image disk.')),
  },
  { description: 'The image in use.' },
);

const VmStatusSchema = object(
  {
    driver: Type.Optional(choice(['libkrun', 'software'], { description: 'Driver that was picked.' })),
    reason: Type.Optional(text({ description: 'Why it was picked.', maxLength: 1024 })),
    pid: Type.Optional(
      integer({ description: 'Process id of the VMM on its node.', minimum: 1, maximum: INT32_MAX }),
    ),
    startedAt: Type.Optional(time('When this VM was started.')),
    bootMilliseconds: Type.Optional(count('From the start of the VMM to a guest that answers.')),
    startStages: Type.Optional(
      keyedList(
        ['name'],
        object(
          {
            name: text({ description: 'Stage, such as image, kernel or connect.', maxLength: 63 }),
            milliseconds: count('How long it took.'),
          },
          { description: 'One stage of the start.' },
        ),
        {
          description: 'Stages of the start in their order; they follow one another.',
          maxItems: START_STAGES_MAX,
        },
      ),
    ),
  },
  { description: 'The running VM; absent when there is none.' },
);

const NetworkStatusSchema = object(
  {
    address: Type.Optional(text({ description: 'Address of the guest.', maxLength: 45 })),
    ports: Type.Optional(
      keyedList(
        ['name'],
        object(
          {
            name: text({ description: 'Name of the entry in spec.ports.', maxLength: 63 }),
            hostIP: text({ description: 'Address of the host that listens.', maxLength: 45 }),
            hostPort: integer({ description: 'Port of the host.', minimum: 1, maximum: 65535 }),
          },
          { description: 'One published port.' },
        ),
        { description: 'Ports as they are published.', maxItems: 64 },
      ),
    ),
    policies: Type.Optional(
      list(text({ description: 'namespace/name of a NetworkPolicy.', maxLength: 320 }), {
        description: 'NetworkPolicies that select this sandbox.',
        maxItems: 64,
      }),
    ),
    policiesDigest: Type.Optional(
      text({
        description: 'In a cluster: which states of them are in force, for who counts where each is.',
        maxLength: 64,
      }),
    ),
  },
  { description: 'The network as it is.' },
);

const LastTerminationSchema = object(
  {
    exitCode: Type.Optional(
      integer({ description: 'Exit code, 128 + N for signal N.', minimum: -1, maximum: INT32_MAX }),
    ),
    signal: Type.Optional(
      text({ description: 'Signal that ended it, such as SIGKILL; empty for none.', maxLength: 32 }),
    ),
    reason: text({ description: 'CamelCase word for programs.', maxLength: 128 }),
    message: Type.Optional(text({ description: 'Sentence for people.', maxLength: 4096 })),
    startedAt: Type.Optional(time('When what ended had started.')),
    finishedAt: Type.Optional(time('When it ended.')),
  },
  { description: 'How the main process or the VM last ended.' },
);

export const SandboxStatusSchema = object(
  {
    observedGeneration: Type.Optional(observedGeneration()),
    phase: Type.Optional(
      choice(SANDBOX_PHASES, { description: 'Summary for people; programs read the conditions.' }),
    ),
    conditions: Type.Optional(conditionList('What is observed of this sandbox.')),
    nodeName: Type.Optional(text({ description: 'Node that runs it.', maxLength: 253 })),
    reservation: Type.Optional(
      text({
        description: 'Pod that holds its place on the node, in a cluster.',
        maxLength: 253,
      }),
    ),
    startTime: Type.Optional(
      time('When it first ran in this operating period; activeDeadlineSeconds counts from here.'),
    ),
    image: Type.Optional(ImageStatusSchema),
    vm: Type.Optional(VmStatusSchema),
    network: Type.Optional(NetworkStatusSchema),
    restarts: Type.Optional(
      integer({
        description: 'Restarts of the main process or the VM since creation or the last resume.',
        minimum: 0,
        maximum: INT32_MAX,
      }),
    ),
    lastTermination: Type.Optional(LastTerminationSchema),
    lastHandledReconcileAt: Type.Optional(
      text({
        description: 'Value of the annotation bulkhead.dev/requestedAt that was last acted on.',
        maxLength: HANDLED_RECONCILE_MAX,
      }),
    ),
  },
  { description: 'What is observed. Written by the controller.' },
);
