// Reads what the patches of a document copy, keeps it, and puts its digest into the document.
import { posix } from 'node:path';
import { copiesOf } from '../api/copies/manifest.ts';
import { type PackedCopy, packCopy } from '../api/copies/pack.ts';
import { asBulkheadError } from '../api/errors.ts';
import { placeText, type SourceDocument, type SourceProblem } from './model.ts';

/** Where content is kept until sandboxes have it. */
export interface CopyKeeper {
  /** What is there is kept for some time more. */
  has(digest: string): Promise<boolean>;
  put(digest: string, bytes: Buffer): Promise<void>;
}

/** Of a folder that nothing copies from. */
export const NO_COPIES: CopyKeeper = {
  has: () => Promise.resolve(true),
  put: () => Promise.resolve(),
};

export type CopiedDocument =
  | { type: 'read'; document: SourceDocument }
  | { type: 'failed'; problem: SourceProblem };

/** `realRoot` is the real path of the folder: nothing outside of it is read. */
export async function withCopies(
  document: SourceDocument,
  realRoot: string,
  keeper: CopyKeeper,
): Promise<CopiedDocument> {
  const { manifest, digests } = copiesOf(document.manifest);
  const base = posix.join(realRoot, posix.dirname(document.file));
  for (const { index, from, setDigest } of digests) {
    try {
      const packed = await packCopy(base, from, { within: realRoot });
      await keep(keeper, packed);
      setDigest(packed.digest);
    } catch (error) {
      const { code, message } = asBulkheadError(error);
      const path = `spec.patches[${index}].copy.from`;
      const { file, line, column, key } = document;
      return {
        type: 'failed',
        problem: {
          reason: code === 'INVALID' || code === 'TOO_LARGE' ? 'SourceInvalid' : 'SourceApplyFailed',
          message: `${placeText(document)}${path}: ${message}`,
          ...{ key, file, document: document.document, line, column, path },
        },
      };
    }
  }
  return { type: 'read', document: digests.length === 0 ? document : { ...document, manifest } };
}

async function keep(keeper: CopyKeeper, { digest, bytes }: PackedCopy): Promise<void> {
  if (!(await keeper.has(digest))) await keeper.put(digest, bytes);
}
