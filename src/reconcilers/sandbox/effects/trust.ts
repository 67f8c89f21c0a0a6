// Makes a guest trust the gateway, where the gateway opens TLS: its certificate goes into the bundles that the image's programs
// read, and where the image's own tools put it back when they write those anew.
import { isDeepStrictEqual } from 'node:util';
import { asBulkheadError } from '../../../api/errors.ts';
import type { GuestAgent, GuestFiles } from '../../../guest/agent.ts';
import type { EffectContext } from './context.ts';

/** Of Debian, Alpine and others; RHEL; SUSE; of systems whose OpenSSL reads this one. The first is made where there is none. */
const BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
] as const;
/** Read by update-ca-certificates and update-ca-trust. The first is made where there is none. */
const ANCHOR_FOLDERS = [
  '/usr/local/share/ca-certificates',
  '/etc/pki/ca-trust/source/anchors',
  '/etc/pki/trust/anchors',
] as const;
const ANCHOR = 'bulkhead.crt';
/** Mozilla's list is a quarter of this. */
const BUNDLE_MAX = 1_048_576;
const FILE_MODE = 0o644;
const FOLDER_MODE = 0o755;

/** Variables by which programs with lists of their own are told of another one: OpenSSL, Go and Ruby; curl; Python; Node; ... */
const VARIABLES = [
  'SSL_CERT_FILE',
  'CURL_CA_BUNDLE',
  'REQUESTS_CA_BUNDLE',
  'PIP_CERT',
  'NODE_EXTRA_CA_CERTS',
  'GIT_SSL_CAINFO',
  'AWS_CA_BUNDLE',
  'CARGO_HTTP_CAINFO',
  'DENO_CERT',
] as const;

/** What a guest was made to trust. */
export interface GuestTrust {
  readonly certificate: string;
  /** A file of the guest with it, and with what the image trusts. */
  readonly bundle: string;
}

/** KEY=VALUE for processes of the guest. */
export function trustVariables(trust: GuestTrust | undefined): string[] {
  return trust === undefined ? [] : VARIABLES.map((name) => `${name}=${trust.bundle}`);
}

/** Does the gateway open TLS of this sandbox, and is the guest not made to trust it yet? */
export async function wantsTrust({ deps, runtime }: EffectContext): Promise<boolean> {
  if (deps.networks.stateOf(runtime.uid)?.intercepts !== true) return false;
  return runtime.guest.trust?.certificate !== (await deps.networks.authority());
}

/** Once for each guest and authority. Safe to repeat: what is there already is not written again. */
export async function establishTrust(
  context: EffectContext,
  agent: GuestAgent,
  signal: AbortSignal,
): Promise<void> {
  if (!(await wantsTrust(context))) return;
  const { deps, runtime } = context;
  const certificate = await deps.networks.authority();
  const { files } = agent;
  const bundles = await existing(files, BUNDLES, 'file', signal);
  const [bundle = BUNDLES[0]] = bundles;
  for (const path of new Set([bundle, ...bundles])) await add(files, path, certificate, signal);
  const folders = await existing(files, ANCHOR_FOLDERS, 'directory', signal);
  for (const folder of folders.length > 0 ? folders : ANCHOR_FOLDERS.slice(0, 1))
    await add(files, `${folder}/${ANCHOR}`, certificate, signal);
  const trust: GuestTrust = { certificate, bundle };
  if (!isDeepStrictEqual(runtime.guest.trust, trust)) runtime.guest = { ...runtime.guest, trust };
}

/** Links are left out: they lead to another of these, or are not to be touched. */
async function existing<Path extends string>(
  files: GuestFiles,
  paths: readonly Path[],
  kind: 'file' | 'directory',
  signal: AbortSignal,
): Promise<Path[]> {
  const found: Path[] = [];
  for (const path of paths) {
    const file = await files.stat(path, {}, signal).catch(unlessAbsent);
    if (file?.kind === kind) found.push(path);
  }
  return found;
}

/** Appends the certificate to what is there; makes the file where there is none. */
async function add(files: GuestFiles, path: string, certificate: string, signal: AbortSignal): Promise<void> {
  const former = await files.stat(path, {}, signal).catch(unlessAbsent);
  const size = former?.sizeBytes ?? 0;
  if (size > BUNDLE_MAX || (former !== undefined && former.kind !== 'file')) return;
  const parts: Buffer[] = [];
  if (size > 0)
    for await (const part of await files.read(path, { length: size }, signal)) parts.push(part as Buffer);
  const text = Buffer.concat(parts).toString('latin1');
  if (text.includes(certificate.trim())) return;
  if (former === undefined)
    await files.makeDirectory(
      path.slice(0, path.lastIndexOf('/')),
      { mode: FOLDER_MODE, parents: true },
      signal,
    );
  const gap = text === '' || text.endsWith('\n') ? '' : '\n';
  await files.write(path, once(text + gap + certificate), { mode: former?.mode ?? FILE_MODE }, signal);
}

async function* once(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text, 'latin1');
}

function unlessAbsent(error: unknown): undefined {
  if (asBulkheadError(error).code !== 'NOT_FOUND') throw error;
  return undefined;
}
