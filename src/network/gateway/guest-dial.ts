// Sockets towards a guest, in the network namespace of its VM, and those that stand for it outside.
import { createSocket, type Socket as Datagrams } from 'node:dgram';
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HostLibrary } from '../../vmm/ffi.ts';
import { GUEST_V4 } from './address-plan.ts';
import { GUEST_DIAL_CHECK_MAX_MS, GUEST_DIAL_CHECK_MS, GUEST_DIAL_MS } from './limits.ts';

type VmProcess = Parameters<HostLibrary['planeDial']>[0];

/** A UDP socket with this address and port, whoever has them elsewhere; port 0 is a free one. Throws where the VM is gone. */
export function bindTowardsGuest(
  library: Pick<HostLibrary, 'planeBind'>,
  process: VmProcess,
  { host, port }: { readonly host: string; readonly port: number },
): Datagrams {
  return socketOf('udp6', library.planeBind(process, host, port));
}

/** A socket of this host for echoes of ICMP. Throws where the host does not let this process have one. */
export function openPing(library: Pick<HostLibrary, 'pingOpen'>, family: 4 | 6): Datagrams {
  return socketOf(`udp${family}`, library.pingOpen(family));
}

function socketOf(type: 'udp4' | 'udp6', fd: number): Datagrams {
  try {
    return createSocket(type).bind({ fd });
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Rejects where the guest does not take it. The kernel has no event for us here: Node cannot wait for a foreign socket. */
export async function dialGuest(
  library: Pick<HostLibrary, 'planeDial' | 'dialResult'>,
  process: VmProcess,
  port: number,
): Promise<Socket> {
  const fd = library.planeDial(process, GUEST_V4, port);
  try {
    let waited = 0;
    for (let pause = GUEST_DIAL_CHECK_MS; !library.dialResult(fd); pause *= 2) {
      if (waited >= GUEST_DIAL_MS) throw new Error('The guest does not answer.');
      const turn = Math.min(pause, GUEST_DIAL_CHECK_MAX_MS);
      await sleep(turn);
      waited += turn;
    }
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return new Socket({ fd, readable: true, writable: true, allowHalfOpen: true });
}
