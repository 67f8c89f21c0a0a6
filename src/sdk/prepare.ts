// Files that a sandbox is given before its program has it: scripts, and copies of what lies on this host.
import { posix } from 'node:path';
import { Readable } from 'node:stream';
import { copyInAs } from '../client/copy.ts';
import type { FileClient, FileOwner } from '../client/files.ts';
import type { SandboxConfig } from './config.ts';
import { failure } from './errors.ts';
import { copiesOf } from './patches.ts';

const SCRIPTS_DIR = '/usr/local/bin';
const SCRIPT_MODE = 0o755;

export async function prepareFiles(
  files: FileClient,
  owner: FileOwner,
  { scripts = {}, patches }: Pick<SandboxConfig, 'scripts' | 'patches'>,
  signal?: AbortSignal,
): Promise<void> {
  const makeDirectory = (path: string) => files.change(owner, 'mkdir', { path, parents: true }, signal);
  const entries = Object.entries(scripts);
  if (entries.length > 0) await makeDirectory(SCRIPTS_DIR);
  for (const [name, content] of entries) {
    if (!/^[A-Za-z0-9._-]+$/.test(name))
      throw failure('INVALID', `scripts: "${name}" is no name of a program`);
    const text = Readable.from([Buffer.from(content)], { objectMode: false });
    await files.write(owner, `${SCRIPTS_DIR}/${name}`, text, { mode: SCRIPT_MODE }, signal);
  }
  for (const { src, dst, mode } of copiesOf(patches)) {
    await makeDirectory(posix.dirname(dst));
    const how = { ...(signal === undefined ? {} : { signal }), ...(mode === undefined ? {} : { mode }) };
    await copyInAs(files, owner, src, dst, how);
  }
}
