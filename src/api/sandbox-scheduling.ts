// Where a cluster places a Sandbox: the scheduling part of a Pod's spec, with a Pod's words and meaning. It goes onto the Pod
// that holds the sandbox's place on a node; standalone it is accepted and has no effect.
import { Type } from 'typebox';
import {
  type CelRule,
  choice,
  INT32_MAX,
  integer,
  keyedList,
  list,
  object,
  objectName,
  SAFE_INTEGER_MAX,
  stringMap,
  text,
} from './schema.ts';

/** Prefix (253), slash and name (63). */
const LABEL_KEY_MAX = 317;
const LABEL_VALUE_MAX = 63;
const LABEL_KEY =
  '^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$';
const LABEL_VALUE = '^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$';
/** Nobody writes more by hand, and each is looked at for each node. */
const TERMS_MAX = 16;
const EXPRESSIONS_MAX = 16;
const VALUES_MAX = 64;
const NAMESPACES_MAX = 32;
const TOLERATIONS_MAX = 32;
const SPREADS_MAX = 8;

const labelKey = (description: string) =>
  text({
    description,
    minLength: 1,
    maxLength: LABEL_KEY_MAX,
    pattern: LABEL_KEY,
    expected: 'a label key, such as "disk" or "topology.kubernetes.io/zone"',
  });

const labelValue = (description: string) =>
  text({
    description,
    maxLength: LABEL_VALUE_MAX,
    pattern: LABEL_VALUE,
    expected: 'a label value of at most 63 letters, digits, "-", "_" and "."',
  });

const labelMap = (description: string) =>
  stringMap({ description, maxProperties: 32, maxValueLength: LABEL_VALUE_MAX });

const IN_RULE: CelRule = {
  rule: "self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : true",
  message: 'values must have an entry for the operators In and NotIn; add one, or use Exists or DoesNotExist',
};
const EXISTS_RULE: CelRule = {
  rule: "self.operator in ['Exists', 'DoesNotExist'] ? !has(self.values) || self.values.size() == 0 : true",
  message: 'values must be empty for the operators Exists and DoesNotExist; remove them, or use In or NotIn',
};
const COMPARE_RULE: CelRule = {
  rule: "self.operator in ['Gt', 'Lt'] ? has(self.values) && self.values.size() == 1 && self.values[0].matches('^-?[0-9]{1,18}$') : true",
  message: 'values must be one whole number for the operators Gt and Lt; write one, in quotes',
};

const values = Type.Optional(
  list(labelValue('A value.'), { description: 'Values to compare with.', maxItems: VALUES_MAX }),
);

/** What a Pod takes; everything else would be refused when the place is asked for, where nobody looks. */
const FIELD_RULE: CelRule = {
  rule: "self.key == 'metadata.name' && self.operator in ['In', 'NotIn'] && has(self.values) && self.values.size() == 1",
  message:
    'matchFields must compare metadata.name with one value by In or NotIn; use matchExpressions for labels',
};

const nodeRequirements = (description: string, rules: readonly CelRule[]) =>
  Type.Optional(
    list(
      object(
        {
          key: labelKey('Label or field of a node.'),
          operator: choice(['Exists', 'DoesNotExist', 'In', 'NotIn', 'Gt', 'Lt'], {
            description: 'How it compares with the values.',
          }),
          values,
        },
        { description: 'One requirement.', rules },
      ),
      { description, maxItems: EXPRESSIONS_MAX },
    ),
  );

const nodeTerm = () =>
  object(
    {
      matchExpressions: nodeRequirements("Requirements on the node's labels, all of which must hold.", [
        IN_RULE,
        EXISTS_RULE,
        COMPARE_RULE,
      ]),
      matchFields: nodeRequirements("Requirements on the node's fields (metadata.name).", [FIELD_RULE]),
    },
    { description: 'Requirements on a node. An empty one matches none.' },
  );

const labelSelector = (description: string) =>
  Type.Optional(
    object(
      {
        matchLabels: Type.Optional(labelMap('Labels with these values, all of them.')),
        matchExpressions: Type.Optional(
          list(
            object(
              {
                key: labelKey('A label.'),
                operator: choice(['Exists', 'DoesNotExist', 'In', 'NotIn'], {
                  description: 'How it compares with the values.',
                }),
                values,
              },
              { description: 'One requirement.', rules: [IN_RULE, EXISTS_RULE] },
            ),
            { description: 'Requirements on labels, all of which must hold.', maxItems: EXPRESSIONS_MAX },
          ),
        ),
      },
      { description },
    ),
  );

const podTerm = () =>
  object(
    {
      labelSelector: labelSelector('Pods and sandboxes that are meant. Absent: none.'),
      namespaces: Type.Optional(
        list(objectName('A namespace.'), {
          description: 'Namespaces that are looked at. Default: that of this object.',
          maxItems: NAMESPACES_MAX,
        }),
      ),
      namespaceSelector: labelSelector('Namespaces that are looked at too, by their labels. Empty: all.'),
      topologyKey: labelKey('Nodes with an equal value of this label are one place.'),
    },
    { description: 'Pods and sandboxes, and what counts as one place with them.' },
  );

const weight = integer({
  description: 'How much it counts against other preferences.',
  minimum: 1,
  maximum: 100,
});

const podAffinity = (description: string, required: string, preferred: string) =>
  Type.Optional(
    object(
      {
        requiredDuringSchedulingIgnoredDuringExecution: Type.Optional(
          list(podTerm(), { description: required, maxItems: TERMS_MAX }),
        ),
        preferredDuringSchedulingIgnoredDuringExecution: Type.Optional(
          list(
            object(
              { weight, podAffinityTerm: podTerm() },
              { description: 'One preference with its weight.' },
            ),
            { description: preferred, maxItems: TERMS_MAX },
          ),
        ),
      },
      { description },
    ),
  );

