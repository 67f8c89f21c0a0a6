// bulkhead doctor
import { type Command, Option } from 'commander';
import { asBulkheadError } from '../api/errors.ts';
import type { DoctorCheck } from '../api/wire.ts';
import { defaultSocket, defaultStateDir } from '../client/settings.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { hostChecks } from './doctor-checks.ts';
import { CommandFailure, EXIT } from './failure.ts';
import { printable } from './output/table.ts';

interface Options extends ConnectionOptions {
  stateDir: string;
  output?: string;
}

export function define(command: Command): void {
  connectionOptions(command)
    .option('--state-dir <dir>', "the daemon's directory", defaultStateDir())
    .addOption(new Option('-o, --output <format>', 'output format').choices(['json']))
    .addHelpText('after', '\nExit codes: 0 nothing fails, 1 something does.')
    .action(doctor);
}

async function doctor(options: Options): Promise<void> {
  const ofDaemon = await daemonChecks(options);
  const checks = [...(await hostChecks(options.stateDir)), ...ofDaemon];
  if (options.output === 'json') process.stdout.write(`${JSON.stringify({ checks }, undefined, 4)}\n`);
  else process.stdout.write(checks.map(lineOf).join(''));
  if (checks.some(({ status }) => status === 'fail')) throw new CommandFailure(EXIT.failed);
}

function lineOf({ name, status, message, fix }: DoctorCheck): string {
  const line = `${status.padEnd(4)}  ${printable(name).padEnd(16)}  ${printable(message)}\n`;
  return fix === undefined ? line : `${line}${' '.repeat(24)}${printable(fix)}\n`;
}

/** What the daemon says of itself; that none runs is a warning, as everything else can still be checked. */
async function daemonChecks(options: Options): Promise<DoctorCheck[]> {
  try {
    const { checks } = await withClient(options, (client) => client.doctor());
    return [
      { name: 'daemon', status: 'ok', message: `answers at ${options.socket ?? defaultSocket()}` },
      ...checks,
    ];
  } catch (error) {
    const { code, message, row } = asBulkheadError(error);
    if (code === 'NOT_IN_CLUSTER') throw error;
    const status = code === 'DAEMON_UNAVAILABLE' ? 'warn' : 'fail';
    return [{ name: 'daemon', status, message, fix: row.hint }];
  }
}
