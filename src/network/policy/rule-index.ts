// Rules by what they name, so that a decision costs the same under one rule as under thousands.
import type { AddressGroup, EgressDestination } from '../../api/networkpolicy.ts';
import { type Address, isSingleAddress, networkOf, parseRange } from './addresses.ts';
import type { EffectiveRule } from './effective.ts';
import type { Decider } from './flow.ts';
import { suffixesOf } from './names.ts';

export interface Entry {
  /** Place of the rule among all: the first that matches is said to decide. */
  readonly order: number;
  readonly rule: EffectiveRule;
  /** The destination as the rule says it. */
  readonly destination: string;
}

export type Accept = (rule: EffectiveRule) => boolean;

export function deciderOf({ rule, destination }: Entry): Decider {
  return { kind: 'Rule', policy: rule.policy, index: rule.index, destination };
}

export function earliest(entries: readonly (Entry | undefined)[]): Entry | undefined {
  let found: Entry | undefined;
  for (const entry of entries)
    if (entry !== undefined && (found === undefined || entry.order < found.order)) found = entry;
  return found;
}

export function textOf({ group, domain, domainSuffix, cidr }: EgressDestination): string {
  return group ?? domain ?? domainSuffix ?? cidr ?? '';
}

class Lists<Key> {
  readonly #lists = new Map<Key, Entry[]>();

  add(key: Key, entry: Entry): void {
    const list = this.#lists.get(key);
    if (list === undefined) this.#lists.set(key, [entry]);
    else list.push(entry);
  }

  /** Entries of a key are in the order of their rules. */
  first(key: Key, accept: Accept): Entry | undefined {
    return this.#lists.get(key)?.find(({ rule }) => accept(rule));
  }

  get size(): number {
    return this.#lists.size;
  }
}

interface PrefixLevel {
  readonly family: 4 | 6;
  readonly prefix: number;
  readonly networks: Lists<bigint>;
}

/** Rules of one action. */
export class RuleIndex {
  readonly #groups = new Lists<AddressGroup>();
  readonly #domains = new Lists<string>();
  readonly #suffixes = new Lists<string>();
  /** At most 33 + 129 of them. */
  readonly #levels: PrefixLevel[] = [];

  constructor(rules: readonly EffectiveRule[]) {
    for (const [order, rule] of rules.entries()) {
      for (const destination of rule.to)
        this.#add(destination, { order, rule, destination: textOf(destination) });
    }
  }

  /** Does any rule name a domain? */
  get namesDomains(): boolean {
    return this.#domains.size + this.#suffixes.size > 0;
  }

  byGroup(group: AddressGroup, accept: Accept): Entry | undefined {
    return this.#groups.first(group, accept);
  }

  /** By the name itself or a suffix of it. */
  byName(name: string, accept: Accept): Entry | undefined {
    const found = [this.#domains.first(name, accept)];
    for (const suffix of suffixesOf(name)) found.push(this.#suffixes.first(suffix, accept));
    return earliest(found);
  }

  /** By a range that holds the address. `single`: only by ranges that are this address and no other. */
  byRange(address: Address, accept: Accept, single: boolean): Entry | undefined {
    return earliest(
      this.#levels
        .filter((level) => level.family === address.family && (!single || isSingleAddress(level)))
        .map(({ prefix, networks }) => networks.first(networkOf(address, prefix), accept)),
    );
  }

  #add({ group, domain, domainSuffix, cidr }: EgressDestination, entry: Entry): void {
    if (group !== undefined) this.#groups.add(group, entry);
    if (domain !== undefined) this.#domains.add(domain, entry);
    if (domainSuffix !== undefined) this.#suffixes.add(domainSuffix, entry);
    const range = cidr === undefined ? undefined : parseRange(cidr);
    if (range === undefined) return;
    const { family, prefix, value } = range;
    let level = this.#levels.find((each) => each.family === family && each.prefix === prefix);
    if (level === undefined) {
      level = { family, prefix, networks: new Lists() };
      this.#levels.push(level);
    }
    level.networks.add(value, entry);
  }
}

/** Names of block lists, each with the policy that lists it. */
export class BlockIndex {
  readonly #domains = new Map<string, string>();
  readonly #suffixes = new Map<string, string>();

  constructor(lists: readonly { policy: string; domains: readonly string[]; suffixes: readonly string[] }[]) {
    for (const { policy, domains, suffixes } of lists) {
      for (const domain of domains) if (!this.#domains.has(domain)) this.#domains.set(domain, policy);
      for (const suffix of suffixes) if (!this.#suffixes.has(suffix)) this.#suffixes.set(suffix, policy);
    }
  }

  get isEmpty(): boolean {
    return this.#domains.size + this.#suffixes.size === 0;
  }

  find(name: string): Decider | undefined {
    const policy = this.#domains.get(name);
    if (policy !== undefined) return { kind: 'BlockList', policy, entry: name };
    for (const suffix of suffixesOf(name)) {
      const of = this.#suffixes.get(suffix);
      if (of !== undefined) return { kind: 'BlockList', policy: of, entry: suffix };
    }
    return undefined;
  }
}