const AffinitySchema = object(
  {
    nodeAffinity: Type.Optional(
      object(
        {
          requiredDuringSchedulingIgnoredDuringExecution: Type.Optional(
            object(
              {
                nodeSelectorTerms: list(nodeTerm(), {
                  description: 'Terms, any of which must hold.',
                  minItems: 1,
                  maxItems: TERMS_MAX,
                }),
              },
              { description: 'What a node must be.' },
            ),
          ),
          preferredDuringSchedulingIgnoredDuringExecution: Type.Optional(
            list(
              object({ weight, preference: nodeTerm() }, { description: 'One preference with its weight.' }),
              { description: 'What a node is better for being.', maxItems: TERMS_MAX },
            ),
          ),
        },
        { description: 'Which nodes.' },
      ),
    ),
    podAffinity: podAffinity(
      'Near which Pods and sandboxes.',
      'Those that it must be near.',
      'Those that it is better near.',
    ),
    podAntiAffinity: podAffinity(
      'Away from which Pods and sandboxes.',
      'Those that it must be away from.',
      'Those that it is better away from.',
    ),
  },
  { description: 'Which nodes, and near or away from what.' },
);

const TolerationSchema = object(
  {
    key: Type.Optional(labelKey('Key of the taint. Absent, with operator Exists: every taint.')),
    operator: Type.Optional(
      choice(['Exists', 'Equal'], { description: 'Whether the value counts.', default: 'Equal' }),
    ),
    value: Type.Optional(labelValue('Value of the taint, for operator Equal.')),
    effect: Type.Optional(
      choice(['NoSchedule', 'PreferNoSchedule', 'NoExecute'], {
        description: 'Effect of the taint. Default: any.',
      }),
    ),
    tolerationSeconds: Type.Optional(
      integer({
        description:
          'How long a taint with effect NoExecute is borne before the sandbox has to go. Default: for ever.',
        minimum: 0,
        maximum: SAFE_INTEGER_MAX,
      }),
    ),
  },
  {
    description: 'Taints of one kind.',
    rules: [
      {
        rule: "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
        message: 'operator must be Exists where there is no key; add the key, or set operator: Exists',
      },
      {
        rule: "!has(self.value) || !has(self.operator) || self.operator == 'Equal' || self.value == ''",
        message: 'value must be empty for operator Exists; remove it, or set operator: Equal',
      },
      {
        rule: "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        message:
          'effect must be NoExecute where tolerationSeconds is set; set it, or remove tolerationSeconds',
      },
    ],
  },
);

const SpreadSchema = object(
  {
    maxSkew: integer({
      description: 'By how many a place may have more than the place with the fewest.',
      minimum: 1,
      maximum: INT32_MAX,
    }),
    topologyKey: labelKey('Nodes with an equal value of this label are one place.'),
    whenUnsatisfiable: choice(['DoNotSchedule', 'ScheduleAnyway'], {
      description: 'What follows when that cannot be: it waits, or it is only a preference.',
    }),
    labelSelector: labelSelector('Pods and sandboxes that are counted.'),
    minDomains: Type.Optional(
      integer({
        description: 'Places that there must be; with fewer the least counts as none. For DoNotSchedule.',
        minimum: 1,
        maximum: INT32_MAX,
      }),
    ),
    nodeAffinityPolicy: Type.Optional(
      choice(['Honor', 'Ignore'], {
        description: 'Whether nodes that affinity rules out count. Default: Honor, they do not.',
      }),
    ),
    nodeTaintsPolicy: Type.Optional(
      choice(['Honor', 'Ignore'], {
        description: 'Whether taints of nodes are looked at. Default: Ignore, all nodes count.',
      }),
    ),
    matchLabelKeys: Type.Optional(
      list(labelKey('A label.'), {
        description: 'Labels of this object that are counted as part of the selector.',
        maxItems: EXPRESSIONS_MAX,
      }),
    ),
  },
  {
    description: 'One way to spread.',
    rules: [
      {
        rule: "!has(self.minDomains) || self.whenUnsatisfiable == 'DoNotSchedule'",
        message: 'minDomains must go with whenUnsatisfiable: DoNotSchedule; set that, or remove minDomains',
        fieldPath: '.minDomains',
      },
      {
        rule: '!has(self.matchLabelKeys) || has(self.labelSelector)',
        message: 'matchLabelKeys must go with a labelSelector; add one, or remove matchLabelKeys',
        fieldPath: '.matchLabelKeys',
      },
    ],
  },
);

export const SchedulingSchema = object(
  {
    nodeSelector: Type.Optional(labelMap('Labels that the node must have, all of them.')),
    affinity: Type.Optional(AffinitySchema),
    tolerations: Type.Optional(
      list(TolerationSchema, { description: 'Taints of nodes that are borne.', maxItems: TOLERATIONS_MAX }),
    ),
    topologySpreadConstraints: Type.Optional(
      keyedList(['topologyKey', 'whenUnsatisfiable'], SpreadSchema, {
        description: 'How Pods and sandboxes are spread over places.',
        maxItems: SPREADS_MAX,
      }),
    ),
    priorityClassName: Type.Optional(
      objectName('PriorityClass: who is placed first, and who gives way to whom.'),
    ),
  },
  {
    description:
      'Where a cluster places it, in the words of a Pod; a change holds from the next placement. Standalone: accepted, without effect.',
  },
);
