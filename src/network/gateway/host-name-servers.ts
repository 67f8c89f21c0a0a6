// The name servers that the host itself asks. The gateway outlives changes of them.
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import type { Clock } from '../../controller/clock.ts';

const FILE = '/etc/resolv.conf';
/** As often as a resolver looks at it, about. */
const REREAD_MS = 5_000;
/** More are of no use: each is waited for. */
const SERVERS_MAX = 8;
const BYTES_MAX = 64 * 1024;

/** Addresses in a resolv.conf(5), in their order. */
export function nameServersIn(text: string): string[] {
  const servers: string[] = [];
  for (const line of text.slice(0, BYTES_MAX).split('\n')) {
    const address = /^nameserver[ \t]+([0-9A-Fa-f.:]+)/.exec(line)?.[1] ?? '';
    if (isIP(address) !== 0 && servers.length < SERVERS_MAX) servers.push(address);
  }
  return servers;
}

/** Read again from time to time; the last that could be read where the file is gone for a moment. */
export function hostNameServers(clock: Clock, path = FILE): () => readonly string[] {
  let servers: readonly string[] = [];
  let readAt = Number.NEGATIVE_INFINITY;
  return () => {
    const now = clock.monotonic();
    if (now - readAt < REREAD_MS) return servers;
    readAt = now;
    try {
      servers = nameServersIn(readFileSync(path, 'utf8'));
    } catch {
      // It is being replaced, or there is none; then the C library asks this host itself.
      if (servers.length === 0) servers = ['127.0.0.1'];
    }
    return servers;
  };
}
