// Evaluates the CEL rules of the schemas in process: the same text that Kubernetes' API server evaluates from the CRDs.
import { isIP } from 'node:net';
import { type CelInput, CelScalar, celEnv, celFunc, celMethod, isCelError, parse, plan } from '@bufbuild/cel';
import { compareQuantities, isQuantity, parseQuantity } from '../quantity.ts';
import { isRecord, mapValues, type StructuralSchema } from './structural.ts';

const { BOOL, DYN, INT, STRING } = CelScalar;

/** IPv4 in IPv6 clothes, which Kubernetes refuses: one address must not have two spellings. */
const MAPPED = /^\[::ffff:[0-9a-f]{1,4}:[0-9a-f]{1,4}\]$/;

/** Address in the strict form that Kubernetes' `isIP` takes: no zone, no IPv4-mapped IPv6. */
export function isAddress(text: string): boolean {
  const family = isIP(text);
  if (family !== 6) return family === 4;
  return !text.includes('%') && !MAPPED.test(new URL(`http://[${text}]`).hostname);
}

/** Address range in the strict form that Kubernetes' `isCIDR` takes. */
export function isCidr(text: string): boolean {
  const [address = '', prefix, ...rest] = text.split('/');
  if (!isAddress(address) || prefix === undefined || rest.length > 0) return false;
  return /^(0|[1-9]\d{0,2})$/.test(prefix) && Number(prefix) <= (isIP(address) === 4 ? 32 : 128);
}

/** What the rules use of Kubernetes' CEL libraries beside the standard ones. */
const FUNCTIONS = [
  // A quantity is carried as its text: nothing here needs more of it than comparison.
  celFunc('quantity', [STRING], STRING, (text) => {
    parseQuantity(text);
    return text;
  }),
  celFunc('isQuantity', [STRING], BOOL, isQuantity),
  celMethod('compareTo', STRING, [STRING], INT, function (this: string, other: string) {
    return BigInt(compareQuantities(this, other));
  }),
  celFunc('isIP', [STRING], BOOL, isAddress),
  celFunc('isCIDR', [STRING], BOOL, isCidr),
];

const environment = celEnv({ variables: { self: DYN, oldSelf: DYN }, funcs: FUNCTIONS });

/** `true`: the rule holds. A string: why it could not be evaluated. */
export type RuleResult = boolean | string;
export type CompiledRule = (self: unknown, oldSelf: unknown) => RuleResult;

/** Parses and plans a rule once. Throws for a rule that is not CEL: a mistake in our schemas, found by the tests. */
export function compileRule(rule: string): CompiledRule {
  const evaluate = plan(environment, parse(rule));
  return (self, oldSelf) => {
    const result = evaluate({ self: self as CelInput, oldSelf: oldSelf as CelInput });
    if (isCelError(result)) return result.message;
    return typeof result === 'boolean' ? result : 'the rule gave no boolean';
  };
}

/** Does the rule compare with the former object? Such rules run on updates only, as in Kubernetes. */
export function isTransitionRule(rule: string): boolean {
  return /\boldSelf\b/.test(rule);
}

/** The value as CEL sees it through the schema: integers are `int`, everything else is what it is. */
export function toCelValue(schema: StructuralSchema, value: unknown): unknown {
  if (typeof value === 'number') return schema.type === 'integer' ? BigInt(value) : value;
  if (Array.isArray(value)) {
    const items = schema.items ?? {};
    return value.map((item: unknown) => toCelValue(items, item));
  }
  if (!isRecord(value)) return value;
  const values = mapValues(schema);
  return new Map(
    Object.entries(value).map(([name, child]) => [
      name,
      toCelValue(schema.properties?.[name] ?? values ?? {}, child),
    ]),
  );
}
