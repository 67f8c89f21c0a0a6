// What goes through the gateway, of all sandboxes together.
import type { Metrics } from './registry.ts';

/** Decisions and traffic; counters since the gateway started. */
export interface EgressFigures {
  /** By `layer/result`. */
  decisions: Readonly<Record<string, number>>;
  egressBytes: number;
  ingressBytes: number;
  connections: number;
}

/** `read` gives undefined while no gateway serves. */
export function collectGateway(metrics: Metrics, read: () => EgressFigures | undefined): void {
  metrics.onScrape(async () => {
    const figures = read();
    metrics.gauge('gateway_up').set(figures === undefined ? 0 : 1);
    if (figures === undefined) return;
    const decisions = metrics.counter('gateway_decisions_total');
    decisions.reset();
    for (const [key, count] of Object.entries(figures.decisions)) {
      const [layer = '', result = ''] = key.split('/');
      decisions.inc({ layer, result }, count);
    }
    const [egress, ingress] = [
      metrics.counter('gateway_egress_bytes_total'),
      metrics.counter('gateway_ingress_bytes_total'),
    ];
    egress.reset();
    ingress.reset();
    egress.inc(figures.egressBytes);
    ingress.inc(figures.ingressBytes);
    metrics.gauge('gateway_connections').set(figures.connections);
  });
}
