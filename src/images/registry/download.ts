// One blob to a file: digest and size checked on the way, taken up again where a broken transfer stopped.

import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { asBulkheadError, BulkheadError } from '../../api/errors.ts';
import { asDiskError } from '../build/build-disk.ts';
import type { Descriptor } from '../oci/manifest.ts';
import { asTransient, TransientError } from './errors.ts';
import { type RetryPolicy, retrying } from './retry.ts';
import type { Response, Session } from './session.ts';

/** A transfer slower than this for its whole size is taken for a registry that wants to hold us up. */
const MIN_BYTES_PER_SECOND = 16 * 1024;
const GRACE_MS = 5 * 60 * 1000;

/** @throws TransientError when the attempts are used up, BulkheadError IMAGE_INVALID for other bytes than announced. */
export async function downloadBlob(
  session: Session,
  blob: Descriptor,
  path: string,
  retry: RetryPolicy,
  signal: AbortSignal,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const deadline = AbortSignal.timeout(GRACE_MS + Math.ceil((blob.size * 1000) / MIN_BYTES_PER_SECOND));
  const bounded = AbortSignal.any([signal, deadline]);
  const file = await open(path, 'w', 0o600);
  const transfer = new Transfer(session, blob, file, path, bounded, onBytes);
  try {
    await retrying(retry, bounded, () => transfer.attempt());
  } catch (error) {
    if (deadline.aborted && !signal.aborted) {
      throw new TransientError(`${session.host.name}: blob ${blob.digest} comes too slowly`);
    }
    throw error;
  } finally {
    await file.close();
  }
}

class Transfer {
  readonly #session: Session;
  readonly #blob: Descriptor;
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #signal: AbortSignal;
  readonly #onBytes: (bytes: number) => void;
  #hash: Hash = createHash('sha256');
  #have = 0;
  #mismatches = 0;

  constructor(
    session: Session,
    blob: Descriptor,
    file: FileHandle,
    path: string,
    signal: AbortSignal,
    onBytes: (bytes: number) => void,
  ) {
    this.#session = session;
    this.#blob = blob;
    this.#file = file;
    this.#path = path;
    this.#signal = signal;
    this.#onBytes = onBytes;
  }

  async attempt(): Promise<void> {
    if (this.#have < this.#blob.size || this.#have === 0) await this.#fetchRest();
    const found = `sha256:${this.#hash.digest('hex')}`;
    if (found === this.#blob.digest) return;
    this.#restart();
    this.#mismatches++;
    const message = `${this.#session.host.name}: blob ${this.#blob.digest} arrives with the digest ${found}`;
    // Once may be the line; twice is the registry.
    if (this.#mismatches > 1) throw new BulkheadError('IMAGE_INVALID', message);
    throw new TransientError(message);
  }

  async #fetchRest(): Promise<void> {
    const headers: Record<string, string> = this.#have > 0 ? { range: `bytes=${this.#have}-` } : {};
    const response = await this.#session.get(`blobs/${this.#blob.digest}`, headers, this.#signal);
    if (this.#have > 0 && !continues(response, this.#have)) this.#restart();
    try {
      for await (const chunk of response.body as AsyncIterable<Buffer>) await this.#append(chunk);
    } catch (error) {
      throw asTransient(error, this.#session.host.name, this.#signal);
    }
    if (this.#have < this.#blob.size) {
      throw new TransientError(
        `${this.#session.host.name}: blob ${this.#blob.digest} ends after ${this.#have} of ${this.#blob.size} bytes`,
      );
    }
  }

  async #append(chunk: Buffer): Promise<void> {
    if (this.#have + chunk.length > this.#blob.size) {
      throw new BulkheadError(
        'IMAGE_INVALID',
        `${this.#session.host.name}: blob ${this.#blob.digest} has more than the ${this.#blob.size} bytes announced`,
      );
    }
    this.#hash.update(chunk);
    await this.#write(chunk);
    this.#have += chunk.length;
    this.#onBytes(chunk.length);
  }

  /** Failures of our own disk are told apart here, before they could pass for the line's. */
  async #write(chunk: Buffer): Promise<void> {
    try {
      let done = 0;
      while (done < chunk.length) {
        const { bytesWritten } = await this.#file.write(chunk, done, chunk.length - done, this.#have + done);
        done += bytesWritten;
      }
    } catch (error) {
      throw asBulkheadError(asDiskError(error, this.#path));
    }
  }

  #restart(): void {
    this.#onBytes(-this.#have);
    this.#hash = createHash('sha256');
    this.#have = 0;
  }
}

/** True if the answer is the rest from `offset` on, and not the whole again. */
function continues(response: Response, offset: number): boolean {
  const range = response.headers['content-range'];
  return response.statusCode === 206 && typeof range === 'string' && range.startsWith(`bytes ${offset}-`);
}
