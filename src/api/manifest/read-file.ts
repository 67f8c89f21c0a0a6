// Manifests from a file or a stream, without ever holding more of it than the limit.
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { SOURCE_BYTES_MAX } from './limits.ts';
import { type ReadOptions, type ReadResult, readManifests, sourceError, tooLarge } from './read.ts';

function failed(source: string, message: string): ReadResult {
  return { objects: [], errors: [sourceError(source, message)] };
}

async function readBounded(file: FileHandle, size: number, maxBytes: number): Promise<Buffer | undefined> {
  // One byte more than was announced: a file that grows meanwhile is noticed.
  let buffer = Buffer.alloc(Math.min(size, maxBytes) + 1);
  let length = 0;
  for (;;) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, null);
    length += bytesRead;
    if (bytesRead === 0) return buffer.subarray(0, length);
    if (length > maxBytes) return undefined;
    if (length === buffer.length) {
      buffer = Buffer.concat([buffer, Buffer.alloc(Math.min(buffer.length, maxBytes + 1 - length))]);
    }
  }
}

/** Reads a file's manifests. A file that is too large is refused by its size, unread; what cannot be read is an error too. */
export async function readManifestFile(path: string, options: ReadOptions = {}): Promise<ReadResult> {
  const maxBytes = options.maxBytes ?? SOURCE_BYTES_MAX;
  let file: FileHandle | undefined;
  try {
    // Without O_NONBLOCK, opening a named pipe would wait for a writer.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = await file.stat();
    if (!stat.isFile()) return failed(path, 'found no regular file, expected a YAML or JSON file');
    if (stat.size > maxBytes) return { objects: [], errors: [tooLarge(path, maxBytes, stat.size)] };
    const bytes = await readBounded(file, stat.size, maxBytes);
    if (bytes === undefined) return { objects: [], errors: [tooLarge(path, maxBytes)] };
    return readManifests(bytes, path, options);
  } catch (error) {
    return failed(path, `cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    await file?.close();
  }
}

/** Reads a stream's manifests, such as those of standard input; stops at the limit. */
export async function readManifestStream(
  stream: AsyncIterable<Uint8Array>,
  source: string,
  options: ReadOptions = {},
): Promise<ReadResult> {
  const maxBytes = options.maxBytes ?? SOURCE_BYTES_MAX;
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of stream) {
    length += part.byteLength;
    if (length > maxBytes) return { objects: [], errors: [tooLarge(source, maxBytes)] };
    parts.push(part);
  }
  return readManifests(Buffer.concat(parts), source, options);
}
