// Scripts that a sandbox is given before its program has it.
import { Readable } from 'node:stream';
import type { FileClient, FileOwner } from '../client/files.ts';
import type { SandboxConfig } from './config.ts';
import { failure } from './errors.ts';

const SCRIPTS_DIR = '/usr/local/bin';
const SCRIPT_MODE = 0o755;

export async function bringScripts(
  files: FileClient,
  owner: FileOwner,
  { scripts = {} }: Pick<SandboxConfig, 'scripts'>,
  signal?: AbortSignal,
): Promise<void> {
  const entries = Object.entries(scripts);
  if (entries.length > 0) await files.change(owner, 'mkdir', { path: SCRIPTS_DIR, parents: true }, signal);
  for (const [name, content] of entries) {
    if (!/^[A-Za-z0-9._-]+$/.test(name))
      throw failure('INVALID', `scripts: "${name}" is no name of a program`);
    const text = Readable.from([Buffer.from(content)], { objectMode: false });
    await files.write(owner, `${SCRIPTS_DIR}/${name}`, text, { mode: SCRIPT_MODE }, signal);
  }
}
