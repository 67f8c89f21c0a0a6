// What of an upstream's answer a sandbox is told: the chain of aliases from the name it asked for, and at its end the records of
// the type it asked for; every alias and every address decided by the policy.
import { decideAlias, decideAnswer } from '../policy/decide.ts';
import type { EffectivePolicy } from '../policy/effective.ts';
import type { Decider } from '../policy/flow.ts';
import { normalizeName } from '../policy/names.ts';
import { CHAIN_MAX, RECORDS_MAX } from './limits.ts';
import { type DnsRecord, SVCB_TYPES } from './message.ts';
import { stripServiceBinding } from './service-binding.ts';

export interface FilteredAnswer {
  readonly records: readonly DnsRecord[];
  /** Of the records that are A or AAAA. */
  readonly addresses: readonly string[];
  /** Why something was left out. With no record of the asked type left, the whole answer counts as blocked by it. */
  readonly withheld?: Decider;
}

/** Records of an answer that belong to the question, in the order of the chain. */
function followChain(name: string, type: string, answers: readonly DnsRecord[]): DnsRecord[] {
  const chain: DnsRecord[] = [];
  let owner = name;
  const seen = new Set<string>();
  while (!seen.has(owner) && seen.size < CHAIN_MAX) {
    seen.add(owner);
    const here = owner;
    const found = answers.filter((record) => record.name === here && record.type === type);
    if (found.length > 0) return [...chain, ...found.slice(0, RECORDS_MAX)];
    const alias = answers.find((record) => record.name === here && record.type === 'CNAME');
    const target = typeof alias?.data === 'string' ? normalizeName(alias.data) : undefined;
    if (alias === undefined || target === undefined) break;
    chain.push({ ...alias, data: target });
    owner = target;
  }
  return chain;
}

interface Kept {
  readonly record?: DnsRecord;
  readonly address?: string;
  readonly withheld?: Decider;
}

export function filterAnswer(
  effective: EffectivePolicy,
  isHostAddress: (address: string) => boolean,
  { name, type }: { readonly name: string; readonly type: string },
  answers: readonly DnsRecord[],
): FilteredAnswer {
  const chain = followChain(name, type, answers);
  const kept = chain.map((record) => keep(effective, isHostAddress, record));
  // A denied alias closes what stands behind it, all of the answer.
  const alias = kept.find((each, index) => each.withheld !== undefined && chain[index]?.type === 'CNAME');
  if (alias?.withheld !== undefined) return { records: [], addresses: [], withheld: alias.withheld };
  const withheld = kept.find((each) => each.withheld !== undefined)?.withheld;
  return {
    records: kept.flatMap(({ record }) => record ?? []),
    addresses: kept.flatMap(({ address }) => address ?? []),
    ...(withheld === undefined ? {} : { withheld }),
  };
}

function keep(
  effective: EffectivePolicy,
  isHostAddress: (address: string) => boolean,
  record: DnsRecord,
): Kept {
  const { type, data } = record;
  if (type === 'A' || type === 'AAAA') {
    const address = String(data);
    const { allowed, by } = decideAnswer(effective, address, isHostAddress(address));
    return allowed ? { record, address } : { withheld: by };
  }
  if (type === 'CNAME') return keepAlias(effective, record, String(data));
  if (SVCB_TYPES.includes(type)) {
    const binding = Buffer.isBuffer(data) ? stripServiceBinding(data) : undefined;
    if (binding === undefined) return {};
    const stripped = { ...record, data: binding.data };
    return binding.target === undefined
      ? { record: stripped }
      : keepAlias(effective, stripped, binding.target);
  }
  return { record };
}

function keepAlias(effective: EffectivePolicy, record: DnsRecord, target: string): Kept {
  const by = decideAlias(effective, target);
  return by === undefined ? { record } : { withheld: by };
}
