// The addresses of this host, which come and go while the gateway lives.
import { networkInterfaces } from 'node:os';
import type { Clock } from '../../controller/clock.ts';
import { addressKey, parseAddress } from '../policy/addresses.ts';
import { HOST_ADDRESSES_MS } from './limits.ts';

/** Says of an address, in any form, whether it is one of this host. */
export function hostAddresses(
  clock: Pick<Clock, 'monotonic'>,
  interfaces: typeof networkInterfaces = networkInterfaces,
): (address: string) => boolean {
  let known: ReadonlySet<string> = new Set();
  let until = Number.NEGATIVE_INFINITY;
  return (address) => {
    const now = clock.monotonic();
    if (now >= until) {
      known = new Set(
        Object.values(interfaces()).flatMap((list) => (list ?? []).map((each) => keyOf(each.address))),
      );
      until = now + HOST_ADDRESSES_MS;
    }
    const key = keyOf(address);
    return key !== '' && known.has(key);
  };
}

function keyOf(address: string): string {
  const parsed = parseAddress(address);
  return parsed === undefined ? '' : addressKey(parsed);
}
