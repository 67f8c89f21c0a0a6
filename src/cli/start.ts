// bulkhead start
import type { Command } from 'commander';
import { defineModeCommand, resumeAndWait } from './operating-mode.ts';

export function define(command: Command): void {
  defineModeCommand(command, 'started', resumeAndWait);
}
