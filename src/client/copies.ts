// Brings the content of copies to the daemon.
import { Readable } from 'node:stream';
import type { PackedCopy } from '../api/copies/pack.ts';
import { asBulkheadError } from '../api/errors.ts';
import { GROUP_VERSION } from '../api/meta.ts';
import type { Transport } from './transport.ts';

export class CopyClient {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Sends it unless it is there. */
  async put({ digest, bytes }: PackedCopy, signal?: AbortSignal): Promise<void> {
    const path = `/apis/${GROUP_VERSION}/copies/${digest}`;
    const options = signal === undefined ? {} : { signal };
    try {
      await this.#transport.request('GET', path, options);
    } catch (error) {
      if (asBulkheadError(error).code !== 'NOT_FOUND') throw error;
      const body = Readable.from([bytes], { objectMode: false });
      await this.#transport.request('PUT', path, {
        ...{ body, contentType: 'application/octet-stream' },
        ...options,
      });
    }
  }
}
