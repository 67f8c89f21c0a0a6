// What all requests about files of a sandbox have in common.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { BulkheadError } from '../api/errors.ts';
import { GROUP_VERSION } from '../api/meta.ts';
import type { GuestFiles } from '../guest/agent.ts';
import { isJsonObject } from '../store/merge-patch.ts';
import type { SandboxAccess } from './contracts.ts';
import { FILE_OPERATIONS_PER_SANDBOX, FILE_OPERATIONS_WAITING_MAX } from './limits.ts';
import { Turns } from './turns.ts';

export const FILES = `/apis/${GROUP_VERSION}/namespaces/:namespace/sandboxes/:name/files`;
export const DEFAULT_FILE_MODE = 0o644;
export const DEFAULT_DIRECTORY_MODE = 0o755;
const MODE_MAX = 0o7777;

type Work<T> = (files: GuestFiles, signal: AbortSignal) => Promise<T>;
/** Runs `work` in its turn while the sandbox counts as used; a client that leaves ends it. */
export type WithFiles = <T>(request: FastifyRequest, reply: FastifyReply, work: Work<T>) => Promise<T>;

export function fileWork(sandboxes: SandboxAccess, closing: AbortSignal): WithFiles {
  const turns = new Turns(FILE_OPERATIONS_PER_SANDBOX, FILE_OPERATIONS_WAITING_MAX);
  return async (request, reply, work) => {
    const { namespace, name } = request.params as { namespace: string; name: string };
    const sandbox = await sandboxes.live(namespace, name);
    const leave = new AbortController();
    reply.raw.once('close', () => leave.abort(new BulkheadError('TIMEOUT', 'the client went away')));
    const signal = AbortSignal.any([leave.signal, closing]);
    const giveBack = await turns.take(sandbox.uid, signal);
    const unuse = sandbox.use();
    try {
      return await work(sandbox.agent.files, signal);
    } finally {
      unuse();
      giveBack();
    }
  };
}

export interface Body {
  text(name: 'path' | 'to' | 'target'): string;
  field(name: string): unknown;
}

export function bodyOf(request: FastifyRequest): Body {
  const body = request.body ?? {};
  if (!isJsonObject(body)) throw new BulkheadError('BAD_REQUEST', 'the body must be a JSON object');
  return {
    text(name) {
      const value = body[name];
      if (typeof value !== 'string' || value === '')
        throw new BulkheadError('BAD_REQUEST', `${name} is missing`);
      return value;
    },
    field: (name) => body[name],
  };
}

/** Throws BAD_REQUEST. */
export function permissionBits(mode: unknown): number {
  if (typeof mode !== 'number' || !Number.isInteger(mode) || mode < 0 || mode > MODE_MAX)
    throw new BulkheadError('BAD_REQUEST', `mode must be a whole number from 0 to ${MODE_MAX}`);
  return mode;
}
