// The server's way from an object's name to its running machine.
import type { Duplex } from 'node:stream';
import { BulkheadError } from '../api/errors.ts';
import type { StoredObject } from '../api/meta.ts';
import type { HostNetworks } from '../network/host-networks.ts';
import type { SandboxReconciler } from '../reconcilers/sandbox/reconciler.ts';
import type { LiveSandbox } from '../reconcilers/sandbox/runtime/sandbox-runtime.ts';
import type {
  LogEntry,
  LogOptions,
  SandboxAccess,
  LiveSandbox as ServedSandbox,
} from '../server/contracts.ts';
import type { Store } from '../store/store.ts';
import type { VmHandle } from '../vmm/driver.ts';
import { attachMain } from './main-attachment.ts';
import type { Starts } from './starts.ts';

/** For a guest to be reached again: tens of milliseconds each, on a host with many of them seconds. */
const TAKE_UP_WAIT_MS = 10_000;

export function sandboxAccess(
  store: Store,
  reconciler: SandboxReconciler,
  networks: Pick<HostNetworks, 'dial'>,
  starts: Starts,
): SandboxAccess {
  const connections = new GuestConnections();
  /** VMs that were used: the first use of each is measured. */
  const used = new WeakSet<VmHandle>();
  const noteUse = ({ handle }: LiveSandbox, place: { namespace: string; name: string }): void => {
    if (used.has(handle)) return;
    used.add(handle);
    starts.firstExec(handle, place, (Date.now() - handle.startedAt.getTime()) / 1000);
  };
  const find = async (namespace: string, name: string): Promise<StoredObject> => {
    const object = await store.get({ kind: 'Sandbox', namespace, name });
    if (object === undefined)
      throw new BulkheadError('NOT_FOUND', `sandboxes.bulkhead.dev "${name}" not found`);
    return object;
  };
  return {
    async live(namespace, name): Promise<ServedSandbox> {
      const { uid } = (await find(namespace, name)).metadata;
      await reconciler.live.takenUp(uid, TAKE_UP_WAIT_MS);
      const agent = reconciler.live.agentOf(uid);
      const live = reconciler.live.get(uid);
      if (live?.execDefaults === undefined) {
        throw new BulkheadError('AGENT_UNREACHABLE', `The guest of sandbox "${name}" is not set up yet.`);
      }
      return {
        uid,
        startedAt: live.startedAt,
        agent,
        execDefaults: live.execDefaults,
        vmStats: () => live.handle.stats(),
        dial: async (port) => connections.add(live.handle, await networks.dial(uid, port)),
        attachMain: () => attachMain(live, reconciler.logs),
        use: () => {
          noteUse(live, { namespace, name });
          return live.use();
        },
      };
    },
    async openLog(namespace, name, options: LogOptions): Promise<AsyncIterable<LogEntry>> {
      const { uid } = (await find(namespace, name)).metadata;
      // Only a log that is written can be followed.
      if (options.follow === true) await reconciler.live.takenUp(uid, TAKE_UP_WAIT_MS);
      return reconciler.logs.read(uid, options);
    },
  };
}

/** Connections into VMs: one that is gone closes none of them, and whoever waits at the other end would wait for ever. */
class GuestConnections {
  readonly #open = new WeakMap<VmHandle, Set<Duplex>>();

  add(handle: VmHandle, stream: Duplex): Duplex {
    const streams = this.#open.get(handle) ?? new Set();
    if (!this.#open.has(handle)) {
      this.#open.set(handle, streams);
      void handle.exited.then(() => {
        for (const each of streams) each.destroy(new Error('the sandbox has ended'));
      });
    }
    streams.add(stream);
    stream.once('close', () => streams.delete(stream));
    return stream;
  }
}
