// The Pod that holds the place of a sandbox: it asks for what the VM takes, does nothing, and can do nothing.
import type { ObjectManifest } from '../../api/meta.ts';
import { parseBytes } from '../../api/quantity.ts';
import type { DefaultedSandbox } from '../../api/sandbox.ts';
import {
  RESERVATION_FINALIZER,
  RESERVATION_GRACE_SECONDS,
  RESERVATION_NAME_MAX,
  SANDBOX_UID_LABEL,
  VM_OVERHEAD_MIB,
} from './limits.ts';

const MIB = 1024 * 1024;

/** Of one sandbox always the same, so that two controllers at once make one. */
export function reservationName({ metadata }: Pick<DefaultedSandbox, 'metadata'>): string {
  const name = metadata.name
    .slice(0, RESERVATION_NAME_MAX)
    .replace(/[^a-z0-9]+$/, '')
    .replaceAll('.', '-');
  return `${name}-${metadata.uid.replaceAll('-', '').slice(0, 10)}`;
}

/**
 * `pinnedTo`: the only node that will do, as it holds disks of the sandbox. Requests are those of the VM: its cpus, and its
 * memory with what the VMM takes.
 */
export function reservationOf(
  sandbox: DefaultedSandbox,
  image: string,
  pinnedTo: string | undefined,
): ObjectManifest {
  const { metadata, spec, apiVersion, kind } = sandbox;
  const { nodeSelector, affinity, tolerations, topologySpreadConstraints, priorityClassName } =
    spec.scheduling ?? {};
  const memory = parseBytes(spec.resources.memory) + VM_OVERHEAD_MIB * MIB;
  // In whole MiB where it is, as people read it in what schedulers and quotas say.
  const text = memory % MIB === 0 ? `${memory / MIB}Mi` : String(memory);
  const resources = { cpu: String(spec.resources.cpus), memory: text };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: reservationName(sandbox),
      namespace: metadata.namespace,
      labels: {
        ...metadata.labels,
        'app.kubernetes.io/managed-by': 'bulkhead',
        [SANDBOX_UID_LABEL]: metadata.uid,
      },
      finalizers: [RESERVATION_FINALIZER],
      ownerReferences: [
        {
          apiVersion,
          kind,
          name: metadata.name,
          uid: metadata.uid,
          controller: true,
          blockOwnerDeletion: true,
        },
      ],
    },
    spec: {
      ...present({ nodeSelector, tolerations, topologySpreadConstraints, priorityClassName }),
      ...present({ affinity: pinnedTo === undefined ? affinity : pinned(affinity, pinnedTo) }),
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      restartPolicy: 'Always',
      terminationGracePeriodSeconds: spec.terminationGracePeriodSeconds + RESERVATION_GRACE_SECONDS,
      securityContext: {
        ...{ runAsNonRoot: true, runAsUser: 65_534, runAsGroup: 65_534 },
        seccompProfile: { type: 'RuntimeDefault' },
      },
      containers: [
        {
          ...{ name: 'reservation', image, imagePullPolicy: 'IfNotPresent' },
          // Equal, so that the Pod is of the class that is evicted last.
          resources: { requests: resources, limits: resources },
          securityContext: {
            ...{ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true },
            capabilities: { drop: ['ALL'] },
          },
        },
      ],
    },
  };
}

/** `affinity` with the node's name as one more condition of each of its terms. */
function pinned(affinity: Record<string, unknown> | undefined, nodeName: string): Record<string, unknown> {
  const field = { key: 'metadata.name', operator: 'In', values: [nodeName] };
  const nodeAffinity = (affinity?.nodeAffinity ?? {}) as Record<string, unknown>;
  const required = (nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution ?? {}) as {
    nodeSelectorTerms?: { matchFields?: unknown[] }[];
  };
  const terms = required.nodeSelectorTerms ?? [{}];
  const nodeSelectorTerms = terms.map((term) => ({
    ...term,
    matchFields: [...(term.matchFields ?? []), field],
  }));
  return {
    ...affinity,
    nodeAffinity: { ...nodeAffinity, requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } },
  };
}

function present(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
