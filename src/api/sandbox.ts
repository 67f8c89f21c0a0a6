// The Sandbox kind: one untrusted program, or an idle machine to run programs in, inside a microVM of its own.
import { type Static, Type } from 'typebox';
import type { StoredObject } from './meta.ts';
import { PatchesSchema, SandboxVolumesSchema, VolumeMountsSchema } from './sandbox-files.ts';
import {
  LifecycleSchema,
  LivenessProbeSchema,
  ReadinessProbeSchema,
  StartupProbeSchema,
} from './sandbox-probes.ts';
import { SchedulingSchema } from './sandbox-scheduling.ts';
import { SandboxStatusSchema } from './sandbox-status.ts';
import {
  absolutePath,
  type CelRule,
  choice,
  DNS_LABEL,
  DNS_LABEL_MAX,
  exactlyOneOf,
  INT32_MAX,
  integer,
  itemName,
  keyedList,
  keyReference,
  list,
  object,
  objectName,
  set,
  size,
  text,
} from './schema.ts';

/** Repository (255 in the registries' own bound), tag (128) and digest (up to 135), with their separators. */
const IMAGE_REFERENCE_MAX = 520;
/** The kernel takes 128 KiB for one argument or variable; the object itself must stay below 1.5 MiB. */
const ARGUMENT_MAX = 32768;
const ARGUMENTS_MAX = 256;
const ENV_MAX = 256;
const PORTS_MAX = 64;
const SECRETS_MAX = 32;
const ALLOW_HOSTS_MAX = 64;
/** A stop that takes longer than a day is a stop that hangs. */
const GRACE_SECONDS_MAX = 86_400;
const LEAP_YEAR = '([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)';
const DAY =
  '((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))';
/**
 * RFC 3339, with days that there are. Not the format `date-time`: there Kubernetes takes a list for a time, lower case, any
 * character before a fraction and zones of 99 hours.
 */
export const RFC_3339 = `^([0-9]{4}-${DAY}|${LEAP_YEAR}-02-29)T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`;
const VARIABLE_NAME = '^[A-Za-z_][A-Za-z0-9_.-]*$';
/** A host name in lower or upper case, optionally with `*.` before it for all names below. */
const HOST_PATTERN =
  '^(\\*\\.)?[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*$';

function variableName(description: string) {
  return text({
    description,
    minLength: 1,
    maxLength: 256,
    pattern: VARIABLE_NAME,
    expected: 'a variable name of letters, digits, "_", "." and "-" that does not begin with a digit',
  });
}

const argument = text({
  description: 'One argument.',
  maxLength: ARGUMENT_MAX,
  pattern: '^[^\\x00]*$',
  expected: `a string of at most ${ARGUMENT_MAX} characters, without NUL`,
});

const ResourcesSchema = object(
  {
    cpus: Type.Optional(integer({ description: 'Virtual CPUs.', default: 1, minimum: 1, maximum: 32 })),
    memory: Type.Optional(
      size({
        description: 'Memory of the guest.',
        default: '512Mi',
        minimum: '64Mi',
        maximum: '1Ti',
        of: 'memory',
      }),
    ),
    disk: Type.Optional(
      size({
        description:
          'Writable space over the image, a hard limit. Takes space on the host only as it is written. Never shrinks.',
        default: '4Gi',
        minimum: '64Mi',
        maximum: '16Ti',
        of: 'disk',
      }),
    ),
  },
  { description: 'Size of the machine.', default: {} },
);

const MainSchema = object(
  {
    command: Type.Optional(
      list(argument, {
        description: "Program and first arguments, without a shell. Default: the image's ENTRYPOINT.",
        maxItems: ARGUMENTS_MAX,
      }),
    ),
    args: Type.Optional(
      list(argument, {
        description: "Arguments after command. Default: the image's CMD, unless command is set.",
        maxItems: ARGUMENTS_MAX,
      }),
    ),
  },
  {
    description:
      'The process that is the work of this sandbox: it ends, the sandbox ends. Absent: the VM idles and serves exec. Empty ({}): what the image says.',
  },
);

