// bulkhead suspend
import type { Command } from 'commander';
import { defineModeCommand, setMode } from './operating-mode.ts';

export function define(command: Command): void {
  defineModeCommand(command, 'suspending', (step) => setMode(step, 'Suspended'));
}
