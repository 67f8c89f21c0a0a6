// What goes through the gateway: is the network open, what is refused, and who is it?
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { dashboard, graph, labelVariable, stat } from './panels.ts';

const OF = 'instance=~"$instance"';
const REFUSED = 'result=~"Denied|Cut|Limited|Blocked|Refused"';

/** Of each of the four figures, in columns. */
const WIDTH = 6;

export const NETWORK_DESCRIPTION = 'the gateway: connections, questions, what is refused, who sends most.';

export function networkBoard(): Dashboard {
  return dashboard('bulkhead-network', 'Bulkhead / Network', NETWORK_DESCRIPTION)
    .withVariable(
      labelVariable('instance', 'instance', 'bulkhead_build_info')
        .label('Instance')
        .multi(true)
        .includeAll(true)
        .allValue('.*'),
    )
    .withPanel(
      stat(
        'Gateways that serve',
        { expr: `sum(gateway_up{${OF}})`, legend: '' },
        {
          unit: 'short',
          description: 'Without one the networks of all sandboxes of its host are closed.',
          badBelow: 1,
          width: WIDTH,
        },
      ),
    )
    .withPanel(
      stat(
        'Open connections',
        { expr: `sum(gateway_connections{${OF}})`, legend: '' },
        { unit: 'short', description: 'Of all sandboxes.', width: WIDTH },
      ),
    )
    .withPanel(
      stat(
        'Refused',
        { expr: `sum(rate(gateway_decisions_total{${OF},${REFUSED}}[$__rate_interval]))`, legend: '' },
        {
          unit: 'ops',
          description: 'Connections and questions that policies refuse, and connections that they cut.',
          warnFrom: 5,
          badFrom: 50,
          width: WIDTH,
        },
      ),
    )
    .withPanel(
      stat(
        'Questions without an answer',
        {
          expr: `sum(rate(gateway_decisions_total{${OF},layer="DNS",result="Failed"}[$__rate_interval]))`,
          legend: '',
        },
        {
          unit: 'ops',
          description: 'No name server answered in time.',
          warnFrom: 0.1,
          badFrom: 1,
          width: WIDTH,
        },
      ),
    )
    .withPanel(
      graph(
        'Connections',
        [
          {
            expr: `sum by (result) (rate(gateway_decisions_total{${OF},layer="Flow"}[$__rate_interval]))`,
            legend: '{{result}}',
          },
        ],
        { unit: 'ops', description: 'By result.' },
      ),
    )
    .withPanel(
      graph(
        'Questions',
        [
          {
            expr: `sum by (result) (rate(gateway_decisions_total{${OF},layer="DNS"}[$__rate_interval]))`,
            legend: '{{result}}',
          },
        ],
        { unit: 'ops', description: 'To the name servers of the gateway, by result.' },
      ),
    )
    .withPanel(
      graph(
        'Traffic',
        [
          { expr: `sum(rate(gateway_egress_bytes_total{${OF}}[$__rate_interval]))`, legend: 'out' },
          { expr: `sum(rate(gateway_ingress_bytes_total{${OF}}[$__rate_interval]))`, legend: 'in' },
        ],
        { unit: 'Bps', description: 'What connections of sandboxes carry.' },
      ),
    )
    .withPanel(
      graph(
        'Refused most',
        [
          {
            expr: `topk(10, rate(sandbox_egress_denied_total{${OF}}[$__rate_interval]))`,
            legend: '{{namespace}}/{{name}}',
          },
        ],
        { unit: 'ops', description: 'Sandboxes whose policies refuse most of what they try.' },
      ),
    )
    .withPanel(
      graph(
        'Send most',
        [
          {
            expr: `topk(10, rate(sandbox_network_transmit_bytes_total{${OF}}[$__rate_interval]))`,
            legend: '{{namespace}}/{{name}}',
          },
        ],
        { unit: 'Bps', description: 'Sandboxes by what their network card sends.' },
      ),
    )
    .withPanel(
      graph(
        'Receive most',
        [
          {
            expr: `topk(10, rate(sandbox_network_receive_bytes_total{${OF}}[$__rate_interval]))`,
            legend: '{{namespace}}/{{name}}',
          },
        ],
        { unit: 'Bps', description: 'Sandboxes by what their network card receives.' },
      ),
    )
    .build();
}
