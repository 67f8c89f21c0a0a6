// The authority of this installation, in one file: certificate and key, PEM.
import { createHash } from 'node:crypto';
import { open, readFile, rename } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { BulkheadError } from '../../api/errors.ts';
import type { Authority } from './certificates.ts';

/** Certificates with a chain and a key; far more than any has. */
const FILE_MAX = 65_536;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/;
const KEY = /-----BEGIN (?:EC )?PRIVATE KEY-----[^-]+-----END (?:EC )?PRIVATE KEY-----/;
const INSTALLATION_CHARS = 8;

export interface AuthorityFileOptions {
  readonly path: string;
  /** The operator's own is never made. */
  readonly isOwn: boolean;
  readonly now: () => number;
}

/** Read, or made, when it is first needed. */
export class AuthorityFile {
  readonly #options: AuthorityFileOptions;
  #read: Promise<Authority> | undefined;

  constructor(options: AuthorityFileOptions) {
    this.#options = options;
  }

  /** Throws INVALID where the file holds none that can be used. */
  async read(): Promise<Authority> {
    const reading = this.#read ?? this.#open();
    this.#read = reading;
    try {
      return await reading;
    } catch (error) {
      if (this.#read === reading) this.#read = undefined;
      throw error;
    }
  }

  async #open(): Promise<Authority> {
    const { path, isOwn, now } = this.#options;
    const { checkAuthority, createAuthority } = await import('./certificates.ts');
    const text = await readFile(path, 'latin1').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' && !isOwn) return undefined;
      throw new BulkheadError(
        'INVALID',
        `The interception authority ${path} cannot be read: ${error.message}`,
      );
    });
    if (text !== undefined) {
      const certificate = CERTIFICATE.exec(text)?.[0] ?? '';
      const authority = {
        certificate: `${certificate}\n`,
        key: KEY.exec(text.slice(0, FILE_MAX))?.[0] ?? '',
      };
      checkAuthority(authority);
      return authority;
    }
    // The same host may have several installations.
    const installation = createHash('sha256').update(`${hostname()}\n${path}\n${now()}`).digest('hex');
    const authority = await createAuthority(installation.slice(0, INSTALLATION_CHARS), now());
    await writeWhole(path, authority.certificate + authority.key);
    return authority;
  }
}

async function writeWhole(path: string, text: string): Promise<void> {
  const temporary = `${path}.new`;
  {
    await using file = await open(temporary, 'w', 0o600);
    await file.writeFile(text);
    await file.sync();
  }
  await rename(temporary, path);
  await using folder = await open(dirname(path), 'r');
  await folder.sync();
}
