// bulkhead version
import { type Command, Option } from 'commander';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { productVersion } from './product-version.ts';

interface Options extends ConnectionOptions {
  client?: true;
  output?: string;
}

export function define(command: Command): void {
  connectionOptions(command)
    .option('--client', 'the command line only, without asking the daemon')
    .addOption(new Option('-o, --output <format>', 'output format').choices(['json', 'yaml']))
    .action(showVersion);
}

async function showVersion(options: Options): Promise<void> {
  const client = { version: productVersion(), node: process.version };
  let server: { version: string; node?: string } | undefined;
  let failure: unknown;
  if (!options.client) {
    try {
      server = await withClient(options, async (api) => {
        const { gitVersion, nodeVersion } = await api.version();
        const version = gitVersion.replace(/^v/, '');
        return api.isCluster ? { version: `Kubernetes ${version}` } : { version, node: nodeVersion };
      });
    } catch (error) {
      failure = error;
    }
  }
  const versions = { client, ...(server === undefined ? {} : { server }) };
  if (options.output === 'json') process.stdout.write(`${JSON.stringify(versions, undefined, 2)}\n`);
  else if (options.output === 'yaml') {
    const { toYaml } = await import('./output/yaml.ts');
    process.stdout.write(toYaml(versions));
  } else {
    process.stdout.write(`Client: ${client.version} (Node ${client.node})\n`);
    const { version = '', node } = server ?? {};
    const runs = node === undefined ? '' : ` (Node ${node})`;
    if (server !== undefined) process.stdout.write(`Server: ${version}${runs}\n`);
  }
  if (failure !== undefined) throw failure;
}
