// The daemon's image cache.
import type { Readable } from 'node:stream';
import { BulkheadError } from '../api/errors.ts';
import { GROUP_VERSION } from '../api/meta.ts';
import { isStatus } from '../api/status.ts';
import type {
  CachedImage,
  ImageProgress,
  ImageStreamLine,
  ImageSummary,
  LoadRequest,
  PruneRequest,
  PullRequest,
} from '../api/wire.ts';
import { errorOf } from './endpoint.ts';
import type { RequestOptions, Transport } from './transport.ts';

const BASE = `/apis/${GROUP_VERSION}/images`;

export type ProgressListener = (progress: ImageProgress) => void;

export class ImageClient {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  async list(): Promise<CachedImage[]> {
    return (await this.#transport.request<{ items: CachedImage[] }>('GET', BASE)).body.items;
  }

  async pull(
    request: PullRequest,
    onProgress?: ProgressListener,
    signal?: AbortSignal,
  ): Promise<ImageSummary> {
    const [image] = await this.#withProgress(`${BASE}/pull`, { body: request }, onProgress, signal);
    if (image === undefined) throw new BulkheadError('INTERNAL', 'the pull ended without an image');
    return image;
  }

  /** An archive on the daemon's host, by path, or one that is uploaded. */
  load(
    archive: LoadRequest | { upload: Readable; reference?: string },
    onProgress?: ProgressListener,
    signal?: AbortSignal,
  ): Promise<ImageSummary[]> {
    const options: RequestOptions =
      'upload' in archive
        ? {
            body: archive.upload,
            contentType: 'application/x-tar',
            query: { reference: archive.reference },
          }
        : { body: archive };
    return this.#withProgress(`${BASE}/load`, options, onProgress, signal);
  }

  /** The image as an OCI archive (tar). */
  save(reference: string, signal?: AbortSignal): Promise<Readable> {
    return this.#transport.open('GET', `${BASE}/save`, {
      query: { reference },
      ...(signal === undefined ? {} : { signal }),
    });
  }

  async remove(reference: string): Promise<void> {
    await this.#transport.request('DELETE', BASE, { query: { reference } });
  }

  /** What was removed, or would be. */
  async prune(request: PruneRequest): Promise<CachedImage[]> {
    const { body } = await this.#transport.request<{ items: CachedImage[] }>('POST', `${BASE}/prune`, {
      body: request,
    });
    return body.items;
  }

  async #withProgress(
    path: string,
    options: RequestOptions,
    onProgress: ProgressListener | undefined,
    signal: AbortSignal | undefined,
  ): Promise<ImageSummary[]> {
    const lines = this.#transport.lines<ImageStreamLine>('POST', path, {
      ...options,
      ...(signal === undefined ? {} : { signal }),
    });
    for await (const line of lines) {
      if ('progress' in line) onProgress?.(line.progress);
      else if ('images' in line) return line.images;
      else if (isStatus(line.error)) throw errorOf(line.error);
    }
    signal?.throwIfAborted();
    throw new BulkheadError('DAEMON_UNAVAILABLE', 'the daemon went away before the image was ready');
  }
}
