// All sandboxes of the nodes: what runs, what does not, who uses most.
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { dashboard, graph, labelVariable, stat } from './panels.ts';

const OF = '{node=~"$node"}';
const BY = '{{namespace}}/{{name}}';

export const FLEET_DESCRIPTION = 'what runs on the nodes, what does not and since when, and who uses most.';

export function fleetBoard(): Dashboard {
  return dashboard('bulkhead-fleet', 'Bulkhead / Fleet', FLEET_DESCRIPTION)
    .withVariable(
      labelVariable('node', 'node', 'sandbox_info').label('Node').multi(true).includeAll(true).allValue('.*'),
    )
    .withPanel(
      stat(
        'Running',
        { expr: `sum(sandbox_status_phase{node=~"$node",phase="Running"}) or vector(0)`, legend: '' },
        {
          unit: 'short',
          description: 'Sandboxes whose guest is up.',
        },
      ),
    )
    .withPanel(
      stat(
        'On their way',
        {
          expr: `sum(sandbox_status_phase{node=~"$node",phase=~"Pending|Starting"}) or vector(0)`,
          legend: '',
        },
        { unit: 'short', description: 'Sandboxes that are Pending or Starting.', warnFrom: 10 },
      ),
    )
    .withPanel(
      stat(
        'Stalled',
        {
          expr: `sum(sandbox_status_condition{node=~"$node",condition="Stalled",status="true"}) or vector(0)`,
          legend: '',
        },
        { unit: 'short', description: 'Sandboxes that only a person can help.', badFrom: 1 },
      ),
    )
    .withPanel(
      stat(
        'Memory given away',
        { expr: 'max(instance:node_sandbox_memory:allocated_ratio)', legend: '' },
        { unit: 'percentunit', description: 'Of the fullest node, by specs.', warnFrom: 0.8, badFrom: 0.9 },
      ),
    )
    .withPanel(
      stat(
        'CPUs in use',
        { expr: `sum(node:sandbox_cpu_usage_seconds:rate5m${OF})`, legend: '' },
        { unit: 'short', description: 'CPUs that all VMs use.' },
      ),
    )
    .withPanel(
      stat(
        'Storage left',
        {
          expr: 'min(node_sandbox_storage_available_bytes / node_sandbox_storage_size_bytes)',
          legend: '',
        },
        { unit: 'percentunit', description: 'Of the fullest file system.', badBelow: 0.1 },
      ),
    )
    .withPanel(
      graph(
        'Sandboxes by phase',
        [{ expr: `sum by (phase) (node:sandbox_status_phase:count${OF})`, legend: '{{phase}}' }],
        {
          unit: 'short',
          description: 'Is something piling up?',
        },
      ),
    )
    .withPanel(
      graph(
        'Starts',
        [
          {
            expr: 'sum by (result, reason) (rate(sandbox_starts_total[$__rate_interval]))',
            legend: '{{result}} {{reason}}',
          },
        ],
        { unit: 'ops', description: 'How many sandboxes start, and why starts fail.' },
      ),
    )
    .withPanel(
      graph(
        'Ends of VMs',
        [
          {
            expr: 'sum by (reason) (rate(sandbox_terminations_total[$__rate_interval])) or vector(0)',
            legend: '{{reason}}',
          },
        ],
        { unit: 'ops', description: 'Why VMs ended.' },
      ),
    )
    .withPanel(
      graph(
        'Start, 50th and 99th percentile',
        [
          {
            expr: 'histogram_quantile(0.5, sum by (launch, le) (rate(sandbox_start_duration_seconds_bucket{stage="total"}[$__range]))) >= 0',
            legend: '{{launch}} p50',
          },
          { expr: 'launch:sandbox_start_duration_seconds:p99_30m', legend: '{{launch}} p99' },
        ],
        { unit: 's', description: 'How long users wait for a sandbox.', badFrom: 10 },
      ),
    )
    .withPanel(
      graph(
        'Start by stage',
        [
          {
            expr: 'sum by (stage) (rate(sandbox_start_duration_seconds_sum{stage!="total"}[$__range])) / sum by (stage) (rate(sandbox_start_duration_seconds_count{stage!="total"}[$__range]) > 0)',
            legend: '{{stage}}',
          },
        ],
        { unit: 's', description: 'Which stage of a start is slow.' },
      ),
    )
    .withPanel(
      graph('Restarts', [{ expr: `topk(10, increase(sandbox_restarts_total${OF}[$__range]))`, legend: BY }], {
        unit: 'short',
        description: 'Who does not stay up.',
      }),
    )
    .withPanel(
      graph(
        'CPU, the ten that use most',
        [{ expr: `topk(10, rate(sandbox_cpu_usage_seconds_total${OF}[$__rate_interval]))`, legend: BY }],
        { unit: 'short', description: "CPUs, from the host's figures." },
      ),
    )
    .withPanel(
      graph(
        'Memory, the ten that use most',
        [{ expr: `topk(10, sandbox_memory_resident_bytes${OF})`, legend: BY }],
        {
          unit: 'bytes',
          description: "From the host's figures.",
        },
      ),
    )
    .withPanel(
      graph(
        'Disk writes, the ten that write most',
        [{ expr: `topk(10, rate(sandbox_fs_writes_bytes_total${OF}[$__rate_interval]))`, legend: BY }],
        { unit: 'Bps', description: "From the host's figures." },
      ),
    )
    .build();
}
