// The core v1 documents that folder mode accepts because Sandboxes refer to them: Secret and ConfigMap.
import { type Static, Type } from 'typebox';
import { flag, object, stringMap, text } from './schema.ts';

/** Kubernetes' own bound for the data of one Secret or ConfigMap. */
export const CORE_DATA_MAX_BYTES = 1_048_576;
const KEYS_MAX = 1024;

const immutable = Type.Optional(flag({ description: 'Refuses changes of the data.', default: false }));

export const SecretSchema = object(
  {
    type: Type.Optional(
      text({
        description: 'What it is for, e.g. kubernetes.io/dockerconfigjson.',
        default: 'Opaque',
        maxLength: 253,
      }),
    ),
    data: Type.Optional(
      stringMap({
        description: 'Values in base64.',
        maxProperties: KEYS_MAX,
        maxValueLength: (CORE_DATA_MAX_BYTES / 3) * 4 + 4,
      }),
    ),
    stringData: Type.Optional(
      stringMap({
        description: 'Values as plain text; they win over data.',
        maxProperties: KEYS_MAX,
        maxValueLength: CORE_DATA_MAX_BYTES,
      }),
    ),
    immutable,
  },
  { description: 'Small values that must stay secret.' },
);

export const ConfigMapSchema = object(
  {
    data: Type.Optional(
      stringMap({
        description: 'Values as plain text.',
        maxProperties: KEYS_MAX,
        maxValueLength: CORE_DATA_MAX_BYTES,
      }),
    ),
    binaryData: Type.Optional(
      stringMap({
        description: 'Values in base64.',
        maxProperties: KEYS_MAX,
        maxValueLength: (CORE_DATA_MAX_BYTES / 3) * 4 + 4,
      }),
    ),
    immutable,
  },
  { description: 'Small values that are no secret.' },
);

export type SecretContent = Static<typeof SecretSchema>;
export type ConfigMapContent = Static<typeof ConfigMapSchema>;
