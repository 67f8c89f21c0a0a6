// Which names a sandbox resolved to which addresses: what makes a rule for a name hold for a connection to an address.
import type { Clock } from '../../controller/clock.ts';
import { addressKey, parseAddress } from '../policy/addresses.ts';
import { ADDRESSES_MAX, NAME_HOLD_GRACE_S, NAME_HOLD_MIN_S, NAMES_PER_ADDRESS_MAX } from './limits.ts';

export class AddressNames {
  readonly #clock: Clock;
  /** Names with the monotonic time at which each ends. Least recently told first, in both. */
  readonly #addresses = new Map<string, Map<string, number>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The sandbox was told that the name has this address, for so many seconds. */
  record(address: string, name: string, ttlSeconds: number): void {
    const parsed = parseAddress(address);
    if (parsed === undefined) return;
    const key = addressKey(parsed);
    const names = this.#addresses.get(key) ?? new Map<string, number>();
    this.#addresses.delete(key);
    this.#addresses.set(key, names);
    const ends =
      this.#clock.monotonic() + (Math.max(ttlSeconds, NAME_HOLD_MIN_S) + NAME_HOLD_GRACE_S) * 1_000;
    const former = names.get(name) ?? 0;
    names.delete(name);
    names.set(name, Math.max(former, ends));
    dropOldest(names, NAMES_PER_ADDRESS_MAX);
    dropOldest(this.#addresses, ADDRESSES_MAX);
  }

  /** Names whose answers still count. */
  namesOf(address: string): string[] {
    const parsed = parseAddress(address);
    const names = parsed === undefined ? undefined : this.#addresses.get(addressKey(parsed));
    if (names === undefined) return [];
    const now = this.#clock.monotonic();
    for (const [name, ends] of names) if (ends <= now) names.delete(name);
    return [...names.keys()];
  }

  /** Addresses that are remembered, ended ones included. */
  get size(): number {
    return this.#addresses.size;
  }
}

function dropOldest(map: Map<string, unknown>, max: number): void {
  for (const key of map.keys()) {
    if (map.size <= max) return;
    map.delete(key);
  }
}
