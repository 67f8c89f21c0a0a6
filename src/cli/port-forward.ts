// bulkhead port-forward
import type { Command } from 'commander';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { BulkheadClient } from '../client/client.ts';
import { PortListener } from '../client/port-listener.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { describeFailure, usage } from './failure.ts';
import { getNamed, sandboxName } from './targets.ts';

interface Options extends ConnectionOptions {
  address: string;
}

export interface Forward {
  /** 0: a free one. */
  readonly local: number;
  /** In the guest. */
  readonly remote: number;
}

const PORT_MAX = 65_535;

export function define(command: Command): void {
  connectionOptions(command)
    .argument('<sandbox>', 'name of the sandbox')
    .argument('<ports...>', '[LOCAL:]REMOTE; an empty LOCAL is a free port')
    .option('--address <ip>', 'address of this machine to listen on', '127.0.0.1')
    .addHelpText(
      'after',
      '\nListens until it is interrupted. What connects reaches the port of the guest, whether the sandbox publishes it or not.' +
        "\nFor example: bulkhead port-forward agent 8080:8000   # http://127.0.0.1:8080 is the guest's port 8000",
    )
    .action((name: string, ports: string[], options: Options) =>
      withClient(options, (client) =>
        portForward(client, sandboxName(name), ports.map(parseForward), options),
      ),
    );
}

/** `8000`, `8080:8000` or `:8000`. */
export function parseForward(text: string): Forward {
  const [, local, remote] = /^(?:(\d{0,5}):)?(\d{1,5})$/.exec(text) ?? [];
  const forward = { local: Number(local ?? remote), remote: Number(remote) };
  const good = forward.remote >= 1 && forward.remote <= PORT_MAX && forward.local <= PORT_MAX;
  if (!good) throw usage(`"${text}": expected [LOCAL:]REMOTE, such as 8080:8000`);
  return forward;
}

async function portForward(
  client: BulkheadClient,
  name: string,
  forwards: Forward[],
  { namespace, address }: Options,
): Promise<void> {
  await getNamed(client, SANDBOX_KIND, namespace, name);
  const listeners: PortListener[] = [];
  const interrupted = Promise.withResolvers<void>();
  const interrupt = () => interrupted.resolve();
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  try {
    for (const { local, remote } of forwards) {
      const listener = await PortListener.open({
        host: address,
        port: local,
        dial: () => client.portForward(namespace, name, remote),
        onFailure: (error) =>
          process.stderr.write(`port ${remote}: ${describeFailure(error).replaceAll('\n', ' ')}\n`),
      });
      listeners.push(listener);
      const where = address.includes(':') ? `[${address}]` : address;
      process.stdout.write(`Forwarding from ${where}:${listener.port} -> ${remote}\n`);
    }
    await interrupted.promise;
  } finally {
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt);
    for (const listener of listeners) listener.close();
  }
}
