// bulkhead run
import { randomBytes } from 'node:crypto';
import { type Command, Option } from 'commander';
import { SANDBOX_KIND } from '../api/kinds.ts';
import { GROUP_VERSION, type StoredObject } from '../api/meta.ts';
import { requireValid } from '../api/validation/validate.ts';
import type { BulkheadClient } from '../client/client.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { parseDuration } from './duration.ts';
import { commandOf, execSession, terminalOf } from './exec.ts';
import { CommandFailure, EXIT, usage, withGuestExitCode } from './failure.ts';
import { removeEnded, removeOlder } from './removal.ts';
import { repeat } from './repeat.ts';
import { conditionsOf, type Goal, waitFor } from './waiting.ts';

interface Options extends ConnectionOptions {
  stdin?: true;
  tty?: true;
  rm: boolean;
  name?: string;
  replace?: true;
  env?: string[];
  cpus?: string;
  memory?: string;
  disk?: string;
  workdir?: string;
  user?: string;
  detach?: true;
  pull?: string;
  timeout: string;
}

export function define(command: Command): void {
  connectionOptions(command)
    .argument('<image>', 'image reference')
    .argument('[command...]', "after --; the image's own when absent")
    .option('-i, --stdin', 'send standard input')
    .option('-t, --tty', 'give the command a terminal')
    .option('--rm', 'remove the sandbox when the command has ended (default)', true)
    .option('--no-rm', 'keep the sandbox')
    .option('--name <name>', 'name of the sandbox; made up when absent')
    .option('--replace', 'with --name: stop and remove an older sandbox of that name first')
    .option('-e, --env <NAME=VALUE>', 'environment variable; may be repeated', repeat)
    .option('--cpus <number>', 'virtual CPUs')
    .option('-m, --memory <size>', 'memory, e.g. 512Mi')
    .option('--disk <size>', 'writable disk, e.g. 4Gi')
    .option('-w, --workdir <path>', 'folder in which it starts')
    .option('-u, --user <user>', 'name or uid[:gid]')
    .option('-d, --detach', 'let it run by itself as the main process, and print its name')
    .addOption(
      new Option('--pull <policy>', 'when to ask the registry').choices(['Always', 'IfNotPresent', 'Never']),
    )
    .option('--timeout <duration>', 'how long the start may take', '10m')
    .passThroughOptions()
    .addHelpText(
      'after',
      "\nExit codes: the command's own, 128+N for signal N; 125 Bulkhead failed, 126 not executable, 127 not found.",
    )
    .action((image: string, words: string[], options: Options) =>
      withGuestExitCode(() => withClient(options, (client) => run(client, image, commandOf(words), options))),
    );
}

/** Only what is said: the rest has its defaults from the API. */
function manifestOf(image: string, command: string[], options: Options) {
  const { env = [], cpus, memory, disk, workdir, user, pull } = options;
  const resources = {
    ...(cpus === undefined ? {} : { cpus: Number(cpus) }),
    ...(memory === undefined ? {} : { memory }),
    ...(disk === undefined ? {} : { disk }),
  };
  return {
    apiVersion: GROUP_VERSION,
    kind: SANDBOX_KIND.kind,
    metadata: { name: options.name ?? `run-${randomBytes(4).toString('hex')}` },
    spec: {
      image,
      restartPolicy: 'Never',
      ...(Object.keys(resources).length > 0 ? { resources } : {}),
      ...(env.length > 0 ? { env: env.map(parseEnv) } : {}),
      ...(workdir === undefined ? {} : { workingDir: workdir }),
      ...(user === undefined ? {} : { user }),
      ...(pull === undefined ? {} : { imagePullPolicy: pull }),
      // Attached, the command is an exec in an idle machine: nothing it says is missed, and it can have a terminal.
      ...(options.detach ? { main: command.length > 0 ? { args: command } : {} } : {}),
    },
  };
}

function parseEnv(entry: string): { name: string; value: string } {
  const equals = entry.indexOf('=');
  if (equals < 1) throw usage(`--env "${entry}": expected NAME=VALUE`);
  return { name: entry.slice(0, equals), value: entry.slice(equals + 1) };
}

/** Ready, or past any hope of it. */
const SETTLED: Goal = {
  met: 'settled',
  description: 'readiness',
  reached: (object) =>
    object !== undefined &&
    conditionsOf(object).some(
      ({ type, status }) => ['Ready', 'Stalled', 'Finished'].includes(type) && status === 'True',
    ),
};

async function run(
  client: BulkheadClient,
  image: string,
  command: string[],
  options: Options,
): Promise<number> {
  if (options.detach && (options.stdin || options.tty)) throw usage('--detach does not go with -i or -t');
  if (options.replace && options.name === undefined) throw usage('--replace needs --name');
  const { namespace } = options;
  const manifest = manifestOf(image, command, options);
  if (options.replace) {
    // Before anything is given up for it.
    requireValid(manifest);
    const deadline = AbortSignal.timeout(Math.max(1, parseDuration(options.timeout)));
    await removeOlder(client, namespace, manifest.metadata.name, deadline);
  }
  const created = await client.create(SANDBOX_KIND, namespace, manifest);
  const { name } = created.metadata;
  if (options.detach) {
    process.stdout.write(`${name}\n`);
    return EXIT.ok;
  }
  // Until the command runs, a signal means: give up and clear away.
  const interrupted = new AbortController();
  const interrupt = () => interrupted.abort();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, interrupt);
  try {
    const code = await startAndExec(client, created, command, options, interrupted.signal);
    return code;
  } finally {
    if (options.rm) await removeEnded(client, created);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(signal, interrupt);
  }
}

async function startAndExec(
  client: BulkheadClient,
  { metadata: { namespace, name } }: StoredObject,
  command: string[],
  options: Options,
  interrupted: AbortSignal,
): Promise<number> {
  const deadline = AbortSignal.any([
    AbortSignal.timeout(Math.max(1, parseDuration(options.timeout))),
    interrupted,
  ]);
  const view = startView();
  try {
    const target = { kind: SANDBOX_KIND, namespace, name };
    const settled = await waitFor(client, target, SETTLED, deadline, view.update);
    const bad = conditionsOf(settled).find(
      ({ type, status }) => type !== 'Ready' && status === 'True' && ['Stalled', 'Finished'].includes(type),
    );
    if (bad !== undefined) throw new CommandFailure(EXIT.bulkhead, `${bad.reason}: ${bad.message}`);
  } catch (error) {
    // 128 + SIGINT, as a shell would report it.
    if (interrupted.aborted) throw new CommandFailure(130, 'interrupted');
    if (error instanceof CommandFailure) throw new CommandFailure(EXIT.bulkhead, error.message);
    throw error;
  } finally {
    view.clear();
  }
  const tty = options.tty === true;
  return execSession(client, namespace, name, {
    command,
    stdin: options.stdin === true,
    stdout: true,
    stderr: true,
    tty,
    entrypoint: true,
    ...terminalOf(tty, []),
  });
}

/** One line on a terminal that says what the start waits for. */
function startView(): { update(object: StoredObject): void; clear(): void } {
  if (!process.stderr.isTTY) return { update() {}, clear() {} };
  const write = (text: string) => process.stderr.write(`\r\u001b[K${text}`);
  return {
    update(object) {
      const ready = conditionsOf(object).find(({ type }) => type === 'Ready');
      const text = ready === undefined ? 'Pending' : `${ready.reason}: ${ready.message}`;
      write(text.replaceAll(/\p{Cc}/gu, ' ').slice(0, (process.stderr.columns ?? 80) - 1));
    },
    clear: () => write(''),
  };
}
