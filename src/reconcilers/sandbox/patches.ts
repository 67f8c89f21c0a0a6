// What patches say of /etc/hosts. The guest's own hosts file is written anew at each start, as in a Pod, so that lines that are
// appended to it are part of that.
import { BulkheadError } from '../../api/errors.ts';
import type { DefaultedSandbox, DefaultedSandboxSpec } from '../../api/sandbox.ts';
import type { Personality } from '../../guest/agent.ts';

export type Patch = NonNullable<DefaultedSandboxSpec['patches']>[number];

const HOSTS = '/etc/hosts';
/** Beside them the agent's file has room for the sandbox's own names. */
const HOSTS_MAX = 128;
const ADDRESS = /^[0-9A-Fa-f.:]{2,45}$/;
const NAME = /^[A-Za-z0-9._-]{1,253}$/;

export function isHostsPatch({ append }: Patch): boolean {
  return append?.path === HOSTS;
}

/** `spec.patches[1] (append /etc/hosts)`. */
export function nameOfPatch(patch: Patch, index: number): string {
  const [kind = '', body] = Object.entries(patch).find(([, value]) => value !== undefined) ?? [];
  const path = typeof body === 'object' && 'path' in body ? ` ${body.path}` : '';
  return `spec.patches[${index}] (${kind}${path})`;
}

/** Lines that patches append to /etc/hosts. Throws PATCH_FAILED, naming the patch. */
export function patchedHosts({ spec }: DefaultedSandbox): Personality['extraHosts'] {
  const hosts: Personality['extraHosts'] = [];
  for (const [index, patch] of (spec.patches ?? []).entries()) {
    if (!isHostsPatch(patch)) continue;
    for (const line of (patch.append?.content ?? '').split('\n')) {
      const [address = '', ...names] = line.replace(/#.*/, '').trim().split(/\s+/);
      if (address === '') continue;
      if (!ADDRESS.test(address) || names.length === 0 || !names.every((name) => NAME.test(name)))
        throw new BulkheadError(
          'PATCH_FAILED',
          `${nameOfPatch(patch, index)}: "${line.slice(0, 80)}" is no address with names.`,
        );
      hosts.push({ address, names });
    }
    if (hosts.length > HOSTS_MAX)
      throw new BulkheadError(
        'PATCH_FAILED',
        `${nameOfPatch(patch, index)}: more than ${HOSTS_MAX} lines for /etc/hosts in all.`,
      );
  }
  return hosts;
}
