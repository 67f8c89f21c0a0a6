// bulkhead attach
import type { Command } from 'commander';
import { parseDetachKeys, runSession, windowSize } from '../client/terminal/session.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { EXIT, usage, withGuestExitCode } from './failure.ts';
import { sandboxName } from './targets.ts';

interface Options extends ConnectionOptions {
  stdin?: true;
  tty?: true;
  detachKeys: string;
}

export function define(command: Command): void {
  connectionOptions(command)
    .argument('<sandbox>', 'name of the sandbox')
    .option('-i, --stdin', 'send standard input')
    .option('-t, --tty', 'key by key, as a terminal')
    .option('--detach-keys <keys>', 'leave and let the process go on', 'ctrl-]')
    .addHelpText(
      'after',
      '\nLeaving, also with ctrl-c, lets the process go on. Exit code: its own, where it ends meanwhile.',
    )
    .action((name: string, options: Options) => withGuestExitCode(() => attach(sandboxName(name), options)));
}

async function attach(name: string, options: Options): Promise<number> {
  const detachKeys = parseDetachKeys(options.detachKeys);
  if (detachKeys === undefined) {
    throw usage(`--detach-keys "${options.detachKeys}": expected keys such as ctrl-] or ctrl-p,ctrl-q`);
  }
  const stdin = options.stdin === true;
  return withClient(options, async (client) => {
    const query = { stdin, stdout: true, stderr: true, ...windowSize() };
    const connection = await client.attach(options.namespace, name, query);
    const end = await runSession(connection, {
      stdin,
      tty: options.tty === true,
      forwardSignals: false,
      detachKeys,
    });
    return end.type === 'exited' ? end.exit.exitCode : EXIT.ok;
  });
}
