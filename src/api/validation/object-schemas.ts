// One checker per kind for whole objects, compiled on first use so that starting a program costs none of it.
import { Type } from 'typebox';
import { ConfigMapSchema, SecretSchema } from '../core.ts';
import { apiVersionOf, type KindName, kindNamed } from '../kinds.ts';
import { MetadataSchema } from '../metadata.ts';
import { NetworkPolicySpecSchema } from '../networkpolicy.ts';
import { SandboxSpecSchema } from '../sandbox.ts';
import { object } from '../schema.ts';
import { VolumeSpecSchema } from '../volume.ts';
import { compileRules, type RuleChecker } from './rules.ts';
import { compileSchema, type SchemaChecker } from './schema-check.ts';
import { asStructural, type StructuralSchema } from './structural.ts';

/** What each kind holds beside apiVersion, kind and metadata. */
const CONTENTS = {
  Sandbox: { spec: SandboxSpecSchema },
  Volume: { spec: VolumeSpecSchema },
  NetworkPolicy: { spec: NetworkPolicySpecSchema },
  Secret: SecretSchema.properties,
  ConfigMap: ConfigMapSchema.properties,
} as const satisfies Record<KindName, unknown>;

export interface ObjectChecker {
  /** Of the whole object. */
  schema: StructuralSchema;
  checkSchema: SchemaChecker;
  checkRules: RuleChecker;
}

const checkers = new Map<KindName, ObjectChecker>();

/** Status has a writer of its own: in a manifest it is let through and has no effect, as in Kubernetes. */
const ignoredStatus = Type.Optional(Type.Unsafe<unknown>({ description: 'Ignored.' }));

function constant(value: string, description: string) {
  return Type.Unsafe<string>({ type: 'string', const: value, description });
}

function compile(kind: KindName): ObjectChecker {
  const row = kindNamed(kind);
  const schema = asStructural(
    object(
      {
        apiVersion: constant(row === undefined ? '' : apiVersionOf(row), 'Version of the schema.'),
        kind: constant(kind, 'Kind of the object.'),
        // That there is a name is said by the check of metadata, as for an empty one.
        metadata: Type.Optional(MetadataSchema),
        ...CONTENTS[kind],
        status: ignoredStatus,
      },
      { description: kind },
    ),
  );
  return {
    schema,
    checkSchema: compileSchema(schema, { hideValues: kind === 'Secret' }),
    checkRules: compileRules(schema),
  };
}

export function checkerOf(kind: KindName): ObjectChecker {
  let checker = checkers.get(kind);
  if (checker === undefined) {
    checker = compile(kind);
    checkers.set(kind, checker);
  }
  return checker;
}
