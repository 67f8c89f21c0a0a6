// The daemon's options about image registries: mirrors, plain http, private authorities.
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { pathProblem, usage } from './failure.ts';
import { repeat } from './repeat.ts';

export interface RegistryFlags {
  registryMirror?: string[];
  plainHttpRegistry?: string[];
  registryCa?: string[];
}

/** What the daemon is told about registries; the shape that src/images takes. */
export interface RegistrySettings {
  mirrors: Record<string, string[]>;
  plainHttp: string[];
  authorities: string[];
}

/** Far more than every public authority together takes. */
const CA_FILE_BYTES_MAX = 4 * 1024 * 1024;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

/** Adds --registry-mirror, --plain-http-registry and --registry-ca, which may be repeated. */
export function registryOptions(command: Command): Command {
  return command
    .option(
      '--registry-mirror <registry=url>',
      'ask this mirror first, e.g. docker.io=https://mirror.example; may be repeated, tried in order',
      repeat,
    )
    .option(
      '--plain-http-registry <host:port>',
      'may be spoken to without TLS where it has none; may be repeated; loopback always may',
      repeat,
    )
    .option(
      '--registry-ca <file>',
      'PEM file of authorities to trust for every registry; may be repeated',
      repeat,
    );
}

/** Checks the flags and reads the files. Fails as wrong usage. */
export async function registrySettings(flags: RegistryFlags): Promise<RegistrySettings> {
  const mirrors: Record<string, string[]> = {};
  for (const text of flags.registryMirror ?? []) {
    const [registry, url] = parseMirror(text);
    mirrors[registry] = [...(mirrors[registry] ?? []), url];
  }
  const plainHttp = flags.plainHttpRegistry ?? [];
  for (const host of plainHttp) {
    if (!isHost(host)) throw usage(`--plain-http-registry "${host}": expected HOST or HOST:PORT`);
  }
  const authorities: string[] = [];
  for (const path of flags.registryCa ?? []) authorities.push(...(await readAuthorities(path)));
  return { mirrors, plainHttp, authorities };
}

function isHost(text: string): boolean {
  const url = URL.parse(`http://${text}`);
  return url !== null && text !== '' && /^[^/@?#\s]+$/.test(text) && url.hostname !== '';
}

function parseMirror(text: string): [string, string] {
  const equals = text.indexOf('=');
  const registry = text.slice(0, Math.max(equals, 0));
  const url = URL.parse(text.slice(equals + 1));
  const origin = url !== null && ['http:', 'https:'].includes(url.protocol) ? url : undefined;
  if (!isHost(registry) || origin === undefined) {
    throw usage(`--registry-mirror "${text}": expected REGISTRY=URL, e.g. docker.io=https://mirror.example`);
  }
  if (origin.pathname !== '/' || origin.search !== '' || origin.username !== '' || origin.password !== '') {
    throw usage(
      `--registry-mirror "${text}": a mirror is a host, without a path, a query or credentials in its URL`,
    );
  }
  return [registry, origin.origin];
}

async function readAuthorities(path: string): Promise<string[]> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw usage(`--registry-ca ${pathProblem(path, error)}`);
  });
  if (text.length > CA_FILE_BYTES_MAX) {
    throw usage(`--registry-ca ${path}: more than ${CA_FILE_BYTES_MAX} bytes are no list of authorities`);
  }
  const certificates = text.match(CERTIFICATE) ?? [];
  if (certificates.length === 0) throw usage(`--registry-ca ${path}: holds no PEM certificate`);
  for (const [index, certificate] of certificates.entries()) {
    try {
      new X509Certificate(certificate);
    } catch {
      throw usage(`--registry-ca ${path}: certificate ${index + 1} cannot be read`);
    }
  }
  return certificates;
}
