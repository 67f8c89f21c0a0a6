// The main process of a running sandbox: its output goes to the log, its end to the reconciler.

import type { Clock } from '../../../controller/clock.ts';
import type { GuestProcess } from '../../../guest/agent.ts';
import { within } from '../../elapsed.ts';
import { OUTPUT_DRAIN_MS } from '../limits.ts';
import type { LogWriter } from '../logs/writer.ts';
import type { MainExit } from '../run-record.ts';

export interface MainProcess {
  readonly process: GuestProcess;
  /** Resolves when the pump is at its end and the log is closed. Never rejects. */
  readonly settled: Promise<void>;
}

/**
 * Pumps output into the log until both streams end. `onExit` is called once, after the last byte is in the log (or did
 * not come in time); it is not called when the VM goes first, or when this side lets go of the guest.
 */
export function watchMain(
  process: GuestProcess,
  writer: LogWriter,
  clock: Clock,
  onExit: (exit: MainExit) => void,
): MainProcess {
  const pump = pumpOutput(process, writer);
  const settled = (async () => {
    const exit = await process.exited.catch(() => undefined);
    if (exit === undefined) {
      await pump;
    } else {
      const finishedAt = new Date(clock.now()).toISOString();
      await within(clock, OUTPUT_DRAIN_MS, pump);
      onExit({ ...exit, finishedAt });
      await pump;
    }
    await writer.close();
  })();
  return { process, settled };
}

async function pumpOutput(process: GuestProcess, writer: LogWriter): Promise<void> {
  try {
    for await (const chunk of process.output()) await writer.append(chunk);
  } catch {
    // The channel or the VM is gone; what arrived is in the log, and `exited` tells the rest.
  }
}