const EnvSchema = keyedList(
  ['name'],
  object(
    {
      name: variableName('Name of the variable.'),
      value: Type.Optional(
        text({
          description: 'Its value, taken as it is.',
          maxLength: ARGUMENT_MAX,
          pattern: '^[^\\x00]*$',
          expected: `a string of at most ${ARGUMENT_MAX} characters, without NUL`,
        }),
      ),
      valueFrom: Type.Optional(
        object(
          {
            secretKeyRef: Type.Optional(keyReference('A key of a Secret.', 'Secret')),
            configMapKeyRef: Type.Optional(keyReference('A key of a ConfigMap.', 'ConfigMap')),
          },
          {
            description: 'Where the value is read from, at each start.',
            rules: [exactlyOneOf(['secretKeyRef', 'configMapKeyRef'], 'valueFrom')],
          },
        ),
      ),
    },
    {
      description: 'One variable. Without value and valueFrom it is empty.',
      rules: [
        {
          rule: '!(has(self.value) && has(self.valueFrom))',
          message: 'env must not have both value and valueFrom; remove one of them',
        },
      ],
    },
  ),
  {
    description: "Environment of the main process and of exec, over the image's own. Each name once.",
    maxItems: ENV_MAX,
  },
);

const PortsSchema = keyedList(
  ['name'],
  object(
    {
      name: itemName('Name of the port.'),
      port: integer({ description: 'Port in the guest.', minimum: 1, maximum: 65535 }),
      hostPort: Type.Optional(
        integer({
          description: 'Port on the host. Default: a free one, said in status.network.ports.',
          minimum: 1,
          maximum: 65535,
        }),
      ),
      hostIP: Type.Optional(
        text({
          description: 'Address of the host to listen on. The default is reachable from this host alone.',
          default: '127.0.0.1',
          minLength: 2,
          maxLength: 45,
          rules: [{ rule: 'isIP(self)', message: 'hostIP must be an IP address, such as 127.0.0.1' }],
        }),
      ),
      protocol: Type.Optional(choice(['TCP', 'UDP'], { description: 'Transport protocol.', default: 'TCP' })),
    },
    { description: 'One published port.' },
  ),
  {
    description:
      'Ports of the guest that the host publishes. Each name once, and each host address and port once.',
    maxItems: PORTS_MAX,
    rules: [
      {
        rule: 'self.all(p, !has(p.hostPort) || self.exists_one(q, has(q.hostPort) && q.hostPort == p.hostPort && q.hostIP == p.hostIP && q.protocol == p.protocol))',
        message:
          'ports must not publish the same hostIP, hostPort and protocol twice; choose another hostPort',
      },
    ],
  },
);

const SECRET_LOCATIONS = ['Headers', 'Query', 'Body'] as const;
export type SecretLocation = (typeof SECRET_LOCATIONS)[number];
/** Where a secret goes that does not say it. */
export const DEFAULT_SECRET_LOCATIONS: SecretLocation[] = ['Headers'];

const SecretsSchema = keyedList(
  ['env'],
  object(
    {
      env: variableName('Variable that holds a placeholder in the guest.'),
      valueFrom: object(
        { secretKeyRef: keyReference('The key of a Secret that holds the value.', 'Secret') },
        { description: 'Where the value is read from.' },
      ),
      allowHosts: set(
        text({
          description: 'Host name, or *. and a domain for all names below it.',
          minLength: 1,
          maxLength: 253,
          pattern: HOST_PATTERN,
          expected: 'a host name, such as "api.example.com" or "*.example.com"',
        }),
        {
          description: 'Hosts to which requests carry the value in place of the placeholder.',
          minItems: 1,
          maxItems: ALLOW_HOSTS_MAX,
        },
      ),
      injectInto: Type.Optional(
        set(choice(SECRET_LOCATIONS, { description: 'A part of a request.' }), {
          description:
            'Where in a request the placeholder is replaced. Headers: values of headers, HTTP Basic too. Query: behind the ? of the URL. Body: bodies of up to 1 MiB.',
          default: [...DEFAULT_SECRET_LOCATIONS],
          minItems: 1,
          maxItems: SECRET_LOCATIONS.length,
        }),
      ),
    },
    { description: 'One secret.' },
  ),
  {
    description:
      'Secrets whose value never enters the VM: the guest sees a placeholder, and the gateway puts the value into requests to the allowed hosts.',
    maxItems: SECRETS_MAX,
  },
);

