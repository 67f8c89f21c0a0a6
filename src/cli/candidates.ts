// What may come next on a command line, for the completion of every shell.
import { KINDS } from '../api/kinds.ts';
import { COMMANDS } from './command-list.ts';

/** Asks the daemon or the cluster for names of this kind; none where there is no such thing. */
export type ListNames = (kind: string, where: Where) => Promise<string[]>;

/** What was said before. */
interface Where {
  namespace?: string;
  socket?: string;
  kubeconfig?: string;
  context?: string;
  as?: string;
}

/** Options with a value, and what the value says. */
const WHERE = {
  ...{ '-n': 'namespace', '--namespace': 'namespace', '--socket': 'socket' },
  ...{ '--kubeconfig': 'kubeconfig', '--context': 'context', '--as': 'as' },
} as const satisfies Record<string, keyof Where>;

export const SHELLS = ['bash', 'zsh', 'fish'] as const;

/** Commands that take one sandbox, and what follows it is none. */
const OF_ONE_SANDBOX: readonly string[] = ['exec', 'attach', 'logs', 'port-forward', 'commit'];
/** Commands that take as many as are given. */
const OF_SANDBOXES: readonly string[] = ['start', 'stop', 'suspend', 'resume', 'restart', 'top'];
/** Commands whose first argument is a kind. */
const OF_KINDS: readonly string[] = ['get', 'describe', 'delete', 'edit', 'wait', 'events'];
/** Commands of commands. */
const SUBCOMMANDS: Readonly<Record<string, readonly string[]>> = {
  image: ['pull', 'load', 'save', 'ls', 'rm', 'prune'],
  volume: ['ls', 'du', 'export', 'import', 'snapshot', 'clone'],
  network: ['log'],
  policy: ['test'],
  completion: SHELLS,
  help: COMMANDS.map(({ name }) => name),
};
/** Of the subcommands above: the kind that their next argument names. */
const KIND_OF_ARGUMENT: Readonly<Record<string, string>> = {
  ...{ volume: 'volumes', network: 'sandboxes', policy: 'sandboxes' },
};

interface Line extends Where {
  /** Without options, and without the word that is being written. */
  arguments: string[];
  /** The word before is an option that takes a value, or all that comes belongs to a command in the guest. */
  isValue: boolean;
}

function lineOf(words: readonly string[]): Line {
  const line: Line = { arguments: [], isValue: false };
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? '';
    const value = words[index + 1];
    if (word === '--') return { ...line, isValue: true };
    const [option = '', ...glued] = word.split('=');
    const what = WHERE[option as keyof typeof WHERE];
    if (what !== undefined) {
      if (glued.length === 0 && value === undefined) return { ...line, isValue: true };
      line[what] = glued.length > 0 ? glued.join('=') : (value ?? '');
      if (glued.length === 0) index++;
    } else if (!word.startsWith('-')) line.arguments.push(word);
  }
  return line;
}

/** `words` is the line behind `bulkhead`, up to the word that is being written, which may be empty. */
export async function candidates(words: readonly string[], list: ListNames): Promise<string[]> {
  const current = words.at(-1) ?? '';
  const { arguments: given, isValue, ...where } = lineOf(words.slice(0, -1));
  if (isValue || current.startsWith('-')) return [];
  const all = await nextOf(given, current, (kind) => list(kind, where));
  return all.filter((each) => each.startsWith(current));
}

async function nextOf(
  [command, ...given]: readonly string[],
  current: string,
  list: (kind: string) => Promise<string[]>,
): Promise<readonly string[]> {
  if (command === undefined) return COMMANDS.map(({ name }) => name);
  const [first] = given;
  if (OF_ONE_SANDBOX.includes(command)) return first === undefined ? list('sandboxes') : [];
  if (OF_SANDBOXES.includes(command)) return without(await list('sandboxes'), given);
  // A path in a sandbox begins with its name; all else are files of this host, which the shell knows.
  if (command === 'cp')
    return /[/:]/.test(current) ? [] : (await list('sandboxes')).map((name) => `${name}:`);
  if (OF_KINDS.includes(command))
    return first === undefined ? KINDS.map(({ plural }) => plural) : without(await list(first), given);
  const subcommands = SUBCOMMANDS[command];
  if (subcommands === undefined) return [];
  if (first === undefined) return subcommands;
  const kind = KIND_OF_ARGUMENT[command];
  return kind !== undefined && given.length === 1 ? list(kind) : [];
}

function without(names: readonly string[], given: readonly string[]): string[] {
  return names.filter((name) => !given.includes(name));
}
