// Filling in defaults, with Kubernetes' rules, for the folder, the server and the cluster alike.
import { isRecord, mapValues, type StructuralSchema } from './validation/structural.ts';

/**
 * A copy of the value with the schema's defaults. As in Kubernetes: a null where null is no value of the field counts as
 * absent, and a default is itself completed from the defaults below it. What does not fit the schema stays as it is, for the
 * validator to name.
 */
export function applyDefaults(schema: StructuralSchema, value: unknown): unknown {
  if (Array.isArray(value)) {
    const { items } = schema;
    return items === undefined ? value : value.map((item: unknown) => applyDefaults(items, item));
  }
  if (!isRecord(value)) return value;
  const { properties } = schema;
  if (properties === undefined) {
    const values = mapValues(schema);
    if (values?.nullable === true || values === undefined) return value;
    return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== null));
  }
  // The order of the document is kept, so that what people wrote stays recognisable; defaults come after it.
  const result: Record<string, unknown> = { ...value };
  for (const [name, property] of Object.entries(properties)) {
    let child = Object.hasOwn(result, name) ? result[name] : undefined;
    if (child === null && property.nullable !== true) {
      child = undefined;
      delete result[name];
    }
    if (child === undefined) child = copyOf(property.default);
    if (child !== undefined) result[name] = applyDefaults(property, child);
  }
  return result;
}

/** Defaults are shared between objects only where nothing can change them. */
function copyOf(value: unknown): unknown {
  return typeof value === 'object' && value !== null ? structuredClone(value) : value;
}
