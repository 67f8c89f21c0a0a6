// What package managers and git fetch, served over HTTP: a Debian package, a Python wheel and a repository, made when the
// first of them is asked for.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';

/** What each of them holds, and thus what a client prints that got it. */
export const MIRRORED = 'from the mirror';

const WHEEL = 'demo-1.0-py3-none-any.whl';

/** An archive as zip has it, without compression. */
function zip(files: Readonly<Record<string, string>>): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [name, text] of Object.entries(files)) {
    const content = Buffer.from(text);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(0x21, 8); // 1980-01-01
    common.writeUInt32LE(crc32(content), 10);
    common.writeUInt32LE(content.length, 14);
    common.writeUInt32LE(content.length, 18);
    common.writeUInt16LE(Buffer.byteLength(name), 22);
    const more = Buffer.alloc(14);
    more.writeUInt32LE(offset, 10);
    directory.push(Buffer.from('PK\x01\x02\x14\x00', 'latin1'), common, more, Buffer.from(name));
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), common, Buffer.from(name), content]);
    parts.push(local);
    offset += local.length;
  }
  const entries = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06');
  end.writeUInt16LE(Object.keys(files).length, 8);
  end.writeUInt16LE(Object.keys(files).length, 10);
  end.writeUInt32LE(entries.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, entries, end]);
}

function makePip(folder: string): void {
  const info = 'demo-1.0.dist-info';
  mkdirSync(join(folder, 'pip/simple/demo'), { recursive: true });
  writeFileSync(
    join(folder, 'pip', WHEEL),
    zip({
      'demo.py': `print("${MIRRORED}")\n`,
      [`${info}/METADATA`]: 'Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n',
      [`${info}/WHEEL`]: 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
      [`${info}/RECORD`]: `demo.py,,\n${info}/METADATA,,\n${info}/WHEEL,,\n${info}/RECORD,,\n`,
    }),
  );
  writeFileSync(
    join(folder, 'pip/simple/demo/index.html'),
    `<!DOCTYPE html><a href="../../${WHEEL}">${WHEEL}</a>`,
  );
}

function makeApt(folder: string): void {
  const tree = join(folder, 'tree');
  mkdirSync(join(tree, 'DEBIAN'), { recursive: true });
  mkdirSync(join(tree, 'usr/share/demo'), { recursive: true });
  mkdirSync(join(folder, 'apt'));
  writeFileSync(join(tree, 'usr/share/demo/text'), `${MIRRORED}\n`);
  const control =
    'Package: demo\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\nDescription: demo\n';
  writeFileSync(join(tree, 'DEBIAN/control'), control);
  const deb = join(folder, 'apt/demo.deb');
  execFileSync('dpkg-deb', ['--root-owner-group', '--build', tree, deb], { stdio: 'pipe' });
  const content = readFileSync(deb);
  const sum = createHash('sha256').update(content).digest('hex');
  writeFileSync(
    join(folder, 'apt/Packages'),
    `${control}Filename: ./demo.deb\nSize: ${content.length}\nSHA256: ${sum}\n`,
  );
}

function makeGit(folder: string): void {
  const work = join(folder, 'work');
  const bare = join(folder, 'git/demo.git');
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=x', '-c', 'user.email=x@example.com', ...args], { stdio: 'pipe' });
  git('init', '-q', '-b', 'main', work);
  writeFileSync(join(work, 'text'), `${MIRRORED}\n`);
  git('-C', work, 'add', 'text');
  git('-C', work, 'commit', '-q', '-m', 'One text');
  git('clone', '-q', '--bare', work, bare);
  // A server that knows nothing of git serves it as files.
  git('-C', bare, 'update-server-info');
}

let made: string | undefined;

function mirrorFolder(): string {
  if (made !== undefined) return made;
  const folder = mkdtempSync(join(tmpdir(), 'bulkhead-mirror-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  process.once('SIGTERM', () => process.exit(0));
  makePip(folder);
  makeApt(folder);
  makeGit(folder);
  made = folder;
  return folder;
}

/** A file of the mirror by its path, such as `/apt/Packages`; undefined where there is none. */
export function mirrored(path: string): Buffer | undefined {
  if (path.includes('..')) return undefined;
  try {
    return readFileSync(join(mirrorFolder(), path.endsWith('/') ? `${path}index.html` : path));
  } catch {
    return undefined;
  }
}
