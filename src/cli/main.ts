// The command line's entry: finds the command, loads its file alone, and turns failures into messages and exit codes.
import { Command, CommanderError } from 'commander';
import { nearestName } from '../api/validation/nearest.ts';
import { COMMANDS } from './command-list.ts';
import { LOADERS } from './commands.ts';
import { LEADING_OPTIONS } from './connection.ts';
import { EXIT, exitCodeOf, report, usage } from './failure.ts';
import { programName } from './program.ts';

type CommandRow = (typeof COMMANDS)[number];

/** The command's place in the arguments: after options that may come before it. */
function commandIndex(args: readonly string[]): number {
  let index = 0;
  while (args[index]?.startsWith('-')) {
    index += LEADING_OPTIONS.includes(args[index] ?? '') ? 2 : 1;
  }
  return index;
}

function overview(): string {
  const width = Math.max(...COMMANDS.map(({ name }) => name.length));
  const lines = COMMANDS.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`);
  return [
    `Usage: ${programName()} COMMAND [arguments]`,
    '',
    'Runs untrusted code in microVMs that are declared in YAML.',
    '',
    'Commands:',
    ...lines,
    '',
    `${programName()} COMMAND --help tells more about one of them.`,
    'BULKHEAD_STATE_DIR, BULKHEAD_SOCKET, BULKHEAD_NAMESPACE and BULKHEAD_DRIVER set defaults.',
    'A cluster in place of a daemon: --kubeconfig, --context, or BULKHEAD_KUBECONFIG and BULKHEAD_CONTEXT.',
    '',
  ].join('\n');
}

function find(name: string): CommandRow {
  const row = COMMANDS.find((each) => each.name === name);
  if (row !== undefined) return row;
  const nearest = nearestName(
    name,
    COMMANDS.map((each) => each.name),
  );
  const hint =
    nearest === undefined ? `${programName()} --help lists the commands` : `did you mean "${nearest}"?`;
  throw usage(`unknown command "${name}"; ${hint}`);
}

async function main(args: readonly string[]): Promise<void> {
  const index = commandIndex(args);
  const [name, ...rest] = args.slice(index);
  const leading = args.slice(0, index);
  if (name === undefined || name === 'help') {
    const [topic] = rest;
    if (topic === undefined) {
      if (leading.includes('--version')) return run(find('version'), ['--client']);
      const unknown = leading.find((option) => !['--help', '-h'].includes(option));
      if (unknown !== undefined)
        throw usage(`"${unknown}" needs a command; ${programName()} --help lists them`);
      process.stdout.write(overview());
      return;
    }
    return run(find(topic), ['--help']);
  }
  return run(find(name), [...leading, ...rest]);
}

async function run(row: CommandRow, args: readonly string[]): Promise<void> {
  const { define } = await LOADERS[row.name]();
  const command = new Command(row.name).summary(row.summary).description(row.summary);
  command.exitOverride().configureOutput({ outputError: (text, write) => write(text) });
  command.configureHelp({ showGlobalOptions: true });
  define(command);
  // Subcommands do not inherit it.
  for (const sub of command.commands) sub.exitOverride();
  command.name(`${programName()} ${row.name}`);
  await command.parseAsync(args, { from: 'user' });
}

// A reader that has seen enough (`| head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok);
  throw error;
});

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof CommanderError) {
    // Commander has said what is wrong; asking for help is no failure.
    process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  } else {
    report(error);
    process.exitCode = exitCodeOf(error);
  }
}
