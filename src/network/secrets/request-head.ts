// Values of secrets in the head of an HTTP/1 request.
import type { RequestSecrets } from './sandbox-secrets.ts';

const REQUEST_LINE = /^(\S+ )(\S+)( \S+)$/;

/** The head with values in place of placeholders; it was found to keep to the rules (readHttpHead). */
export function fillRequestHead(head: Buffer, secrets: RequestSecrets): Buffer {
  const text = head.toString('latin1');
  const lines = text.split('\r\n');
  // Empty lines may come before.
  const first = lines.findIndex((line) => line !== '');
  const filled = lines
    .map((line, index) => (index === first ? fillTarget(line, secrets) : fillHeader(line, secrets)))
    .join('\r\n');
  return filled === text ? head : Buffer.from(filled, 'latin1');
}

function fillTarget(line: string, secrets: RequestSecrets): string {
  const [, method = '', target = '', version = ''] = REQUEST_LINE.exec(line) ?? [];
  return target === '' ? line : method + secrets.target(target) + version;
}

function fillHeader(line: string, secrets: RequestSecrets): string {
  const colon = line.indexOf(':');
  const value = line.slice(colon + 1).trimStart();
  const changed = secrets.header(value);
  return changed === value ? line : `${line.slice(0, colon + 1)} ${changed}`;
}
