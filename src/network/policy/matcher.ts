// An effective policy made ready for decisions, once for each object that comes in.
import type { EffectivePolicy } from './effective.ts';
import { BlockIndex, RuleIndex } from './rule-index.ts';

export interface Matcher {
  readonly allow: RuleIndex;
  readonly deny: RuleIndex;
  readonly blocked: BlockIndex;
}

const MATCHERS = new WeakMap<EffectivePolicy, Matcher>();

export function matcherOf(effective: EffectivePolicy): Matcher {
  const known = MATCHERS.get(effective);
  if (known !== undefined) return known;
  const matcher = {
    allow: new RuleIndex(effective.rules.filter(({ action }) => action === 'Allow')),
    deny: new RuleIndex(effective.rules.filter(({ action }) => action === 'Deny')),
    blocked: new BlockIndex(effective.dns.blockLists),
  };
  MATCHERS.set(effective, matcher);
  return matcher;
}
