// Where the connections of a Service go that selects sandboxes: to the nodes that run them, at the ports published there.
import { isConditionTrue } from '../../api/conditions.ts';
import type { StoredObject } from '../../api/meta.ts';
import type { DefaultedSandbox } from '../../api/sandbox.ts';

/** On a Service without a selector of its own: labels that sandboxes have, as `NAME=VALUE,NAME=VALUE`. */
export const SELECTOR_ANNOTATION = 'bulkhead.dev/sandbox-selector';

/** Addresses by which a host is reached from itself alone. */
const LOOPBACK = /^(127\.|::1$)/;
/** Addresses that stand for all of a host. */
const WILDCARDS = new Set(['0.0.0.0', '::']);
const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

interface ServicePort {
  name?: string;
  port: number;
  targetPort?: number | string;
  protocol?: string;
}
export type Service = StoredObject<{ selector?: Record<string, string>; ports?: ServicePort[] }>;

/** Each sandbox has one of its own, as host ports differ between sandboxes. */
export interface SandboxEndpoints {
  sandbox: Pick<DefaultedSandbox, 'metadata'>;
  nodeName: string;
  address: string;
  ready: boolean;
  /** For a name of its own under the Service's; absent where its name is none. */
  hostname?: string;
  ports: { name: string; port: number; protocol: string }[];
}

/** Labels to select by; undefined for a Service that is none of ours, or whose annotation selects nothing. */
export function selectorOf({ metadata, spec }: Service): ReadonlyMap<string, string> | undefined {
  const text = metadata.annotations?.[SELECTOR_ANNOTATION]?.trim();
  if (text === undefined || text === '' || Object.keys(spec.selector ?? {}).length > 0) return undefined;
  const pairs = text.split(',').map((pair) => pair.split('=').map((part) => part.trim()));
  // What cannot be read selects nothing rather than everything.
  if (pairs.some(([name, value, ...more]) => !name || value === undefined || more.length > 0))
    return undefined;
  return new Map(pairs as [string, string][]);
}

export function isSelected(selector: ReadonlyMap<string, string>, { metadata }: StoredObject): boolean {
  return [...selector].every(([name, value]) => metadata.labels?.[name] === value);
}

/** Undefined where nothing of the sandbox can be reached now. `addressOf`: of a node, from within the cluster. */
export function endpointsOf(
  service: Service,
  sandbox: DefaultedSandbox,
  addressOf: (nodeName: string) => string | undefined,
): SandboxEndpoints | undefined {
  const { status, spec, metadata } = sandbox;
  const nodeName = status?.nodeName;
  const nodeAddress = nodeName === undefined ? undefined : addressOf(nodeName);
  if (nodeName === undefined || nodeAddress === undefined) return undefined;
  let address: string | undefined;
  const ports: SandboxEndpoints['ports'] = [];
  for (const { name = '', port, targetPort = port, protocol = 'TCP' } of service.spec.ports ?? []) {
    const entry = (spec.ports ?? []).find(
      (each) =>
        (each.protocol ?? 'TCP') === protocol &&
        (typeof targetPort === 'number' ? each.port === targetPort : each.name === targetPort),
    );
    const published = status?.network?.ports?.find((each) => each.name === entry?.name);
    if (published === undefined || LOOPBACK.test(published.hostIP)) continue;
    const at = WILDCARDS.has(published.hostIP) ? nodeAddress : published.hostIP;
    // A slice has one address; ports that are published elsewhere are left out.
    address ??= at;
    if (at === address) ports.push({ name, port: published.hostPort, protocol });
  }
  if (address === undefined) return undefined;
  return {
    ...{ sandbox: { metadata }, nodeName, address, ports },
    ready: isConditionTrue(status?.conditions, 'Ready') && metadata.deletionTimestamp === undefined,
    ...(DNS_LABEL.test(metadata.name) ? { hostname: metadata.name } : {}),
  };
}
