// Columns of `get`, for our own command line and, through the CRDs, for kubectl: one table for both.
import type { KindName } from './kinds.ts';

export interface Column {
  /** Header, in upper case. */
  name: string;
  type: 'string' | 'integer' | 'date';
  /** Kubernetes' JSONPath below the object. */
  jsonPath: string;
  /** Shown with `-o wide` only. */
  wide?: true;
}

const condition = (type: string, field: 'status' | 'reason') =>
  `.status.conditions[?(@.type=="${type}")].${field}`;

const AGE: Column = { name: 'AGE', type: 'date', jsonPath: '.metadata.creationTimestamp' };

const wide = (name: string, type: Column['type'], jsonPath: string): Column => ({
  name,
  type,
  jsonPath,
  wide: true,
});

/** The name column is everyone's first and is not listed. */
export const COLUMNS: Record<KindName, readonly Column[]> = {
  Sandbox: [
    { name: 'READY', type: 'string', jsonPath: condition('Ready', 'status') },
    { name: 'STATUS', type: 'string', jsonPath: '.status.phase' },
    { name: 'IMAGE', type: 'string', jsonPath: '.spec.image' },
    { name: 'NODE', type: 'string', jsonPath: '.status.nodeName' },
    AGE,
    wide('CPUS', 'integer', '.spec.resources.cpus'),
    wide('MEMORY', 'string', '.spec.resources.memory'),
    wide('IP', 'string', '.status.network.address'),
    wide('BOOT-MS', 'integer', '.status.vm.bootMilliseconds'),
    wide('RESTARTS', 'integer', '.status.restarts'),
    wide('DRIVER', 'string', '.status.vm.driver'),
    wide('REASON', 'string', condition('Ready', 'reason')),
  ],
  Volume: [
    { name: 'READY', type: 'string', jsonPath: condition('Ready', 'status') },
    { name: 'STATUS', type: 'string', jsonPath: '.status.phase' },
    { name: 'CAPACITY', type: 'string', jsonPath: '.spec.capacity' },
    { name: 'ACCESS', type: 'string', jsonPath: '.spec.accessMode' },
    AGE,
    wide('USED-BYTES', 'integer', '.status.usedBytes'),
    wide('RECLAIM', 'string', '.spec.reclaimPolicy'),
    wide('REASON', 'string', condition('Ready', 'reason')),
  ],
  NetworkPolicy: [
    { name: 'ACCEPTED', type: 'string', jsonPath: condition('Accepted', 'status') },
    { name: 'MODE', type: 'string', jsonPath: '.spec.egress.mode' },
    { name: 'SELECTED', type: 'integer', jsonPath: '.status.selected' },
    { name: 'PROGRAMMED', type: 'integer', jsonPath: '.status.programmed' },
    AGE,
    wide('REASON', 'string', condition('Programmed', 'reason')),
  ],
  Secret: [AGE],
  ConfigMap: [AGE],
};