/** Fields that make another machine when they change, each with how it compares to its former value. */
const REPLACING: readonly { field: string; unchanged: string; what: string }[] = [
  { field: 'image', unchanged: 'self.image == oldSelf.image', what: 'image' },
  { field: 'driver', unchanged: 'self.driver == oldSelf.driver', what: 'driver' },
  { field: 'user', unchanged: sameOptional('user'), what: 'user' },
  { field: 'patches', unchanged: sameOptional('patches'), what: 'patches' },
];

function sameOptional(field: string): string {
  return `has(self.${field}) == has(oldSelf.${field}) && (!has(self.${field}) || self.${field} == oldSelf.${field})`;
}

const RECREATE = "self.updateStrategy == 'Recreate'";

const transitionRules: readonly CelRule[] = [
  ...REPLACING.map(({ field, unchanged, what }) => ({
    rule: `${RECREATE} || (${unchanged})`,
    message: `${what} cannot change after creation; set updateStrategy: Recreate to get a new root file system, or create another Sandbox`,
    fieldPath: `.${field}`,
  })),
  {
    rule: `${RECREATE} || !isQuantity(self.resources.disk) || quantity(self.resources.disk).compareTo(quantity(oldSelf.resources.disk)) >= 0`,
    message:
      'resources.disk cannot shrink; keep the size or grow it, or set updateStrategy: Recreate to get a new root file system',
    fieldPath: '.resources.disk',
  },
];

const crossFieldRules: readonly CelRule[] = [
  {
    rule: '!has(self.volumeMounts) || self.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name))',
    message: 'volumeMounts must name an entry of volumes; correct the name, or add the volume',
    fieldPath: '.volumeMounts',
  },
  {
    rule: '!has(self.secrets) || !has(self.env) || self.secrets.all(s, !self.env.exists(e, e.name == s.env))',
    message: 'secrets must not set a variable that env sets too; remove one of them',
    fieldPath: '.secrets',
  },
];

