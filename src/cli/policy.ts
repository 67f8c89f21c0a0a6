// bulkhead policy test
import { isIP } from 'node:net';
import { type Command, Option } from 'commander';
import type { DefaultedNetworkPolicySpec } from '../api/networkpolicy.ts';
import type { DefaultedSandboxSpec } from '../api/sandbox.ts';
import { compilePolicies } from '../network/policy/compile.ts';
import type { SandboxPolicy } from '../network/policy/effective.ts';
import { type Decider, explain, type FlowProtocol } from '../network/policy/flow.ts';
import { parseDestination, type Trial, type TrialResult, tryDestination } from '../network/policy/trial.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { CommandFailure, EXIT, usage } from './failure.ts';
import { fileOption, readDocuments, reportMistakes } from './files.ts';

interface Options extends ConnectionOptions {
  filename?: string[];
  protocol: FlowProtocol;
  address?: string;
  output?: string;
}

export function define(command: Command): void {
  const summary = 'say whether a sandbox may reach a destination, and what decides';
  fileOption(connectionOptions(command.command('test').summary(summary).description(summary)))
    .argument('<sandbox>')
    .argument('<host:port>', 'name or address, with [ and ] around an IPv6 one; for ICMP without a port')
    .addOption(
      new Option('--protocol <protocol>', 'transport protocol')
        .choices(['TCP', 'UDP', 'ICMP'])
        .default('TCP'),
    )
    .option('--address <address>', 'where the name leads (default: some public address)')
    .addOption(new Option('-o, --output <format>', 'output format').choices(['json']))
    .addHelpText(
      'after',
      '\nWith -f the sandbox and the policies of these files are tried, without a daemon.\nExit codes: 0 allowed, 1 denied, 2 wrong use.',
    )
    .action(test);
}

async function test(sandbox: string, destination: string, options: Options): Promise<void> {
  const { protocol, address, namespace } = options;
  const parsed = parseDestination(destination, protocol);
  if (parsed === undefined) throw usage(`"${destination}" is no HOST:PORT, such as api.example.com:443`);
  if (address !== undefined && isIP(address) === 0) throw usage(`"${address}" is no IP address`);
  const { effective, acknowledged } =
    options.filename === undefined
      ? await withClient(
          options,
          async (client) => (await client.effectivePolicy(namespace, sandbox)) as SandboxPolicy,
        )
      : await policyOfFiles(options.filename, namespace, sandbox);
  const trial: Trial = { ...parsed, protocol, ...(address === undefined ? {} : { address }) };
  const result = tryDestination(effective, trial);
  const inForce = acknowledged === effective.hash;
  process.stdout.write(
    options.output === 'json'
      ? `${JSON.stringify({ sandbox: `${namespace}/${sandbox}`, ...trial, inForce, ...result }, undefined, 4)}\n`
      : textOf(`${destination} ${protocol} from ${namespace}/${sandbox}`, result),
  );
  if (options.filename === undefined && !inForce)
    process.stderr.write('note: this policy is not in force in the sandbox now\n');
  if (!result.allowed) throw new CommandFailure(EXIT.failed);
}

async function policyOfFiles(paths: string[], namespace: string, name: string): Promise<SandboxPolicy> {
  const { objects, errors } = await readDocuments(paths, namespace);
  reportMistakes(errors);
  if (errors.length > 0) throw new CommandFailure(EXIT.usage, 'a policy that cannot be read decides nothing');
  const within = objects
    .map(({ manifest }) => manifest)
    .filter(({ metadata }) => (metadata.namespace ?? namespace) === namespace);
  const sandbox = within.find(({ kind, metadata }) => kind === 'Sandbox' && metadata.name === name);
  if (sandbox === undefined) throw usage(`the files hold no Sandbox ${name} of namespace ${namespace}`);
  const { secrets = [] } = sandbox.spec as DefaultedSandboxSpec;
  const policies = within
    .filter(({ kind }) => kind === 'NetworkPolicy')
    .map(({ metadata, spec }) => ({
      ...{ namespace, name: metadata.name },
      spec: spec as DefaultedNetworkPolicySpec,
    }));
  const secretHosts = secrets.flatMap(({ allowHosts }) => allowHosts);
  return {
    effective: compilePolicies(policies, { namespace, labels: sandbox.metadata.labels, secretHosts }),
  };
}

function textOf(what: string, { allowed, question, answer, flow }: TrialResult): string {
  const line = (name: string, step: { allowed: boolean; by: Decider } | undefined) =>
    step === undefined
      ? []
      : [`  ${name.padEnd(12)}${step.allowed ? 'allowed' : 'denied'} by ${explain(step.by)}\n`];
  return [
    `${what}: ${allowed ? 'allowed' : 'denied'}\n`,
    ...line('name', question),
    ...line('address', answer),
    ...line('connection', flow),
  ].join('');
}
