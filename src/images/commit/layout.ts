// An OCI layout folder with one image of one layer, written as it comes.
import { createHash } from 'node:crypto';
import { mkdir, open, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkheadError } from '../../api/errors.ts';
import { ociImage } from '../archive/save.ts';
import type { ImageConfig } from '../images.ts';

/** Writes to `folder`, which is made. Throws TOO_LARGE when the layer has more than `maxBytes`. */
export async function writeLayout(
  folder: string,
  layer: AsyncIterable<Buffer>,
  config: ImageConfig,
  options: { maxBytes: number; signal: AbortSignal },
): Promise<void> {
  const blobs = join(folder, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true, mode: 0o700 });
  const partial = join(folder, 'layer');
  const { digest, size } = await writeHashed(partial, layer, options);
  await rename(partial, join(blobs, digest.slice('sha256:'.length)));
  const { files, index } = ociImage(config, { digest, size }, '');
  for (const { digest: name, bytes } of files)
    await writeFile(join(blobs, name.slice('sha256:'.length)), bytes);
  await writeFile(join(folder, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  await writeFile(join(folder, 'index.json'), index);
}

async function writeHashed(
  path: string,
  chunks: AsyncIterable<Buffer>,
  { maxBytes, signal }: { maxBytes: number; signal: AbortSignal },
): Promise<{ digest: string; size: number }> {
  const hash = createHash('sha256');
  let size = 0;
  const file = await open(path, 'wx', 0o600);
  try {
    for await (const chunk of chunks) {
      signal.throwIfAborted();
      size += chunk.length;
      if (size > maxBytes)
        throw new BulkheadError('TOO_LARGE', `the image would have more than ${maxBytes} bytes`);
      hash.update(chunk);
      await file.writeFile(chunk);
    }
  } finally {
    await file.close();
  }
  return { digest: `sha256:${hash.digest('hex')}`, size };
}
