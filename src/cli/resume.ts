// bulkhead resume
import type { Command } from 'commander';
import { defineModeCommand, setMode } from './operating-mode.ts';

export function define(command: Command): void {
  defineModeCommand(command, 'resuming', (step) => setMode(step, 'Running'));
}
