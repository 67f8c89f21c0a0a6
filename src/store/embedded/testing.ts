// For tests of the embedded store: a directory of its own and small objects.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ObjectManifest } from '../../api/meta.ts';

/** A temporary directory that goes with the test. */
export async function temporaryDirectory(): Promise<{
  path: string;
  [Symbol.asyncDispose](): Promise<void>;
}> {
  const path = await mkdtemp(join(tmpdir(), 'bulkhead-store-'));
  return {
    path,
    async [Symbol.asyncDispose]() {
      await rm(path, { recursive: true });
    },
  };
}

export function sandbox(name: string, spec: unknown = {}, metadata: object = {}): ObjectManifest {
  return { apiVersion: 'bulkhead.dev/v1alpha1', kind: 'Sandbox', metadata: { name, ...metadata }, spec };
}

/** All that an iteration delivers until it ends. */
export async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of source) items.push(item);
  return items;
}
