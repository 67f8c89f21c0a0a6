// Probes of a Sandbox and hooks of its life, as in a Pod: the same fields, defaults and meanings.
import { type Static, Type } from 'typebox';
import { choice, exactlyOneOf, integer, list, object, text } from './schema.ts';

const COMMAND_MAX = 256;
const ARGUMENT_MAX = 32768;
const HEADERS_MAX = 32;
const HEADER_VALUE_MAX = 4096;
const PATH_MAX = 2048;
/** Longer times are no probe of anything; a day, as for the grace period of a stop. */
const SECONDS_MAX = 86_400;
const COUNT_MAX = 10_000;

/** Kubernetes' own, for specs that were not completed. */
export const PROBE_DEFAULTS = {
  initialDelaySeconds: 0,
  periodSeconds: 10,
  timeoutSeconds: 1,
  successThreshold: 1,
  failureThreshold: 3,
} as const;

const ExecActionSchema = object(
  {
    command: list(
      text({
        description: 'One argument.',
        maxLength: ARGUMENT_MAX,
        pattern: '^[^\\x00]*$',
        expected: `a string of at most ${ARGUMENT_MAX} characters, without NUL`,
      }),
      { description: 'Program and arguments, without a shell.', minItems: 1, maxItems: COMMAND_MAX },
    ),
  },
  {
    description:
      'A command in the guest, with the environment, user and directory of exec. Good is exit code 0.',
  },
);

const portOfGuest = integer({ description: 'Port in the guest.', minimum: 1, maximum: 65535 });

const HttpGetActionSchema = object(
  {
    path: Type.Optional(
      text({
        description: 'Path, with a query where one is wanted.',
        default: '/',
        minLength: 1,
        maxLength: PATH_MAX,
        pattern: '^/[!-~]*$',
        expected: 'a path that begins with "/", without spaces, such as "/healthz"',
      }),
    ),
    port: portOfGuest,
    scheme: Type.Optional(
      choice(['HTTP', 'HTTPS'], {
        description: 'Protocol. The certificate of HTTPS is not verified.',
        default: 'HTTP',
      }),
    ),
    httpHeaders: Type.Optional(
      list(
        object(
          {
            name: text({
              description: 'Name of the header.',
              minLength: 1,
              maxLength: 256,
              pattern: '^[-A-Za-z0-9]+$',
              expected: 'a header name of letters, digits and "-"',
            }),
            value: text({
              description: 'Its value.',
              maxLength: HEADER_VALUE_MAX,
              pattern: '^[ -~]*$',
              expected: 'printable ASCII characters',
            }),
          },
          { description: 'One header.' },
        ),
        { description: 'Headers of the request. One may be given several times.', maxItems: HEADERS_MAX },
      ),
    ),
  },
  {
    description:
      "An HTTP GET from inside the guest to the guest's own address, so that network policies have no part in it. Good is a status of 200 to 399; redirects are not followed.",
  },
);

const TcpSocketActionSchema = object(
  { port: portOfGuest },
  {
    description: "A connection from inside the guest to the guest's own address. Good is one that is taken.",
  },
);

function seconds(description: string, minimum: number, value?: number) {
  const bounds = { minimum, maximum: SECONDS_MAX };
  return Type.Optional(
    integer({ description, ...bounds, ...(value === undefined ? {} : { default: value }) }),
  );
}

function threshold(description: string, value: number, maximum = COUNT_MAX) {
  return Type.Optional(integer({ description, default: value, minimum: 1, maximum }));
}

const HANDLERS = ['exec', 'httpGet', 'tcpSocket'] as const;

/** Fields of every probe. `successes`: how many in a row may be asked for. */
function probeFields(successes: number) {
  return {
    exec: Type.Optional(ExecActionSchema),
    httpGet: Type.Optional(HttpGetActionSchema),
    tcpSocket: Type.Optional(TcpSocketActionSchema),
    initialDelaySeconds: seconds(
      'Wait after the start of the guest before the first try.',
      0,
      PROBE_DEFAULTS.initialDelaySeconds,
    ),
    periodSeconds: seconds('Time from try to try.', 1, PROBE_DEFAULTS.periodSeconds),
    timeoutSeconds: seconds('A try that takes longer has failed.', 1, PROBE_DEFAULTS.timeoutSeconds),
    successThreshold: threshold(
      `Successes in a row that count as one${successes === 1 ? '; always 1' : ''}.`,
      PROBE_DEFAULTS.successThreshold,
      successes,
    ),
    failureThreshold: threshold('Failures in a row that count as one.', PROBE_DEFAULTS.failureThreshold),
  };
}

/** A probe for whose failure the VM is stopped. */
function fatalProbe(field: string, description: string) {
  return object(
    {
      ...probeFields(1),
      terminationGracePeriodSeconds: seconds("In place of the sandbox's own, where this probe stops it.", 1),
    },
    { description, rules: [exactlyOneOf(HANDLERS, field)] },
  );
}

export const ReadinessProbeSchema = object(probeFields(COUNT_MAX), {
  description:
    'Whether the sandbox can do its work: while it fails, the sandbox is not Ready. Applies at once.',
  rules: [exactlyOneOf(HANDLERS, 'readinessProbe')],
});

export const LivenessProbeSchema = fatalProbe(
  'livenessProbe',
  'Whether the sandbox still works: when it fails, the VM is stopped and restartPolicy says what follows. Applies at once.',
);

export const StartupProbeSchema = fatalProbe(
  'startupProbe',
  'Whether the start is over: until it succeeds once, the other probes wait and the sandbox is not Ready. When it fails, the VM is stopped as by livenessProbe.',
);

function hook(field: string, description: string) {
  return object(
    {
      exec: Type.Optional(ExecActionSchema),
      httpGet: Type.Optional(HttpGetActionSchema),
      sleep: Type.Optional(
        object(
          {
            seconds: integer({ description: 'How long.', minimum: 0, maximum: SECONDS_MAX }),
          },
          { description: 'Waits.' },
        ),
      ),
    },
    { description, rules: [exactlyOneOf(['exec', 'httpGet', 'sleep'], field)] },
  );
}

/** Those of Linux that a program can be asked to end with. */
const STOP_SIGNALS = [
  ...['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGABRT', 'SIGKILL', 'SIGUSR1', 'SIGUSR2', 'SIGPIPE', 'SIGALRM'],
  ...['SIGTERM', 'SIGWINCH', 'SIGPWR'],
] as [string, ...string[]];

export const LifecycleSchema = object(
  {
    postStart: Type.Optional(
      hook(
        'lifecycle.postStart',
        'Done once per run, right after the main process has begun, beside it. The sandbox is not Ready before it is over. When it fails, the VM is stopped and restartPolicy says what follows.',
      ),
    ),
    preStop: Type.Optional(
      hook(
        'lifecycle.preStop',
        'Done before the VM is stopped, for whatever reason but the end of the main process. Counts in the grace period; its failure is an event and no more.',
      ),
    ),
    stopSignal: Type.Optional(
      choice(STOP_SIGNALS, {
        description:
          "Asks the main process to end when the VM is stopped. Default: the image's, else SIGTERM. Takes hold at the next stop.",
      }),
    ),
  },
  { description: 'What is done at the two ends of a run.' },
);

export type SandboxProbe = Static<typeof LivenessProbeSchema>;
export type SandboxHook = NonNullable<Static<typeof LifecycleSchema>['postStart']>;
export type HttpGetAction = Static<typeof HttpGetActionSchema>;
