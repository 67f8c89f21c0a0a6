// bulkhead completion: a script for a shell, which asks `bulkhead completion query` what may come next.
import { type Command, InvalidArgumentError } from 'commander';
import { KINDS } from '../api/kinds.ts';
import type { ResourceKind } from '../api/meta.ts';
import { candidates, type ListNames, SHELLS } from './candidates.ts';
import { COMMANDS } from './command-list.ts';
import { type ConnectionOptions, namespaceOf, withClient } from './connection.ts';
import { commandOf } from './exec.ts';

type Shell = (typeof SHELLS)[number];
/** In place of a shell: what the scripts ask with. */
const QUERY = 'query';
/** A shell that waits for longer has hung, for whoever pressed the key. */
const LIST_TIMEOUT_MS = 2_000;

export function define(command: Command): void {
  command
    .argument('<shell>', SHELLS.join(', '), parseShell)
    .argument('[words...]')
    .passThroughOptions()
    .addHelpText('after', '\nFor example: source <(bulkhead completion bash)')
    .action(async (shell: Shell | typeof QUERY, words: string[]) => {
      if (shell !== QUERY) process.stdout.write(SCRIPTS[shell]());
      else
        for (const each of await candidates(commandOf(words), listNames)) process.stdout.write(`${each}\n`);
    });
}

function parseShell(text: string): Shell | typeof QUERY {
  const shell = [...SHELLS, QUERY].find((each) => each === text);
  if (shell === undefined) throw new InvalidArgumentError(`expected ${SHELLS.join(', ')}`);
  return shell as Shell | typeof QUERY;
}

/** Says nothing where there is no daemon or cluster, or none that answers in time: the line of whoever types stays as it is. */
const listNames: ListNames = async (word, where) => {
  const kind = KINDS.find(({ plural, singular, shortNames }) =>
    [plural, singular, ...shortNames].some((each) => each === word.toLowerCase()),
  );
  if (kind === undefined) return [];
  const listing = namesOf(kind, where).catch(() => []);
  const late = new Promise<string[]>((resolve) => setTimeout(resolve, LIST_TIMEOUT_MS, []).unref());
  return Promise.race([listing, late]);
};

async function namesOf(kind: ResourceKind, where: Partial<ConnectionOptions>): Promise<string[]> {
  const namespace = await namespaceOf(where);
  return withClient({ ...where, namespace }, async (client) => {
    const { items } = await client.list(kind, { namespace });
    return items.map(({ metadata }) => metadata.name);
  });
}

function bash(): string {
  return `# bash completion for bulkhead
_bulkhead() {
  local IFS=$'\\n' current=\${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=($(compgen -W "$(bulkhead completion ${QUERY} -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "$current"))
  # A path in a sandbox goes on behind its name.
  if [[ \${COMPREPLY-} == *: ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -o default -F _bulkhead bulkhead
`;
}

function zsh(): string {
  return `#compdef bulkhead
# zsh completion for bulkhead
_bulkhead() {
  local -a found
  found=(\${(f)"$(bulkhead completion ${QUERY} -- "\${(@)words[2,CURRENT]}" 2>/dev/null)"})
  if (( ! \${#found} )); then
    _files
  elif [[ \${found[1]} == *: ]]; then
    # A path in a sandbox goes on behind its name.
    compadd -S '' -- $found
    _files
  else
    compadd -- $found
  fi
}
compdef _bulkhead bulkhead
`;
}

function fish(): string {
  const lines = COMMANDS.map(
    ({ name, summary }) =>
      `complete -c bulkhead -n __fish_use_subcommand -f -a ${name} -d '${summary.replaceAll("'", "\\'")}'`,
  );
  return `# fish completion for bulkhead
function __bulkhead_candidates
  set -l words (commandline -opc) (commandline -ct)
  bulkhead completion ${QUERY} -- $words[2..] 2>/dev/null
end
${lines.join('\n')}
complete -c bulkhead -n 'not __fish_use_subcommand' -a '(__bulkhead_candidates)'
`;
}

const SCRIPTS: Record<Shell, () => string> = { bash, zsh, fish };
