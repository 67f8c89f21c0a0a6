// bulkhead stop
import type { Command } from 'commander';
import { defineModeCommand, suspendAndWait } from './operating-mode.ts';

export function define(command: Command): void {
  defineModeCommand(command, 'stopped', suspendAndWait);
}
