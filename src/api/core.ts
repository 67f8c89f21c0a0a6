// The core v1 documents that folder mode accepts because Sandboxes refer to them: Secret and ConfigMap.
import { type Static, Type } from 'typebox';
import { object, stringMap, text } from './schema.ts';

/** Kubernetes' own bound for the data of one Secret or ConfigMap. */
export const CORE_DATA_MAX_BYTES = 1_048_576;
/** The same in base64, without line breaks. */
export const CORE_DATA_MAX_BASE64 = Math.ceil(CORE_DATA_MAX_BYTES / 3) * 4;
const KEYS_MAX = 1024;
const KEY_MAX = 253;

/** Keys become file names and variables: no slash, and not `.` or `..`. */
const dataKey = {
  type: 'string',
  maxLength: KEY_MAX,
  pattern: '^([-a-zA-Z0-9_]|[.][-a-zA-Z0-9_]|[.][.][-._a-zA-Z0-9])[-._a-zA-Z0-9]*$',
  'x-bulkhead-expected': 'a key of letters, digits, "-", "_" and ".", other than "." and ".."',
};

function dataMap(description: string, maxValueLength: number) {
  return Type.Optional(
    Type.Unsafe<Record<string, string>>({
      ...stringMap({ description, maxProperties: KEYS_MAX, maxValueLength }),
      propertyNames: dataKey,
    }),
  );
}

export const SecretSchema = object(
  {
    type: Type.Optional(
      text({
        description: 'What it is for, e.g. kubernetes.io/dockerconfigjson.',
        default: 'Opaque',
        maxLength: 253,
      }),
    ),
    data: dataMap('Values in base64.', CORE_DATA_MAX_BASE64),
    stringData: dataMap('Values as plain text; they win over data.', CORE_DATA_MAX_BYTES),
  },
  { description: 'Small values that must stay secret.' },
);

export const ConfigMapSchema = object(
  { data: dataMap('Values as plain text.', CORE_DATA_MAX_BYTES) },
  { description: 'Small values that are no secret.' },
);

export type SecretContent = Static<typeof SecretSchema>;
export type ConfigMapContent = Static<typeof ConfigMapSchema>;