export const SandboxSpecSchema = object(
  {
    image: text({
      description:
        'OCI image, by tag or digest. Short names are those of Docker Hub. Changing it needs updateStrategy Recreate.',
      minLength: 1,
      maxLength: IMAGE_REFERENCE_MAX,
      pattern: '^[A-Za-z0-9[][A-Za-z0-9._:/@[\\]+-]*$',
      expected: 'an image reference, such as "docker.io/library/python:3.13"',
    }),
    imagePullPolicy: Type.Optional(
      choice(['Always', 'IfNotPresent', 'Never'], {
        description:
          'When the registry is asked: at each start, when the image is not on this host, or never (it was loaded before).',
        default: 'IfNotPresent',
      }),
    ),
    imagePullSecrets: Type.Optional(
      keyedList(
        ['name'],
        object(
          { name: objectName('Name of the Secret, in the namespace of this object.') },
          { description: 'One Secret.' },
        ),
        {
          description: 'Secrets of type kubernetes.io/dockerconfigjson with credentials for the registry.',
          maxItems: 16,
        },
      ),
    ),
    operatingMode: Type.Optional(
      choice(['Running', 'Suspended'], {
        description: 'Running, or Suspended: the VM is gone and the disks are kept.',
        default: 'Running',
      }),
    ),
    driver: Type.Optional(
      choice(['Auto', 'Libkrun', 'Software'], {
        description:
          'What runs the VM: Libkrun needs KVM, Software runs anywhere but slower, Auto takes Libkrun where it works.',
        default: 'Auto',
      }),
    ),
    resources: Type.Optional(ResourcesSchema),
    main: Type.Optional(MainSchema),
    env: Type.Optional(EnvSchema),
    workingDir: Type.Optional(
      absolutePath("Directory in which processes start; made when it does not exist. Default: the image's."),
    ),
    user: Type.Optional(
      text({
        description:
          "User that processes run as: name or uid, optionally with :group or :gid. Default: the image's. Cannot change.",
        minLength: 1,
        maxLength: 65,
        pattern: '^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$',
        expected: 'a user in quotes, such as "app", "1000" or "1000:1000"',
      }),
    ),
    hostname: Type.Optional(
      text({
        description: 'Host name in the guest. Default: the name of this object.',
        minLength: 1,
        maxLength: DNS_LABEL_MAX,
        pattern: DNS_LABEL,
        expected: 'a host name of lower-case letters, digits and "-", at most 63 characters',
      }),
    ),
    restartPolicy: Type.Optional(
      choice(['Always', 'OnFailure', 'Never'], {
        description:
          'What follows when the main process or the VM ends by itself. Restarts wait 10 s at first, twice as long each time up to 5 min.',
        default: 'Never',
      }),
    ),
    terminationGracePeriodSeconds: Type.Optional(
      integer({
        description: 'Time between the signal to stop and the end by force.',
        default: 10,
        minimum: 0,
        maximum: GRACE_SECONDS_MAX,
      }),
    ),
    readinessProbe: Type.Optional(ReadinessProbeSchema),
    livenessProbe: Type.Optional(LivenessProbeSchema),
    startupProbe: Type.Optional(StartupProbeSchema),
    lifecycle: Type.Optional(LifecycleSchema),
    activeDeadlineSeconds: Type.Optional(
      integer({
        description: 'Ends the sandbox after it has run for so long. Default: never.',
        minimum: 1,
        maximum: INT32_MAX,
      }),
    ),
    idleTimeoutSeconds: Type.Optional(
      integer({
        description:
          'Ends the sandbox after so long without exec, connection and main process, or without an answer of its guest. Default: never.',
        minimum: 1,
        maximum: INT32_MAX,
      }),
    ),
    ttlSecondsAfterFinished: Type.Optional(
      integer({
        description: 'Deletes the object so long after it finished. Default: it stays.',
        minimum: 0,
        maximum: INT32_MAX,
      }),
    ),
    shutdownTime: Type.Optional(
      text({
        description: 'Ends the sandbox at this time. RFC 3339, in quotes. Default: never.',
        maxLength: 64,
        pattern: RFC_3339,
        expected: 'a time in quotes, such as "2026-12-01T00:00:00Z"',
      }),
    ),
    updateStrategy: Type.Optional(
      choice(['Refuse', 'Recreate'], {
        description:
          'What a change of image, driver, user, patches or a smaller disk does: it is refused, or the sandbox is stopped and gets a new root file system (volumes stay).',
        default: 'Refuse',
      }),
    ),
    volumes: Type.Optional(SandboxVolumesSchema),
    volumeMounts: Type.Optional(VolumeMountsSchema),
    patches: Type.Optional(PatchesSchema),
    ports: Type.Optional(PortsSchema),
    secrets: Type.Optional(SecretsSchema),
    scheduling: Type.Optional(SchedulingSchema),
  },
  { description: 'What is asked for.', rules: [...crossFieldRules, ...transitionRules] },
);

export const SandboxSchema = object(
  { spec: SandboxSpecSchema, status: Type.Optional(SandboxStatusSchema) },
  { description: 'A microVM that runs one program, or waits for commands, from an OCI image.' },
);

/** The spec as people write it. */
export type SandboxSpec = Static<typeof SandboxSpecSchema>;
export type SandboxStatus = Static<typeof SandboxStatusSchema>;
export type Sandbox = StoredObject<SandboxSpec, SandboxStatus>;

type SandboxResources = Static<typeof ResourcesSchema>;
/** One variable of `spec.env`. */
export type SandboxSecret = NonNullable<SandboxSpec['secrets']>[number];
export type SandboxEnv = NonNullable<SandboxSpec['env']>[number];

/** Where a cluster places it. */
export type SandboxScheduling = NonNullable<SandboxSpec['scheduling']>;

/** Top-level fields that always have a value after defaulting. A test keeps it equal to the schema. */
export const DEFAULTED_SPEC_FIELDS = [
  'imagePullPolicy',
  'operatingMode',
  'driver',
  'resources',
  'restartPolicy',
  'terminationGracePeriodSeconds',
  'updateStrategy',
] as const satisfies readonly (keyof SandboxSpec)[];
type DefaultedField = (typeof DEFAULTED_SPEC_FIELDS)[number];

/** The spec after `applyDefaults`: what the store holds and reconcilers read. */
export type DefaultedSandboxSpec = Omit<SandboxSpec, DefaultedField> &
  Required<Omit<Pick<SandboxSpec, DefaultedField>, 'resources'>> & { resources: Required<SandboxResources> };
/** A Sandbox as the store holds it. */
export type DefaultedSandbox = StoredObject<DefaultedSandboxSpec, SandboxStatus>;
