// bulkhead validate
import type { Command } from 'commander';
import { defaultNamespace } from '../client/settings.ts';
import { CommandFailure, EXIT } from './failure.ts';
import { fileOption, readDocuments, reportMistakes } from './files.ts';

interface Options {
  filename?: string[];
  namespace: string;
}

export function define(command: Command): void {
  fileOption(command.argument('[path...]', 'files and folders, as with -f'))
    .option('-n, --namespace <name>', 'namespace of documents that say none', defaultNamespace())
    .addHelpText('after', '\nExit codes: 0 everything is valid, 2 something is not.')
    .action(validate);
}

async function validate(paths: string[], options: Options): Promise<void> {
  const all = [...(options.filename ?? []), ...paths];
  const { objects, errors } = await readDocuments(all, options.namespace);
  reportMistakes(errors);
  if (errors.length > 0) {
    const mistakes = errors.length === 1 ? '1 mistake' : `${errors.length} mistakes`;
    throw new CommandFailure(EXIT.usage, `${mistakes}, ${objects.length} valid objects`);
  }
  process.stdout.write(
    objects.length === 1 ? '1 object is valid\n' : `${objects.length} objects are valid\n`,
  );
}
