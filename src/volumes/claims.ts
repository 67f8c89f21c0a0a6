// Who may have a volume at the same time. A claim stays in force until it is released, also over restarts.
import { BulkheadError } from '../api/errors.ts';
import type { AccessMode, VolumeClaim } from './volumes.ts';

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
  if (own?.mode === wanted.mode && own.resting === wanted.resting) return claims;
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
export function isWritten(claims: readonly VolumeClaim[]): boolean {
  return claims.some(({ mode, resting }) => mode === 'ReadWrite' && resting !== true);
}

/** The claims with all of one sandbox at rest; the same ones when they are. */
export function withRest(claims: readonly VolumeClaim[], sandbox: string): readonly VolumeClaim[] {
  const wakes = (each: VolumeClaim) => each.sandbox === sandbox && each.resting !== true;
  return claims.some(wakes)
    ? claims.map((each) => (wakes(each) ? { ...each, resting: true } : each))
    : claims;
}

/** Throws VOLUME_IN_USE while a VM may have the disk. */
export function refuseAttached(claims: readonly VolumeClaim[]): void {
  refuse(claims.find(({ resting }) => resting !== true));
}

/** Throws VOLUME_IN_USE while a sandbox has a claim, be it at rest. */
export function refuseClaimed([claim]: readonly VolumeClaim[]): void {
  refuse(claim);
}

function refuse(claim: VolumeClaim | undefined): void {
  if (claim !== undefined)
    throw new BulkheadError('VOLUME_IN_USE', `The volume is in use by sandbox ${claim.name}.`);
}
