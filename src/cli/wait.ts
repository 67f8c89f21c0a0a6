// bulkhead wait
import type { Command } from 'commander';
import type { BulkheadClient } from '../client/client.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { parseDuration } from './duration.ts';
import { CommandFailure, EXIT, report, usage } from './failure.ts';
import { parseTargets, type Target } from './targets.ts';
import { followEach, type Goal, parseGoal, waitFor } from './waiting.ts';

interface Options extends ConnectionOptions {
  for: string;
  timeout: string;
  selector?: string;
  all?: true;
}

export function define(command: Command): void {
  connectionOptions(command)
    .argument('<target...>', 'KIND NAME..., KIND/NAME..., or KIND with -l or --all')
    .requiredOption('--for <what>', "condition=TYPE[=STATUS], delete, create or jsonpath='{PATH}'[=VALUE]")
    .option('--timeout <duration>', 'how long at most', '30s')
    .option('-l, --selector <labels>', 'objects with these labels')
    .option('--all', 'every object of the kind in the namespace')
    .addHelpText('after', '\nAn object that does not exist yet is waited for too.')
    .action(wait);
}

async function wait(words: string[], options: Options): Promise<void> {
  const goal = parseGoal(options.for);
  const deadline = AbortSignal.timeout(Math.max(1, parseDuration(options.timeout)));
  await withClient(options, async (client) => {
    const targets = await namedTargets(client, parseTargets(words), options);
    const results = await followEach(targets, ({ kind, name }) =>
      waitForOne(client, { kind, name }, options.namespace, goal, deadline),
    );
    const failures = results.filter((result) => result.status === 'rejected');
    for (const { reason } of failures) report(reason);
    if (failures.length > 0) throw new CommandFailure(EXIT.failed);
  });
}

async function namedTargets(
  client: BulkheadClient,
  targets: Target[],
  { selector, all, namespace }: Options,
) {
  const named: { kind: Target['kind']; name: string }[] = [];
  for (const { kind, name } of targets) {
    if (name !== undefined) named.push({ kind, name });
    else if (selector === undefined && !all) throw usage('name the objects, or give -l or --all');
    else {
      const query = { namespace, ...(selector === undefined ? {} : { labelSelector: selector }) };
      const { items } = await client.list(kind, query);
      named.push(...items.map(({ metadata }) => ({ kind, name: metadata.name })));
    }
  }
  return named;
}

async function waitForOne(
  client: BulkheadClient,
  target: { kind: Target['kind']; name: string },
  namespace: string,
  goal: Goal,
  deadline: AbortSignal,
): Promise<void> {
  await waitFor(client, { ...target, namespace }, goal, deadline);
  const { kind, name } = target;
  process.stdout.write(`${kind.singular}${kind.group === '' ? '' : `.${kind.group}`}/${name} ${goal.met}\n`);
}
