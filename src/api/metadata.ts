// Schema of `metadata` as manifests may write it. Kubernetes checks metadata itself, so none of this goes into a CRD. What
// names, labels and the like may hold is checked by validation/metadata-check.ts, in Kubernetes' words.
import { Type } from 'typebox';
import {
  DNS_SUBDOMAIN_MAX,
  flag,
  INT32_MAX,
  integer,
  list,
  object,
  SAFE_INTEGER_MAX,
  text,
} from './schema.ts';

/** A finalizer is a label key: prefix (253), slash and name (63). */
const QUALIFIED_NAME_MAX = 317;
const LABELS_MAX = 256;
const METADATA_LIST_MAX = 64;
/** Kubernetes' bound for all annotations together. */
export const ANNOTATIONS_MAX_BYTES = 262_144;

function keyedTexts(description: string, value: Record<string, unknown>) {
  return Type.Optional(
    Type.Unsafe<Record<string, string>>({
      type: 'object',
      description,
      maxProperties: LABELS_MAX,
      additionalProperties: { type: 'string', ...value },
    }),
  );
}

/** Set by servers; manifests that were exported from one carry them, and they are without effect. */
const serverSide = {
  generation: Type.Optional(
    integer({ description: 'Set by the server.', minimum: 0, maximum: SAFE_INTEGER_MAX }),
  ),
  creationTimestamp: Type.Optional(text({ description: 'Set by the server.', maxLength: 64 })),
  deletionTimestamp: Type.Optional(text({ description: 'Set by the server.', maxLength: 64 })),
  deletionGracePeriodSeconds: Type.Optional(
    integer({ description: 'Set by the server.', minimum: 0, maximum: INT32_MAX }),
  ),
  selfLink: Type.Optional(text({ description: 'Set by old servers.', maxLength: 1024 })),
  managedFields: Type.Optional(Type.Unsafe<unknown[]>({ type: 'array', maxItems: 256 })),
};

export const MetadataSchema = object(
  {
    name: Type.Optional(
      Type.Unsafe<string>({
        type: 'string',
        description: 'Name of the object, unique in its kind and namespace. Required.',
      }),
    ),
    namespace: Type.Optional(
      Type.Unsafe<string>({ type: 'string', description: 'Namespace of the object.' }),
    ),
    labels: keyedTexts('Labels, by which objects are selected.', {}),
    annotations: keyedTexts('Annotations: notes of people and tools.', { maxLength: ANNOTATIONS_MAX_BYTES }),
    finalizers: Type.Optional(
      list(text({ description: 'Name of a guard.', maxLength: QUALIFIED_NAME_MAX }), {
        description: 'What must be done before the object goes.',
        maxItems: METADATA_LIST_MAX,
      }),
    ),
    ownerReferences: Type.Optional(
      list(
        object(
          {
            apiVersion: text({ description: 'API version of the owner.', minLength: 1, maxLength: 317 }),
            kind: text({ description: 'Kind of the owner.', minLength: 1, maxLength: 63 }),
            name: text({ description: 'Name of the owner.', minLength: 1, maxLength: DNS_SUBDOMAIN_MAX }),
            uid: text({ description: 'Uid of the owner.', minLength: 1, maxLength: 128 }),
            controller: Type.Optional(flag({ description: 'Is the owner the controller of this object?' })),
            blockOwnerDeletion: Type.Optional(
              flag({ description: 'Must this object go before its owner can?' }),
            ),
          },
          { description: 'One owner.' },
        ),
        { description: 'Objects with which this one goes.', maxItems: METADATA_LIST_MAX },
      ),
    ),
    uid: Type.Optional(
      text({
        description: 'Set by the server; in an update a precondition.',
        minLength: 1,
        maxLength: 128,
        pattern: '^[A-Za-z0-9-]+$',
        expected: 'a uid of letters, digits and "-"',
      }),
    ),
    resourceVersion: Type.Optional(
      text({ description: 'Set by the server; in an update a precondition.', maxLength: 128 }),
    ),
    ...serverSide,
  },
  { description: 'Name, namespace, labels and annotations.' },
);
