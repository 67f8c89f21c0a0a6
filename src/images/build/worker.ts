// The thread that writes one disk: parsing hostile input neither holds up the daemon's event loop nor grows its heap.

import { parentPort, workerData } from 'node:worker_threads';
import { asBulkheadError } from '../../api/errors.ts';
import { buildDisk, type LayerSource } from './build-disk.ts';
import type { LayerReady, WorkerInput, WorkerReport } from './protocol.ts';

const port = parentPort;
if (port === null) throw new Error('this module runs as a worker thread');
const input = workerData as WorkerInput;

const layers = input.diffIds.map(() => Promise.withResolvers<LayerSource>());
port.on('message', (message: LayerReady) => layers[message.index]?.resolve(message.source));

const report = (message: WorkerReport): void => port.postMessage(message);
try {
  const disk = await buildDisk(
    input,
    (index) => layers[index]?.promise ?? Promise.reject(new RangeError(`no layer ${index}`)),
    (bytes) => report({ type: 'bytes', bytes }),
  );
  report({ type: 'done', disk });
} catch (error) {
  const { code, message } = asBulkheadError(error);
  report({ type: 'failed', code, message });
} finally {
  port.close();
}
