// Who has a port of this host.
import { readdir, readFile, readlink } from 'node:fs/promises';

/** For each protocol the tables of its sockets, and the state in them of one that takes what comes from anywhere. */
const TABLES = {
  TCP: { files: ['/proc/net/tcp', '/proc/net/tcp6'], state: '0A' },
  UDP: { files: ['/proc/net/udp', '/proc/net/udp6'], state: '07' },
};

/** `NAME (pid PID)`; undefined where nobody is seen, as when it ended meanwhile. */
export async function portHolder(protocol: 'TCP' | 'UDP', port: number): Promise<string | undefined> {
  const inodes = new Set<string>();
  const { files, state: open } = TABLES[protocol];
  for (const table of files)
    for (const line of (await readText(table)).split('\n').slice(1)) {
      const [, local = '', , state, , , , , , inode] = line.trim().split(/\s+/);
      if (state === open && inode !== undefined && Number.parseInt(local.split(':')[1] ?? '', 16) === port)
        inodes.add(`socket:[${inode}]`);
    }
  if (inodes.size === 0) return undefined;
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name)))
    if (await hasOpen(pid, inodes)) return `${(await readText(`/proc/${pid}/comm`)).trim()} (pid ${pid})`;
  return undefined;
}

async function hasOpen(pid: string, targets: ReadonlySet<string>): Promise<boolean> {
  const dir = `/proc/${pid}/fd`;
  const fds = await readdir(dir).catch(() => []); // it ended meanwhile
  for (const fd of fds) if (targets.has(await readlink(`${dir}/${fd}`).catch(() => ''))) return true;
  return false;
}

async function readText(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}
