// The part of a JSON Schema that the walks over it read.
import type { CelRule } from '../schema.ts';

export interface StructuralSchema {
  type?: string;
  description?: string;
  default?: unknown;
  nullable?: boolean;
  format?: string;
  properties?: Record<string, StructuralSchema>;
  required?: readonly string[];
  additionalProperties?: boolean | StructuralSchema;
  /** Of the keys of a map; ours alone, no CRD has it. */
  propertyNames?: StructuralSchema;
  items?: StructuralSchema;
  enum?: readonly unknown[];
  const?: unknown;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  minProperties?: number;
  maxProperties?: number;
  pattern?: string;
  'x-bulkhead-expected'?: string;
  'x-kubernetes-validations'?: readonly CelRule[];
  'x-kubernetes-list-type'?: 'atomic' | 'set' | 'map';
  'x-kubernetes-list-map-keys'?: readonly string[];
}

/** A TypeBox schema as the plain JSON Schema that it is. */
export function asStructural(schema: object): StructuralSchema {
  return schema;
}

/** A mapping as YAML and JSON give it. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Schema of the values of a map; `undefined` for a schema that is no map. */
export function mapValues(schema: StructuralSchema): StructuralSchema | undefined {
  return typeof schema.additionalProperties === 'object' ? schema.additionalProperties : undefined;
}
