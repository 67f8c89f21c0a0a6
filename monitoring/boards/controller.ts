// The daemon itself: does it keep up?
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { dashboard, graph, labelVariable, stat } from './panels.ts';

const OF = '{instance=~"$instance"}';

export const CONTROLLER_DESCRIPTION =
  'the daemon: reconciles, queues, the folder of manifests, memory and event loop.';

export function controllerBoard(): Dashboard {
  return dashboard('bulkhead-controller', 'Bulkhead / Controller', CONTROLLER_DESCRIPTION)
    .withVariable(
      labelVariable('instance', 'instance', 'bulkhead_build_info')
        .label('Instance')
        .multi(true)
        .includeAll(true)
        .allValue('.*'),
    )
    .withPanel(
      stat(
        'Version',
        { expr: `bulkhead_build_info${OF}`, legend: '{{version}}' },
        {
          unit: 'short',
          description: 'What runs.',
          showLegend: true,
        },
      ),
    )
    .withPanel(
      stat(
        'Up since',
        { expr: `process_start_time_seconds{instance=~"$instance",job="bulkhead"} * 1000`, legend: '' },
        {
          unit: 'dateTimeFromNow',
          description: 'When the daemon was started. VMs outlive it.',
        },
      ),
    )
    .withPanel(
      stat(
        'Keys waiting',
        { expr: `sum(workqueue_depth${OF})`, legend: '' },
        {
          unit: 'short',
          description: 'In all queues.',
          warnFrom: 100,
          badFrom: 1000,
        },
      ),
    )
    .withPanel(
      stat(
        'Longest reconcile under way',
        { expr: `max(workqueue_longest_running_processor_seconds${OF})`, legend: '' },
        {
          unit: 's',
          description: 'A reconcile takes milliseconds.',
          warnFrom: 30,
          badFrom: 300,
        },
      ),
    )
    .withPanel(
      stat(
        'Documents not in force',
        { expr: `sum(source_invalid_documents${OF})`, legend: '' },
        {
          unit: 'short',
          description: 'In the folder of manifests.',
          badFrom: 1,
        },
      ),
    )
    .withPanel(
      stat(
        'Orphans',
        { expr: `sum(shim_orphans${OF})`, legend: '' },
        {
          unit: 'short',
          description: 'Remains of VMs that cannot be removed.',
          badFrom: 1,
        },
      ),
    )
    .withPanel(
      graph(
        'Reconciles',
        [
          {
            expr: `sum by (controller, result) (rate(controller_runtime_reconcile_total${OF}[$__rate_interval]))`,
            legend: '{{controller}} {{result}}',
          },
        ],
        { unit: 'ops', description: 'By controller and result.' },
      ),
    )
    .withPanel(
      graph(
        'Reconcile, 99th percentile',
        [
          {
            expr: `histogram_quantile(0.99, sum by (controller, le) (rate(controller_runtime_reconcile_time_seconds_bucket${OF}[$__range])))`,
            legend: '{{controller}}',
          },
        ],
        { unit: 's', description: 'How long reconciles take.' },
      ),
    )
    .withPanel(
      graph(
        'Failed reconciles',
        [
          {
            expr: `sum by (controller) (rate(controller_runtime_reconcile_errors_total${OF}[$__rate_interval]))`,
            legend: '{{controller}} errors',
          },
          {
            expr: `sum by (controller) (rate(controller_runtime_reconcile_panics_total${OF}[$__rate_interval]))`,
            legend: '{{controller}} panics',
          },
        ],
        { unit: 'ops', description: 'Panics are defects.' },
      ),
    )
    .withPanel(
      graph('Queue depth', [{ expr: `sum by (name) (workqueue_depth${OF})`, legend: '{{name}}' }], {
        unit: 'short',
        description: 'Keys that could be worked on now.',
      }),
    )
    .withPanel(
      graph(
        'Time in queue, 99th percentile',
        [
          {
            expr: `histogram_quantile(0.99, sum by (name, le) (rate(workqueue_queue_duration_seconds_bucket${OF}[$__range])))`,
            legend: '{{name}}',
          },
        ],
        { unit: 's', description: 'How long keys wait.' },
      ),
    )
    .withPanel(
      graph('Manifest folder', [{ expr: `sum by (state) (source_objects${OF})`, legend: '{{state}}' }], {
        unit: 'short',
        description: 'Its objects by state.',
      }),
    )
    .withPanel(
      graph(
        'Event loop, 99th percentile of the lag',
        [{ expr: `nodejs_eventloop_lag_p99_seconds${OF}`, legend: '{{instance}}' }],
        { unit: 's', description: 'How long the daemon was busy in one go.', warnFrom: 0.1, badFrom: 1 },
      ),
    )
    .withPanel(
      graph(
        'Memory',
        [
          {
            expr: `process_resident_memory_bytes{instance=~"$instance",job="bulkhead"}`,
            legend: '{{instance}}',
          },
        ],
        {
          unit: 'bytes',
          description: 'Of the daemon, without VMs.',
        },
      ),
    )
    .withPanel(
      graph(
        'CPU',
        [
          {
            expr: `rate(process_cpu_seconds_total{instance=~"$instance",job="bulkhead"}[$__rate_interval])`,
            legend: '{{instance}}',
          },
        ],
        { unit: 'short', description: 'CPUs that the daemon uses, without VMs.' },
      ),
    )
    .build();
}
