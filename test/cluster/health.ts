// What tools for GitOps say of an object's health: the kstatus library itself, our check for Argo CD in a Lua interpreter, and our
// expressions for Flux.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { celEnv, parse, plan } from '@bufbuild/cel';
import { load } from 'js-yaml';
import { CHART } from './bulkhead-cluster.ts';
import { clusterProgram, command } from './cluster.ts';

const GITOPS = join(CHART, 'gitops');
/** Argo CD's interpreter speaks 5.1. */
const LUA = 'lua5.1';

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

export interface Health {
  kstatus: string;
  argo: string;
  flux: string;
}

/** Of versions of objects, in their order. */
export async function healthOf(objects: readonly object[]): Promise<Health[]> {
  const versions = objects as readonly Record<string, Json>[];
  const [kstatus, argo] = await Promise.all([kstatusOf(versions), argoOf(versions)]);
  return versions.map((object, at) => ({
    ...{ kstatus: kstatus[at] ?? '', argo: argo[at] ?? '' },
    flux: fluxOf(object),
  }));
}

async function kstatusOf(objects: readonly Record<string, Json>[]): Promise<string[]> {
  const input = objects.map((object) => JSON.stringify(object)).join('\n');
  const { code, stdout, stderr } = await command(clusterProgram('kstatus'), [], input);
  assert.equal(code, 0, stderr);
  return lines(stdout).map((line) => (JSON.parse(line) as { status: string }).status);
}

async function argoOf(objects: readonly Record<string, Json>[]): Promise<string[]> {
  const check = readFileSync(join(GITOPS, 'argocd-health.lua'), 'utf8');
  const program = objects.map(
    (object) => `do local obj = ${luaLiteral(object)}\nprint((function() ${check} end)().status) end`,
  );
  const { code, stdout, stderr } = await command(LUA, ['-'], program.join('\n'));
  assert.equal(code, 0, stderr);
  return lines(stdout);
}

/** In the order in which Flux evaluates; what fails to evaluate does not hold. */
function fluxOf(object: Record<string, Json>): string {
  const [check] = load(readFileSync(join(GITOPS, 'flux-health.yaml'), 'utf8')) as Record<string, string>[];
  const env = celEnv();
  const holds = (name: string): boolean => {
    const result = plan(env, parse(check?.[name] ?? 'false'))(object as never);
    return result === true;
  };
  if (holds('inProgress')) return 'InProgress';
  if (holds('failed')) return 'Failed';
  return holds('current') ? 'Current' : 'InProgress';
}

function luaLiteral(value: Json): string {
  if (value === null) return 'nil';
  if (typeof value === 'string')
    return `"${[...Buffer.from(value)].map((byte) => `\\${String(byte).padStart(3, '0')}`).join('')}"`;
  if (typeof value !== 'object') return String(value);
  const entries = Array.isArray(value)
    ? value.map(luaLiteral)
    : Object.entries(value).map(([name, each]) => `[${luaLiteral(name)}] = ${luaLiteral(each)}`);
  return `{ ${entries.join(', ')} }`;
}

function lines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}
