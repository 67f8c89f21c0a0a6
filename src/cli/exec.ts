// bulkhead exec
import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { ExecQuery } from '../api/wire.ts';
import type { BulkheadClient } from '../client/client.ts';
import { runSession, windowSize } from '../client/terminal/session.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { parseDuration } from './duration.ts';
import { EXIT, usage, withGuestExitCode } from './failure.ts';
import { repeat } from './repeat.ts';
import { sandboxName, withSuggestion } from './targets.ts';

/** How long a command waits for this program where the connection breaks, as when the daemon is restarted on a loaded machine. */
const RESUME_SECONDS = 30;

interface Options extends ConnectionOptions {
  stdin?: true;
  tty?: true;
  env?: string[];
  workdir?: string;
  user?: string;
  timeout?: string;
}

/** The words of a command; what separates them from the options is none of them. */
export function commandOf(words: readonly string[]): string[] {
  return words[0] === '--' ? words.slice(1) : [...words];
}

export function define(command: Command): void {
  connectionOptions(command)
    .argument('<sandbox>', 'name of the sandbox')
    .argument('[command...]', 'after --')
    .option('-i, --stdin', 'send standard input')
    .option('-t, --tty', 'give the command a terminal')
    .option('-e, --env <NAME=VALUE>', 'environment variable; may be repeated', repeat)
    .option('-w, --workdir <path>', 'folder in which it starts')
    .option('-u, --user <user>', 'name or uid[:gid]')
    .option('--timeout <duration>', 'end the command after so long')
    .passThroughOptions()
    .addHelpText(
      'after',
      '\nThe command goes on when the daemon is restarted, and so does this program. One that nobody comes back to ends after ' +
        `${RESUME_SECONDS} seconds.` +
        "\n\nExit codes: the command's own, 128+N for signal N; 125 Bulkhead failed, 126 not executable, 127 not found.",
    )
    .action((name: string, words: string[], options: Options) =>
      withGuestExitCode(() =>
        withClient(options, (client) => exec(client, sandboxName(name), commandOf(words), options)),
      ),
    );
}

async function exec(
  client: BulkheadClient,
  name: string,
  command: string[],
  options: Options,
): Promise<number> {
  if (command.length === 0) throw usage('say which command: bulkhead exec SANDBOX -- COMMAND');
  const { namespace, env = [], workdir, user, timeout } = options;
  const query: ExecQuery = {
    command,
    stdin: options.stdin === true,
    stdout: true,
    stderr: true,
    tty: options.tty === true,
    env,
    ...terminalOf(options.tty === true, env),
    ...(workdir === undefined ? {} : { workingDir: workdir }),
    ...(user === undefined ? {} : { user }),
    ...(timeout === undefined ? {} : { timeoutSeconds: Math.ceil(parseDuration(timeout) / 1000) }),
  };
  return execSession(client, namespace, name, query);
}

/** Size and type of this terminal, for the other one. */
export function terminalOf(tty: boolean, env: readonly string[]): Partial<ExecQuery> {
  if (!tty) return {};
  const { TERM } = process.env;
  const known = TERM === undefined || env.some((entry) => entry.startsWith('TERM='));
  return { ...windowSize(), env: known ? [...env] : [`TERM=${TERM}`, ...env] };
}

/** Runs one command, over restarts of the daemon, and returns its exit code. */
export async function execSession(
  client: BulkheadClient,
  namespace: string,
  name: string,
  query: ExecQuery,
): Promise<number> {
  if (query.tty && query.stdin && !process.stdin.isTTY) {
    process.stderr.write('warning: standard input is no terminal; the command gets one all the same\n');
  }
  let connection: Awaited<ReturnType<BulkheadClient['execResumable']>>;
  const resumable = { ...query, id: randomUUID(), resumeSeconds: RESUME_SECONDS };
  try {
    connection = await client.execResumable(namespace, name, resumable);
  } catch (error) {
    throw await withSuggestion(error, client, SANDBOX_KIND, namespace, name);
  }
  const end = await runSession(connection, { stdin: query.stdin, tty: query.tty, forwardSignals: true });
  if (end.type === 'detached') return EXIT.ok;
  if (end.type === 'abandoned') {
    process.stderr.write('bulkhead: the command was asked to end several times; left it to be killed\n');
    return end.exitCode;
  }
  const lost = connection.lost.stdout + connection.lost.stderr;
  if (lost > 0)
    process.stderr.write(`bulkhead: ${lost} bytes of output were lost while no daemon was there\n`);
  if (end.exit.timedOut) process.stderr.write('bulkhead: the command was killed when its time was up\n');
  if (end.exit.oomKilled) process.stderr.write('bulkhead: the sandbox ran out of memory\n');
  return end.exit.exitCode;
}
