// bulkhead restart
import type { Command } from 'commander';
import { defineModeCommand, resumeAndWait, suspendAndWait } from './operating-mode.ts';

export function define(command: Command): void {
  defineModeCommand(command, 'restarted', async (step) => {
    await suspendAndWait(step);
    await resumeAndWait(step);
  });
}
