// One sandbox: what it uses, on the host and as its guest says.
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { dashboard, graph, labelVariable, stat } from './panels.ts';

const SANDBOX = 'namespace="$namespace",name="$name"';

export const SANDBOX_DESCRIPTION =
  'one sandbox, as the host sees it and as its guest says; where the two disagree, believe the host.';

export function sandboxBoard(): Dashboard {
  return dashboard('bulkhead-sandbox', 'Bulkhead / Sandbox', SANDBOX_DESCRIPTION)
    .withVariable(labelVariable('namespace', 'namespace', 'sandbox_info').label('Namespace'))
    .withVariable(labelVariable('name', 'name', 'sandbox_info{namespace="$namespace"}').label('Sandbox'))
    .withPanel(
      stat(
        'Phase',
        { expr: `sandbox_status_phase{${SANDBOX}}`, legend: '{{phase}}' },
        {
          unit: 'short',
          description: 'Where in its life it is.',
          showLegend: true,
        },
      ),
    )
    .withPanel(
      stat(
        'Ready',
        { expr: `sandbox_status_condition{${SANDBOX},condition="Ready"}`, legend: '{{status}}' },
        {
          unit: 'short',
          description: 'Can work run in it?',
          showLegend: true,
        },
      ),
    )
    .withPanel(
      stat(
        'Started',
        { expr: `sandbox_vm_start_time_seconds{${SANDBOX}} * 1000`, legend: '' },
        {
          unit: 'dateTimeFromNow',
          description: 'When its VM was started.',
        },
      ),
    )
    .withPanel(
      stat(
        'Restarts',
        { expr: `sandbox_restarts_total{${SANDBOX}}`, legend: '' },
        {
          unit: 'short',
          description: 'By its restart policy.',
          warnFrom: 1,
          badFrom: 5,
        },
      ),
    )
    .withPanel(
      stat(
        'Guest memory in use',
        {
          expr: `sandbox_memory_guest_used_bytes{${SANDBOX}} / (sandbox_memory_guest_used_bytes{${SANDBOX}} + sandbox_memory_guest_available_bytes{${SANDBOX}})`,
          legend: '',
        },
        { unit: 'percentunit', description: 'As the guest says.', warnFrom: 0.8, badFrom: 0.95, max: 1 },
      ),
    )
    .withPanel(
      stat(
        'Root disk in use',
        {
          expr: `sandbox_fs_guest_used_bytes{${SANDBOX}} / sandbox_fs_guest_limit_bytes{${SANDBOX}}`,
          legend: '',
        },
        { unit: 'percentunit', description: 'As the guest says.', warnFrom: 0.8, badFrom: 0.9, max: 1 },
      ),
    )
    .withPanel(
      graph(
        'CPU',
        [{ expr: `rate(sandbox_cpu_usage_seconds_total{${SANDBOX}}[$__rate_interval])`, legend: 'host' }],
        {
          unit: 'short',
          description: 'CPUs that the VM uses on the host.',
        },
      ),
    )
    .withPanel(
      graph(
        'Memory',
        [
          { expr: `sandbox_memory_resident_bytes{${SANDBOX}}`, legend: 'host' },
          { expr: `sandbox_memory_limit_bytes{${SANDBOX}}`, legend: 'limit on the host' },
          { expr: `sandbox_memory_guest_used_bytes{${SANDBOX}}`, legend: 'used, says the guest' },
        ],
        { unit: 'bytes', description: 'On the host, and as the guest says.' },
      ),
    )
    .withPanel(
      graph(
        'Disk',
        [
          { expr: `rate(sandbox_fs_reads_bytes_total{${SANDBOX}}[$__rate_interval])`, legend: 'read' },
          { expr: `rate(sandbox_fs_writes_bytes_total{${SANDBOX}}[$__rate_interval])`, legend: 'written' },
        ],
        { unit: 'Bps', description: "What the VM does on the host's storage." },
      ),
    )
    .withPanel(
      graph(
        'Root file system',
        [
          { expr: `sandbox_fs_guest_used_bytes{${SANDBOX}}`, legend: 'used' },
          { expr: `sandbox_fs_guest_limit_bytes{${SANDBOX}}`, legend: 'size' },
        ],
        { unit: 'bytes', description: 'As the guest says.' },
      ),
    )
    .withPanel(
      graph(
        'Network',
        [
          {
            expr: `rate(sandbox_network_receive_bytes_total{${SANDBOX}}[$__rate_interval])`,
            legend: 'received',
          },
          {
            expr: `rate(sandbox_network_transmit_bytes_total{${SANDBOX}}[$__rate_interval])`,
            legend: 'sent',
          },
        ],
        { unit: 'Bps', description: "At the host's side of its TAP." },
      ),
    )
    .withPanel(
      graph(
        'Conditions',
        [{ expr: `sandbox_status_condition{${SANDBOX}}`, legend: '{{condition}} {{status}}' }],
        {
          unit: 'short',
          description: 'Which conditions held when.',
        },
      ),
    )
    .build();
}
