// Walks a value beside its schema for what JSON Schema cannot say: unique list items and CEL rules. The schema is compiled
// into a tree of only those nodes that have something to check, so that a plain object costs next to nothing.
import type { CelRule } from '../schema.ts';
import { duplicateValue, invalidValue, invalidWithoutValue } from './api-words.ts';
import { type CompiledRule, compileRule, isTransitionRule, toCelValue } from './cel.ts';
import { describeFound, type FieldError, type PathSegment } from './field-error.ts';
import { isRecord, mapValues, type StructuralSchema } from './structural.ts';

interface PlannedRule {
  rule: CelRule;
  evaluate: CompiledRule;
  transition: boolean;
  fieldPath: readonly string[];
}

interface Plan {
  schema: StructuralSchema;
  rules: readonly PlannedRule[];
  /** Fields that tell items apart; for a set, the item itself does. */
  uniqueBy: readonly string[] | 'item' | undefined;
  properties: readonly (readonly [string, Plan])[];
  items: Plan | undefined;
  values: Plan | undefined;
}

/**
 * Is there a mistake at or below this path that rules cannot be evaluated beside? Kubernetes then evaluates none of the
 * whole object; here those of other parts are, so that all mistakes are seen at once.
 */
export type IsBroken = (path: readonly PathSegment[]) => boolean;

function planRule(rule: CelRule): PlannedRule {
  return {
    rule,
    evaluate: compileRule(rule.rule),
    transition: isTransitionRule(rule.rule),
    fieldPath: (rule.fieldPath ?? '').split('.').filter((part) => part !== ''),
  };
}

function planOf(schema: StructuralSchema): Plan | undefined {
  const rules = (schema['x-kubernetes-validations'] ?? []).map(planRule);
  const listType = schema['x-kubernetes-list-type'];
  const uniqueBy =
    listType === 'map' ? schema['x-kubernetes-list-map-keys'] : listType === 'set' ? 'item' : undefined;
  const properties: [string, Plan][] = [];
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    const plan = planOf(property);
    if (plan !== undefined) properties.push([name, plan]);
  }
  const items = schema.items === undefined ? undefined : planOf(schema.items);
  const valueSchema = mapValues(schema);
  const values = valueSchema === undefined ? undefined : planOf(valueSchema);
  const empty =
    rules.length === 0 &&
    uniqueBy === undefined &&
    properties.length === 0 &&
    items === undefined &&
    values === undefined;
  return empty ? undefined : { schema, rules, uniqueBy, properties, items, values };
}

function keyOf(item: unknown, uniqueBy: readonly string[] | 'item'): string {
  return JSON.stringify(uniqueBy === 'item' ? item : keysOf(item, uniqueBy));
}

/** The fields that tell an item apart, as far as it has them. */
function keysOf(item: unknown, names: readonly string[]): Record<string, unknown> {
  if (!isRecord(item)) return {};
  return Object.fromEntries(
    names.filter((name) => Object.hasOwn(item, name)).map((name) => [name, item[name]]),
  );
}

/** Checks everything that the schema's rules say. `oldValue` is the former object's part; absent on creation. */
export type RuleChecker = (value: unknown, oldValue: unknown, isBroken: IsBroken) => FieldError[];

class Walk {
  readonly errors: FieldError[] = [];
  readonly #isBroken: IsBroken;

  constructor(isBroken: IsBroken) {
    this.#isBroken = isBroken;
  }

  visit(plan: Plan, path: readonly PathSegment[], value: unknown, oldValue: unknown): void {
    if (Array.isArray(value)) this.#list(plan, path, value, oldValue);
    else if (isRecord(value)) {
      const old = isRecord(oldValue) ? oldValue : {};
      for (const [name, child] of plan.properties) {
        if (value[name] !== undefined) this.visit(child, [...path, name], value[name], old[name]);
      }
      if (plan.values !== undefined) {
        for (const [name, child] of Object.entries(value)) {
          this.visit(plan.values, [...path, name], child, old[name]);
        }
      }
    }
    if (plan.rules.length > 0 && !this.#isBroken(path)) this.#rules(plan, path, value, oldValue);
  }

  #list(plan: Plan, path: readonly PathSegment[], value: readonly unknown[], oldValue: unknown): void {
    const former = new Map<string, unknown>();
    const { uniqueBy } = plan;
    if (uniqueBy !== undefined) {
      // Only items of a keyed list have a former self: in others nothing tells which one it was.
      if (uniqueBy !== 'item' && Array.isArray(oldValue)) {
        for (const item of oldValue) former.set(keyOf(item, uniqueBy), item);
      }
      this.#duplicates(uniqueBy, path, value);
    }
    const { items } = plan;
    if (items === undefined) return;
    for (const [index, item] of value.entries()) {
      const old = uniqueBy === undefined ? undefined : former.get(keyOf(item, uniqueBy));
      this.visit(items, [...path, index], item, old);
    }
  }

  #duplicates(
    uniqueBy: readonly string[] | 'item',
    path: readonly PathSegment[],
    value: readonly unknown[],
  ): void {
    const stranger = uniqueBy === 'item' ? -1 : value.findIndex((item) => item !== null && !isRecord(item));
    if (stranger !== -1) {
      const detail = 'must be an object for an array of list-type map';
      this.errors.push({
        reason: 'FieldValueInvalid',
        path: [...path, stranger],
        message: invalidValue(value[stranger], detail),
      });
      return;
    }
    const seen = new Map<string, { index: number; repeated: boolean }>();
    for (const [index, item] of value.entries()) {
      const itemPath = [...path, index];
      const key = keyOf(item, uniqueBy);
      const first = seen.get(key);
      if (first === undefined) {
        seen.set(key, { index, repeated: false });
        continue;
      }
      // As in Kubernetes, what is there a third time has been said.
      if (first.repeated) continue;
      first.repeated = true;
      const duplicate = uniqueBy === 'item' ? item : keysOf(item, uniqueBy);
      this.errors.push({
        reason: 'FieldValueDuplicate',
        path: itemPath,
        message: duplicateValue(duplicate),
        hint: `the same as item ${first.index}; remove or rename one`,
        found: describeFound(uniqueBy === 'item' ? item : Object.values(keysOf(item, uniqueBy))[0], false),
        expected: 'no item twice',
      });
    }
  }

  #rules(plan: Plan, path: readonly PathSegment[], value: unknown, oldValue: unknown): void {
    const self = toCelValue(plan.schema, value);
    const oldSelf = oldValue === undefined ? null : toCelValue(plan.schema, oldValue);
    for (const { rule, evaluate, transition, fieldPath } of plan.rules) {
      if (transition && oldValue === undefined) continue;
      const result = evaluate(self, oldSelf);
      if (result === true) continue;
      const detail = result === false ? rule.message : `${rule.message} (the rule failed: ${result})`;
      const withoutValue = Array.isArray(value) || isRecord(value);
      this.errors.push({
        reason: 'FieldValueInvalid',
        path: [...path, ...fieldPath],
        message: withoutValue ? invalidWithoutValue(detail) : invalidValue(value, detail),
      });
    }
  }
}

/** Compiles the rules of a schema once. */
export function compileRules(schema: StructuralSchema): RuleChecker {
  const plan = planOf(schema);
  return (value, oldValue, isBroken) => {
    if (plan === undefined) return [];
    const walk = new Walk(isBroken);
    walk.visit(plan, [], value, oldValue);
    return walk.errors;
  };
}
