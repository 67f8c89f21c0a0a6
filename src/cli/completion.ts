// bulkhead completion
import { Argument, type Command } from 'commander';
import { KINDS } from '../api/kinds.ts';
import { COMMANDS } from './command-list.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

/** Commands whose first argument is a sandbox. */
const BY_NAME = [
  'exec',
  'attach',
  'logs',
  'port-forward',
  'start',
  'stop',
  'suspend',
  'resume',
  'restart',
  'top',
];
/** Commands whose first argument is a kind. */
const BY_KIND = ['get', 'describe', 'delete', 'edit', 'wait', 'events'];
const IMAGE_COMMANDS = ['pull', 'load', 'save', 'ls', 'rm', 'prune'];
const VOLUME_COMMANDS = ['ls', 'du', 'export', 'import', 'snapshot', 'clone'];

/** Asks the daemon; prints nothing when there is none. */
const LIST_NAMES = `bulkhead get "\${kind:-sandboxes}" -o 'jsonpath={range .items[*]}{.metadata.name}{"\\n"}{end}' 2>/dev/null`;

export function define(command: Command): void {
  command
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .addHelpText('after', '\nFor example: source <(bulkhead completion bash)')
    .action((shell: Shell) => {
      process.stdout.write(SCRIPTS[shell]());
    });
}

const commandNames = () => COMMANDS.map(({ name }) => name).join(' ');
const kindNames = () => KINDS.map(({ plural }) => plural).join(' ');

function bash(): string {
  return `# bash completion for bulkhead
_bulkhead() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} command=\${COMP_WORDS[1]} kind words
  if ((COMP_CWORD == 1)); then
    words='${commandNames()}'
  elif [[ $prev == -f || $prev == --filename || $prev == --manifests ]]; then
    COMPREPLY=($(compgen -f -- "$cur")); return
  else
    case $command in
      ${BY_NAME.join('|')}) words=$(${LIST_NAMES}) ;;
      ${BY_KIND.join('|')})
        if ((COMP_CWORD == 2)); then words='${kindNames()}'
        else kind=\${COMP_WORDS[2]}; words=$(${LIST_NAMES}); fi ;;
      image) ((COMP_CWORD == 2)) && words='${IMAGE_COMMANDS.join(' ')}' ;;
      volume) ((COMP_CWORD == 2)) && words='${VOLUME_COMMANDS.join(' ')}' ;;
      policy) ((COMP_CWORD == 2)) && words='test' || words=$(${LIST_NAMES}) ;;
      completion) words='${SHELLS.join(' ')}' ;;
      help) words='${commandNames()}' ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _bulkhead bulkhead
`;
}

function zsh(): string {
  return `#compdef bulkhead
# zsh completion for bulkhead
_bulkhead() {
  local kind
  if ((CURRENT == 2)); then
    compadd -- ${commandNames()}
    return
  fi
  case \${words[2]} in
    ${BY_NAME.join('|')}) compadd -- \${(f)"$(${LIST_NAMES})"} ;;
    ${BY_KIND.join('|')})
      if ((CURRENT == 3)); then compadd -- ${kindNames()}
      else kind=\${words[3]}; compadd -- \${(f)"$(${LIST_NAMES})"}; fi ;;
    image) ((CURRENT == 3)) && compadd -- ${IMAGE_COMMANDS.join(' ')} ;;
    volume) ((CURRENT == 3)) && compadd -- ${VOLUME_COMMANDS.join(' ')} ;;
    policy) ((CURRENT == 3)) && compadd -- test || compadd -- \${(f)"$(${LIST_NAMES})"} ;;
    completion) compadd -- ${SHELLS.join(' ')} ;;
    *) _files ;;
  esac
}
compdef _bulkhead bulkhead
`;
}

function fish(): string {
  const names = `bulkhead get sandboxes -o 'jsonpath={range .items[*]}{.metadata.name}{"\\n"}{end}' 2>/dev/null`;
  const lines = COMMANDS.map(
    ({ name, summary }) =>
      `complete -c bulkhead -n __fish_use_subcommand -f -a ${name} -d '${summary.replaceAll("'", "\\'")}'`,
  );
  return `# fish completion for bulkhead
function __bulkhead_names
  ${names}
end
${lines.join('\n')}
complete -c bulkhead -n '__fish_seen_subcommand_from ${BY_NAME.join(' ')}' -f -a '(__bulkhead_names)'
complete -c bulkhead -n '__fish_seen_subcommand_from ${BY_KIND.join(' ')}' -f -a '${kindNames()} (__bulkhead_names)'
complete -c bulkhead -n '__fish_seen_subcommand_from image' -f -a '${IMAGE_COMMANDS.join(' ')}'
complete -c bulkhead -n '__fish_seen_subcommand_from volume' -f -a '${VOLUME_COMMANDS.join(' ')}'
complete -c bulkhead -n '__fish_seen_subcommand_from policy' -f -a 'test (__bulkhead_names)'
complete -c bulkhead -n '__fish_seen_subcommand_from completion' -f -a '${SHELLS.join(' ')}'
`;
}

const SCRIPTS: Record<Shell, () => string> = { bash, zsh, fish };
