// Walks a value beside its schema for what JSON Schema cannot say: unique list items and CEL rules. The schema is compiled
// into a tree of only those nodes that have something to check, so that a plain object costs next to nothing.
import type { CelRule } from '../schema.ts';
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

/** Paths at or below which the schema already found mistakes: rules there could only add confusion. */
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
  if (uniqueBy === 'item') return JSON.stringify(item);
  return JSON.stringify(isRecord(item) ? uniqueBy.map((name) => item[name]) : [item]);
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
    const seen = new Map<string, number>();
    for (const [index, item] of value.entries()) {
      const itemPath = [...path, index];
      if (this.#isBroken(itemPath)) continue;
      const key = keyOf(item, uniqueBy);
      const first = seen.get(key);
      if (first === undefined) {
        seen.set(key, index);
        continue;
      }
      const [name] = uniqueBy === 'item' ? [] : uniqueBy;
      const duplicate = name !== undefined && isRecord(item) ? item[name] : item;
      const found = describeFound(duplicate, false);
      const what = name ?? 'the item';
      this.errors.push({
        reason: 'FieldValueDuplicate',
        path: itemPath,
        message: `found ${what} ${found} again (first in item ${first}); remove or rename one`,
        found,
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
      this.errors.push({
        reason: 'FieldValueInvalid',
        path: [...path, ...fieldPath],
        message: result === false ? rule.message : `${rule.message} (the rule failed: ${result})`,
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
