import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ControllerMetrics } from './controller-metrics.ts';

test('a controller tells whether it leads and what it asks of the API server, and nothing of what nodes have', async () => {
  const metrics = new ControllerMetrics('the-lease');
  metrics.observeRequest({ code: '200', method: 'GET', host: '10.0.0.1:6443' });
  metrics.ofController('placement');
  const text = async () => (await metrics.scrape()).body.toString();
  const waiting = await text();
  assert.match(waiting, /^leader_election_master_status\{name="the-lease"\} 0$/m);
  assert.match(waiting, /^rest_client_requests_total\{code="200",method="GET",host="10\.0\.0\.1:6443"\} 1$/m);
  assert.match(waiting, /^controller_runtime_reconcile_errors_total\{controller="placement"\} 0$/m);
  // A figure of 0 there would be one that alerts look at.
  assert.doesNotMatch(waiting, /^# HELP (sandbox|node|gateway|shim|volume|source|image)_/m);
});
