// What start, stop, suspend, resume and restart have in common: spec.operatingMode, and waiting for what it brings.
import type { Command } from 'commander';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { BulkheadClient } from '../client/client.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { parseDuration } from './duration.ts';
import { CommandFailure, EXIT, report, usage } from './failure.ts';
import { warnIfFromFolder } from './folder-warning.ts';
import { displayName, sandboxName, withSuggestion } from './targets.ts';
import { conditionGoal, followEach, waitFor } from './waiting.ts';

interface Options extends ConnectionOptions {
  timeout: string;
  all?: true;
}

/** One sandbox, and until when its steps may take. */
export interface Step {
  client: BulkheadClient;
  namespace: string;
  name: string;
  deadline: AbortSignal;
}

/** Adds the arguments and options of these commands. */
export function defineModeCommand(command: Command, past: string, act: (step: Step) => Promise<void>): void {
  connectionOptions(command)
    .argument('[sandbox...]', 'names of sandboxes')
    .option('--all', 'every sandbox of the namespace')
    .option('--timeout <duration>', 'how long to wait at most', '2m')
    .action((names: string[], options: Options) => runForEach(names, options, past, act));
}

async function runForEach(
  words: string[],
  options: Options,
  past: string,
  act: (step: Step) => Promise<void>,
) {
  const { namespace } = options;
  const deadline = AbortSignal.timeout(Math.max(1, parseDuration(options.timeout)));
  await withClient(options, async (client) => {
    const names = options.all
      ? (await client.list(SANDBOX_KIND, { namespace })).items.map(({ metadata }) => metadata.name)
      : words.map(sandboxName);
    if (names.length === 0 && !options.all) throw usage('name the sandboxes, or give --all');
    const results = await followEach(names, async (name) => {
      await act({ client, namespace, name, deadline });
      process.stdout.write(`${displayName(SANDBOX_KIND, name)} ${past}\n`);
    });
    const failures = results.filter((result) => result.status === 'rejected');
    for (const { reason } of failures) report(reason);
    if (failures.length > 0) throw new CommandFailure(EXIT.failed);
  });
}

/** Asks for a mode; the daemon brings it about. */
export async function setMode(step: Step, operatingMode: 'Running' | 'Suspended'): Promise<void> {
  const { client, namespace, name } = step;
  try {
    warnIfFromFolder(await client.patch(SANDBOX_KIND, namespace, name, { spec: { operatingMode } }));
  } catch (error) {
    throw await withSuggestion(error, client, SANDBOX_KIND, namespace, name);
  }
}

export async function suspendAndWait(step: Step): Promise<void> {
  await setMode(step, 'Suspended');
  await waitFor(step.client, { kind: SANDBOX_KIND, ...step }, conditionGoal('Suspended'), step.deadline);
}

export async function resumeAndWait(step: Step): Promise<void> {
  await setMode(step, 'Running');
  await waitFor(step.client, { kind: SANDBOX_KIND, ...step }, conditionGoal('Ready'), step.deadline);
}
