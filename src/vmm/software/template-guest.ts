// Brings the guest of a template to the point where clones take over.
import type { Duplex } from 'node:stream';
import type { GuestAgent } from '../../guest/agent.ts';
import { connectGuest } from '../../guest/client.ts';
import type { TemplateSpec } from './template-key.ts';

/** A boot takes about a second; on a host with a load of 20 it took 15. */
const BOOT_TIMEOUT_MS = 120_000;
/** The warm-up is worth tens of milliseconds to each clone, and no wait. */
const WARM_UP_TIMEOUT_MS = 10_000;
/**
 * Brings the dynamic loader, the shell and the agent's way to start a process into the guest's page cache. It is the image's
 * own code, and what it leaves behind is seen only by sandboxes of the same image.
 */
const WARM_UP_COMMAND = ['/bin/sh', '-c', ':'];

/** Mounts the root of an `image` template and warms it up; of a `generic` one only the boot is awaited. */
export async function prepareGuest(
  dial: (signal: AbortSignal) => Promise<Duplex>,
  spec: TemplateSpec,
  signal: AbortSignal,
): Promise<void> {
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(BOOT_TIMEOUT_MS)]);
  const agent = await connectGuest(dial, { signal: deadline });
  try {
    if (spec.kind === 'image') {
      await agent.mountRoot({ imageDevice: 'vda', upperDevice: 'vdb' }, deadline);
      await warmUp(agent, deadline);
    }
  } finally {
    await agent.close();
  }
}

async function warmUp(agent: GuestAgent, signal: AbortSignal): Promise<void> {
  try {
    const guest = await agent.exec(
      {
        sessionId: 'warm-up',
        argv: WARM_UP_COMMAND,
        env: [],
        stdin: false,
        timeoutMs: WARM_UP_TIMEOUT_MS,
        overflow: 'drop-oldest',
      },
      signal,
    );
    await guest.exited;
    await guest.release();
  } catch {
    signal.throwIfAborted();
    // An image without a shell is as good; its clones only begin a little colder.
  }
}
