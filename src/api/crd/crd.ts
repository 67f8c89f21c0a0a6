// CustomResourceDefinitions from the schemas of the kinds.
import { COLUMNS } from '../columns.ts';
import { NETWORK_POLICY_KIND, SANDBOX_KIND, VOLUME_KIND } from '../kinds.ts';
import { NetworkPolicySchema } from '../networkpolicy.ts';
import { SandboxSchema } from '../sandbox.ts';
import { EXPECTED_KEYWORD } from '../schema.ts';
import { asStructural, isRecord } from '../validation/structural.ts';
import { VolumeSchema } from '../volume.ts';

/** Lets `kubectl get bulkhead` list all our kinds. Not in `all`: `kubectl delete all` must not take sandboxes along. */
const CATEGORY = 'bulkhead';

/** An object without a status would count as settled by the rules of kstatus, before anybody saw it. */
const NEVER_OBSERVED = { observedGeneration: -1 };

/** Kinds that Kubernetes has to be taught, with the fields by which they can be listed (`--field-selector`). */
export const CRD_KINDS = [
  {
    kind: SANDBOX_KIND,
    schema: asStructural(SandboxSchema),
    selectable: ['.spec.driver', '.spec.operatingMode', '.status.nodeName', '.status.phase'],
  },
  {
    kind: VOLUME_KIND,
    schema: asStructural(VolumeSchema),
    selectable: ['.status.nodeName', '.status.phase'],
  },
  { kind: NETWORK_POLICY_KIND, schema: asStructural(NetworkPolicySchema), selectable: [] },
] as const;

/** The schema as Kubernetes takes it: unknown fields are refused by strict decoding there, not by the schema. */
function toOpenApi(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(toOpenApi);
  if (!isRecord(schema)) return schema;
  return Object.fromEntries(
    Object.entries(schema)
      .filter(
        ([name, value]) => name !== EXPECTED_KEYWORD && !(name === 'additionalProperties' && value === false),
      )
      .map(([name, value]) => [name, name === 'default' ? value : toOpenApi(value)]),
  );
}

/** Kubernetes' own fields, with the descriptions that kubectl shows for them. */
const OBJECT_FIELDS = {
  apiVersion: { type: 'string', description: 'Version of the schema of this object.' },
  kind: { type: 'string', description: 'Kind of this object.' },
  metadata: { type: 'object' },
};

export function buildCrd({ kind, schema, selectable }: (typeof CRD_KINDS)[number]): Record<string, unknown> {
  const { status, ...properties } = toOpenApi(schema.properties) as Record<string, Record<string, unknown>>;
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${kind.plural}.${kind.group}` },
    spec: {
      group: kind.group,
      names: {
        kind: kind.kind,
        listKind: `${kind.kind}List`,
        plural: kind.plural,
        singular: kind.singular,
        shortNames: [...kind.shortNames],
        categories: [CATEGORY],
      },
      scope: 'Namespaced',
      versions: [
        {
          name: kind.version,
          served: true,
          storage: true,
          schema: {
            openAPIV3Schema: {
              type: 'object',
              description: schema.description,
              required: ['spec'],
              properties: { ...OBJECT_FIELDS, ...properties, status: { ...status, default: NEVER_OBSERVED } },
            },
          },
          subresources: { status: {} },
          ...(selectable.length === 0
            ? {}
            : { selectableFields: selectable.map((jsonPath) => ({ jsonPath })) }),
          additionalPrinterColumns: COLUMNS[kind.kind].map((column) => ({
            name: column.name,
            type: column.type,
            jsonPath: column.jsonPath,
            ...(column.wide === true ? { priority: 1 } : {}),
          })),
        },
      ],
    },
  };
}
