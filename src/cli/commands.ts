// Where each command lives. A command's file is loaded only when it runs, so that each starts fast.
import type { Command } from 'commander';
import type { CommandName } from './command-list.ts';

export interface CommandModule {
  define(command: Command): void;
}

export const LOADERS: Record<CommandName, () => Promise<CommandModule>> = {
  daemon: () => import('./daemon.ts'),
  node: () => import('./node.ts'),
  controller: () => import('./controller.ts'),
  source: () => import('./source.ts'),
  apply: () => import('./apply.ts'),
  get: () => import('./get.ts'),
  describe: () => import('./describe.ts'),
  events: () => import('./events.ts'),
  wait: () => import('./wait.ts'),
  delete: () => import('./delete.ts'),
  diff: () => import('./diff.ts'),
  validate: () => import('./validate.ts'),
  edit: () => import('./edit.ts'),
  run: () => import('./run.ts'),
  exec: () => import('./exec.ts'),
  attach: () => import('./attach.ts'),
  cp: () => import('./cp.ts'),
  commit: () => import('./commit.ts'),
  logs: () => import('./logs.ts'),
  'port-forward': () => import('./port-forward.ts'),
  start: () => import('./start.ts'),
  stop: () => import('./stop.ts'),
  suspend: () => import('./suspend.ts'),
  resume: () => import('./resume.ts'),
  restart: () => import('./restart.ts'),
  top: () => import('./top.ts'),
  image: () => import('./image.ts'),
  volume: () => import('./volume.ts'),
  gc: () => import('./gc.ts'),
  network: () => import('./network.ts'),
  policy: () => import('./policy.ts'),
  status: () => import('./status.ts'),
  doctor: () => import('./doctor.ts'),
  completion: () => import('./completion.ts'),
  version: () => import('./version.ts'),
};
