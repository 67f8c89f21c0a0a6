// bulkhead describe

import type { Command } from 'commander';
import { ageOf } from '../api/age.ts';
import type { ResourceKind, StoredObject } from '../api/meta.ts';
import { isRecord } from '../api/validation/structural.ts';
import type { BulkheadClient, EventObject } from '../client/client.ts';
import type { SandboxPolicy } from '../network/policy/effective.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { byTime } from './events.ts';
import { sandboxPolicyText } from './output/policy.ts';
import { printable, Table } from './output/table.ts';
import { getNamed, parseTargets } from './targets.ts';
import { conditionsOf } from './waiting.ts';

interface Options extends ConnectionOptions {
  selector?: string;
}

export function define(command: Command): void {
  connectionOptions(command)
    .argument('<target...>', 'KIND, KIND NAME..., or KIND/NAME...')
    .option('-l, --selector <labels>', 'objects with these labels')
    .action(describe);
}

async function describe(words: string[], options: Options): Promise<void> {
  await withClient(options, async (client) => {
    const texts: string[] = [];
    for (const { kind, name } of parseTargets(words)) {
      const { namespace, selector } = options;
      const query = { namespace, ...(selector === undefined ? {} : { labelSelector: selector }) };
      const objects =
        name === undefined
          ? (await client.list(kind, query)).items
          : [await getNamed(client, kind, namespace, name)];
      for (const object of objects) texts.push(await textOf(client, kind, object));
    }
    if (texts.length === 0) process.stderr.write(`No resources found in namespace ${options.namespace}.\n`);
    process.stdout.write(texts.join('\n\n'));
  });
}

async function textOf(client: BulkheadClient, kind: ResourceKind, object: StoredObject): Promise<string> {
  const { namespace, name, uid } = object.metadata;
  const events = await client.events({ namespace, fieldSelector: `involvedObject.uid=${uid}` });
  const policy =
    kind.kind === 'Sandbox' ? ((await client.effectivePolicy(namespace, name)) as SandboxPolicy) : undefined;
  const now = Date.now();
  return [
    metadataText(object),
    kind.group === '' ? dataText(object) : section('Spec', object.spec),
    section('Status', withoutTables(object.status)),
    policy === undefined ? '' : sandboxPolicyText(policy),
    stagesText(object),
    conditionsText(object, now),
    eventsText(events, now),
  ].join('');
}

function metadataText({ kind, apiVersion, metadata }: StoredObject): string {
  const mapText = (map: Record<string, string> | undefined) =>
    Object.entries(map ?? {})
      .map(([name, value]) => `${name}=${value}`)
      .join(', ') || '<none>';
  const rows: [string, string][] = [
    ['Name', metadata.name],
    ['Namespace', metadata.namespace],
    ['Kind', `${kind} (${apiVersion})`],
    ['Labels', mapText(metadata.labels)],
    ['Annotations', mapText(metadata.annotations)],
    ['UID', metadata.uid],
    ['Generation', String(metadata.generation)],
    ['Created', metadata.creationTimestamp],
  ];
  if (metadata.deletionTimestamp !== undefined) rows.push(['Deletion asked', metadata.deletionTimestamp]);
  if (metadata.finalizers !== undefined) rows.push(['Finalizers', metadata.finalizers.join(', ')]);
  return rows.map(([name, value]) => `${`${name}:`.padEnd(16)}${printable(value)}\n`).join('');
}

/** Without what has a table of its own. */
function withoutTables(status: unknown): unknown {
  if (!isRecord(status)) return status;
  const { conditions: _conditions, ...rest } = status;
  if (!isRecord(rest.vm)) return rest;
  const { startStages: _stages, ...vm } = rest.vm;
  return { ...rest, vm };
}

/** A title and the value below it; nothing for an empty one. */
function section(title: string, value: unknown): string {
  if (!isRecord(value) || Object.keys(value).length === 0) return '';
  return `${title}:\n${lines(value, 1).join('')}`;
}

function scalar(value: unknown): string {
  return printable(typeof value === 'string' ? value : JSON.stringify(value));
}

function lines(value: Record<string, unknown>, depth: number): string[] {
  const indent = '  '.repeat(depth);
  return Object.entries(value).flatMap(([name, each]) => {
    const label = `${indent}${printable(name)}:`;
    if (Array.isArray(each) && each.every((item) => !isRecord(item))) return [`${label} ${scalar(each)}\n`];
    if (Array.isArray(each)) {
      return [
        `${label}\n`,
        ...each.flatMap((item) => {
          const [first = '', ...rest] = isRecord(item) ? lines(item, depth + 2) : [`${scalar(item)}\n`];
          return [`${indent}  - ${first.trimStart()}`, ...rest];
        }),
      ];
    }
    if (isRecord(each)) return [`${label}\n`, ...lines(each, depth + 1)];
    return [`${label} ${scalar(each)}\n`];
  });
}

/** Keys and sizes; values may be secret. */
function dataText(object: StoredObject): string {
  const entries = Object.entries(object.data ?? {});
  if (entries.length === 0) return '';
  const secret = object.kind === 'Secret';
  const size = (value: string) => (secret ? Buffer.from(value, 'base64').length : Buffer.byteLength(value));
  return `Data:\n${entries.map(([name, value]) => `  ${printable(name)}: ${size(value)} bytes\n`).join('')}`;
}

/** How long each stage of the last start took, and when it was over, from its beginning. */
function stagesText(object: StoredObject): string {
  const { vm } = (object.status ?? {}) as { vm?: { startStages?: unknown } };
  const stages = Array.isArray(vm?.startStages) ? vm.startStages.filter(isStage) : [];
  if (stages.length === 0) return '';
  const table = new Table(['  STAGE', 'TOOK', 'DONE AFTER'], { showHeader: true });
  let sum = 0;
  const rows = stages.map(({ name, milliseconds }) => {
    sum += milliseconds;
    return [`  ${name}`, `${milliseconds}ms`, `${sum}ms`];
  });
  return `Start:\n${table.format(rows)}`;
}

function isStage(value: unknown): value is { name: string; milliseconds: number } {
  return isRecord(value) && typeof value.name === 'string' && typeof value.milliseconds === 'number';
}

function conditionsText(object: StoredObject, now: number): string {
  const conditions = conditionsOf(object);
  if (conditions.length === 0) return 'Conditions:     <none>\n';
  const table = new Table(['  TYPE', 'STATUS', 'SINCE', 'REASON', 'MESSAGE'], { showHeader: true });
  const rows = conditions.map(({ type, status, lastTransitionTime, reason, message }) => [
    `  ${type}`,
    status,
    ageOf(lastTransitionTime, now),
    reason,
    message,
  ]);
  return `Conditions:\n${table.format(rows)}`;
}

function eventsText(events: readonly EventObject[], now: number): string {
  if (events.length === 0) return 'Events:         <none>\n';
  const table = new Table(['  TYPE', 'REASON', 'AGE', 'COUNT', 'MESSAGE'], { showHeader: true });
  const rows = events
    .toSorted(byTime)
    .map(({ type, reason, lastTimestamp, count, message }) => [
      `  ${type}`,
      reason,
      ageOf(lastTimestamp, now),
      String(count),
      message,
    ]);
  return `Events:\n${table.format(rows)}`;
}
