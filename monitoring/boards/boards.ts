// The boards, and the queries in them.
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { CONTROLLER_DESCRIPTION, controllerBoard } from './controller.ts';
import { FLEET_DESCRIPTION, fleetBoard } from './fleet.ts';
import { NETWORK_DESCRIPTION, networkBoard } from './network.ts';
import { SANDBOX_DESCRIPTION, sandboxBoard } from './sandbox.ts';

export interface Board {
  file: string;
  title: string;
  description: string;
  board: Dashboard;
}

export function boards(): Board[] {
  return [
    { file: 'fleet.json', title: 'Fleet', description: FLEET_DESCRIPTION, board: fleetBoard() },
    { file: 'sandbox.json', title: 'Sandbox', description: SANDBOX_DESCRIPTION, board: sandboxBoard() },
    {
      file: 'controller.json',
      title: 'Controller',
      description: CONTROLLER_DESCRIPTION,
      board: controllerBoard(),
    },
    { file: 'network.json', title: 'Network', description: NETWORK_DESCRIPTION, board: networkBoard() },
  ];
}

/** Every query of a board, with the panel that it is of. */
export function queriesOf(board: Dashboard): { panel: string; expr: string }[] {
  return (board.panels ?? []).flatMap((panel) => {
    const targets = 'targets' in panel ? (panel.targets ?? []) : [];
    return targets.flatMap((target) => {
      const { expr } = target as { expr?: unknown };
      return typeof expr === 'string' ? [{ panel: panel.title ?? '', expr }] : [];
    });
  });
}
