// The certificates of interception: an authority per installation, and a leaf per name that it vouches for.
import 'reflect-metadata'; // which the container of @peculiar/x509 needs before it is loaded
import {
  createPrivateKey,
  createPublicKey,
  KeyObject,
  randomBytes,
  webcrypto,
  X509Certificate,
} from 'node:crypto';
import { isIP } from 'node:net';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  X509Certificate as IssuerCertificate,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { BulkheadError } from '../../api/errors.ts';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const DAY_MS = 86_400_000;
const AUTHORITY_LIFETIME_DAYS = 3_650;
/** Browsers refuse leaves that are valid for longer than 398 days; these are made anew long before. */
const LEAF_LIFETIME_DAYS = 30;
/** Clocks in guests may be behind. */
const BEFORE_DAYS = 2;
/** RFC 5280: at most 20 octets, positive. */
const SERIAL_BYTES = 16;
/** RFC 5280: a common name has no more characters. The name that counts is the alternative one. */
const COMMON_NAME_MAX = 64;

/** PEM texts. The certificate goes to guests and in handshakes; the key stays with the daemon and its gateway. */
export interface Authority {
  readonly certificate: string;
  /** PKCS #8. */
  readonly key: string;
}

function serialNumber(): string {
  const bytes = randomBytes(SERIAL_BYTES);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString('hex');
}

function pemOfKey(key: webcrypto.CryptoKey): string {
  return KeyObject.from(key).export({ type: 'pkcs8', format: 'pem' }).toString();
}

const generateKeys = () => webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);

/** `installation` makes its name one of its own: clients keep authorities apart by name. */
export async function createAuthority(
  installation: string,
  now: number,
  purpose = 'interception',
): Promise<Authority> {
  const keys = await generateKeys();
  const certificate = await X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: serialNumber(),
      name: [{ O: ['Bulkhead'] }, { CN: [`Bulkhead ${purpose} ${installation}`] }],
      notBefore: new Date(now - BEFORE_DAYS * DAY_MS),
      notAfter: new Date(now + AUTHORITY_LIFETIME_DAYS * DAY_MS),
      signingAlgorithm: ALGORITHM,
      keys,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  );
  return { certificate: `${certificate.toString('pem')}\n`, key: pemOfKey(keys.privateKey) };
}

/** Throws INVALID where the texts are not a certificate of an authority and its ECDSA P-256 key. */
export function checkAuthority({ certificate, key }: Authority): void {
  let problem: string | undefined;
  try {
    const parsed = new X509Certificate(certificate);
    const secret = createPrivateKey(key);
    const { namedCurve } = secret.asymmetricKeyDetails ?? {};
    if (!parsed.ca) problem = 'the certificate is not one of an authority';
    else if (namedCurve !== 'prime256v1') problem = 'the key is not an ECDSA key on the curve P-256';
    else if (!createPublicKey(secret).equals(parsed.publicKey))
      problem = 'the key is not that of the certificate';
  } catch (error) {
    problem = error instanceof Error ? error.message : String(error);
  }
  if (problem !== undefined)
    throw new BulkheadError('INVALID', `The interception authority cannot be used: ${problem}.`);
}

export interface Leaf {
  /** The leaf and its authority. */
  readonly chain: string;
  readonly key: string;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
}

/** What a leaf is good for beside proving who serves a name. */
export interface LeafOptions {
  /** Alternative names beside the first one. */
  names?: readonly string[];
  /** `client`: for the side that connects. */
  usage?: 'server' | 'client';
  /** Of somebody else, who has the key to it; by default that of this process. */
  publicKey?: webcrypto.CryptoKey;
}

/** Makes leaves that this authority vouches for. All have one key, of this process alone, but for those of others' keys. */
export class LeafIssuer {
  readonly #authority: Authority;
  readonly #now: () => number;
  #prepared: ReturnType<LeafIssuer['prepare']> | undefined;

  constructor(authority: Authority, now: () => number) {
    this.#authority = authority;
    this.#now = now;
  }

  /** For a host name in lower case or an address. The key is that of this process, whoever the leaf is for. */
  async issue(name: string, options: LeafOptions = {}): Promise<Leaf> {
    this.#prepared ??= this.prepare();
    const { issuer, signingKey, publicKey, key } = await this.#prepared;
    const now = this.#now();
    const expiresAt = now + LEAF_LIFETIME_DAYS * DAY_MS;
    const leaf = await X509CertificateGenerator.create(
      {
        serialNumber: serialNumber(),
        subject: [{ CN: [name.slice(0, COMMON_NAME_MAX)] }],
        issuer: issuer.subjectName,
        notBefore: new Date(now - BEFORE_DAYS * DAY_MS),
        notAfter: new Date(expiresAt),
        signingAlgorithm: ALGORITHM,
        publicKey: options.publicKey ?? publicKey,
        signingKey,
        extensions: [
          new SubjectAlternativeNameExtension(
            [name, ...(options.names ?? [])].map((value) => ({
              ...{ type: isIP(value) === 0 ? 'dns' : 'ip', value },
            })),
          ),
          new BasicConstraintsExtension(false, undefined, true),
          new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
          new ExtendedKeyUsageExtension([
            options.usage === 'client' ? ExtendedKeyUsage.clientAuth : ExtendedKeyUsage.serverAuth,
          ]),
          await AuthorityKeyIdentifierExtension.create(issuer, false, webcrypto),
        ],
      },
      webcrypto,
    );
    return { chain: `${leaf.toString('pem')}\n${this.#authority.certificate}`, key, expiresAt };
  }

  private async prepare() {
    const { certificate, key } = this.#authority;
    const issuer = new IssuerCertificate(certificate);
    const der = createPrivateKey(key).export({ type: 'pkcs8', format: 'der' });
    const signingKey = await webcrypto.subtle.importKey('pkcs8', der, ALGORITHM, false, ['sign']);
    const keys = await generateKeys();
    return { issuer, signingKey, publicKey: keys.publicKey, key: pemOfKey(keys.privateKey) };
  }
}
