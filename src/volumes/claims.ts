// Who may have a volume at the same time. A claim stays in force until it is released, also over restarts.
import { BulkheadError } from '../api/errors.ts';
import type { AccessMode, ClaimMode, VolumeClaim } from './volumes.ts';

/**
 * The claims with one more; the same ones when it is there already. ReadWriteOnce has one holder, ReadOnlyMany has any
 * number that only read. Fails with VOLUME_IN_USE where waiting helps, and with VOLUME_READ_ONLY where it does not.
 */
export function withClaim(
  claims: readonly VolumeClaim[],
  wanted: VolumeClaim,
  accessMode: AccessMode,
): readonly VolumeClaim[] {
  const own = claims.find((each) => each.sandbox === wanted.sandbox);
  if (own?.mode === wanted.mode) return claims;
  if (wanted.mode === 'ReadWrite' && accessMode === 'ReadOnlyMany')
    throw new BulkheadError(
      'VOLUME_READ_ONLY',
      `The volume is ReadOnlyMany: sandbox ${wanted.name} cannot write to it.`,
    );
  const others = claims.filter((each) => each !== own);
  const inTheWay = others.find((each) => accessMode === 'ReadWriteOnce' || each.mode === 'ReadWrite');
  if (inTheWay !== undefined)
    throw new BulkheadError('VOLUME_IN_USE', `The volume is in use by sandbox ${inTheWay.name}.`);
  return [...others, wanted];
}

/** Does one of them write? Then what is on the disk changes at any time. */
export function isWritten(claims: readonly { mode: ClaimMode }[]): boolean {
  return claims.some(({ mode }) => mode === 'ReadWrite');
}
