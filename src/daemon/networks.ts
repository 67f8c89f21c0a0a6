// The network plane of the daemon: the gateway's process, and what it refused as events of the sandboxes.
import type { Logger } from 'pino';
import type { Clock } from '../controller/clock.ts';
import type { EventRecorder } from '../controller/event-recorder.ts';
import type { Refusal } from '../network/gateway/flow-log.ts';
import { dialGuest } from '../network/gateway/guest-dial.ts';
import { GatewayProcess } from '../network/gateway/process.ts';
import { HostNetworks } from '../network/host-networks.ts';
import type { AuthorityFile } from '../network/intercept/authority-file.ts';
import type { ObjectKey, Store } from '../store/store.ts';
import { loadHostLibrary } from '../vmm/ffi.ts';

/** A Warning event about a sandbox; none where it is gone. */
export async function tellRefusal(
  store: Store,
  recorder: EventRecorder,
  key: ObjectKey,
  uid: string,
  message: string,
): Promise<void> {
  const object = await store.get(key).catch(() => undefined);
  if (object?.metadata.uid === uid) recorder.event(object, 'Warning', 'EgressDenied', message);
}

export interface NetworkParts {
  /** The gateway's directory. */
  dir: string;
  /** Where `make build` put libvmm and its programs. */
  buildDir: string;
  authority: AuthorityFile;
  clock: Clock;
  log: Logger;
  /** Told of what was refused to the sandbox of this uid, in words. */
  onRefusal: (uid: string, message: string) => void;
  /** Told every few seconds of all whose published ports were used meanwhile. */
  onUses: (uids: readonly string[]) => void;
}

/** The gateway of this state directory, which starts with the first sandbox that needs it. */
export function openNetworks({
  dir,
  buildDir,
  authority,
  clock,
  log,
  onRefusal,
  onUses,
}: NetworkParts): HostNetworks {
  const library = loadHostLibrary(buildDir);
  const gateway = new GatewayProcess({ library, clock, buildDir, dir });
  return new HostNetworks({
    connect: (signal) => gateway.connect(signal),
    dial: ({ pid, startTime }, port) => dialGuest(library, { pid, startTime: BigInt(startTime) }, port),
    authority: () => authority.read(),
    clock,
    onProblem: (error) => log.warn({ error }, 'no gateway serves; the networks of all sandboxes are closed'),
    onRefusals: ({ uid, refusals }) => {
      for (const refusal of refusals) onRefusal(uid, refusalText(refusal));
    },
    onUses,
  });
}

function refusalText({ protocol, layer, destination, result, reason, count }: Refusal): string {
  const what = layer === 'DNS' ? `the name ${destination}` : `${protocol} ${destination}`;
  const times = count === 1 ? '' : `, ${count} times`;
  return `${result}: ${what}${reason === '' ? '' : `, by ${reason}`}${times}.`;
}
