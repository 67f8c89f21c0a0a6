// Runs `buildDisk` in a thread of its own, with a bounded heap.

import { Worker } from 'node:worker_threads';
import { BulkheadError } from '../../api/errors.ts';
import type { BuildInput, BuiltDisk, LayerSource } from './build-disk.ts';
import type { LayerReady, WorkerReport } from './protocol.ts';

/** The limits on entries and metadata end a build before this; it is the second wall, for what they do not foresee. */
const MAX_HEAP_MIB = 2048;

/**
 * As `buildDisk`, with the layers as promises of files; a layer's failure ends the build with it.
 * @throws BulkheadError, or the signal's reason.
 */
export async function buildInThread(
  input: BuildInput,
  layers: readonly Promise<LayerSource>[],
  options: { signal: AbortSignal; onBytes: (bytes: number) => void },
): Promise<BuiltDisk> {
  options.signal.throwIfAborted();
  const worker = new Worker(new URL('./worker.ts', import.meta.url), {
    workerData: input,
    resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MIB },
    // Nothing of the daemon's environment is the parser's business.
    env: {},
    execArgv: [],
  });
  const { promise, resolve, reject } = Promise.withResolvers<BuiltDisk>();
  const abort = (): void => reject(options.signal.reason);
  options.signal.addEventListener('abort', abort, { once: true });
  worker.on('message', (report: WorkerReport) => {
    if (report.type === 'bytes') options.onBytes(report.bytes);
    else if (report.type === 'done') resolve(report.disk);
    else reject(new BulkheadError(report.code, report.message));
  });
  worker.on('error', (error) => reject(workerError(error)));
  worker.on('exit', () =>
    reject(new BulkheadError('INTERNAL', 'the thread that writes the disk ended early')),
  );
  layers.forEach((layer, index) => {
    layer.then((source) => worker.postMessage({ index, source } satisfies LayerReady), reject);
  });
  try {
    return await promise;
  } finally {
    options.signal.removeEventListener('abort', abort);
    await worker.terminate();
  }
}

function workerError(error: unknown): BulkheadError {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ERR_WORKER_OUT_OF_MEMORY') {
    return new BulkheadError(
      'IMAGE_INVALID',
      `the image's file tree needs more than ${MAX_HEAP_MIB} MiB of memory`,
    );
  }
  return new BulkheadError('INTERNAL', 'the thread that writes the disk failed', { cause: error });
}
