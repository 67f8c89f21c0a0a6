// What the gateway costs a guest's connections: throughput, connections a second and round trips to a server, beside pasta and
// slirp4netns as they serve a namespace in the same run, and beside no gateway at all. Namespaces stand for VMs, as the
// peers can serve those. Needs root. Usage: node bench/network.ts [ROUNDS] [--json]
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { GATEWAY_V4, GUEST_MAC, GUEST_V4 } from '../src/network/gateway/address-plan.ts';
import type { DnsFigures, Figures } from './network-ends.ts';
import { countArgument, Report } from './report.ts';

const ROUNDS = countArgument(5);
/** Of each kind of measurement. */
const SECONDS = 1;
const SERVER = '20.0.0.10';
const PORT = 9000;
const BUILD = join(import.meta.dirname, '..', 'build');
const NODE = [process.execPath, '--disable-warning=ExperimentalWarning'];
const ENDS = [...NODE, join(import.meta.dirname, 'network-ends.ts')];

const spaces: string[] = [];
const children: ChildProcess[] = [];

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'inherit'] });
}

/** A namespace that is gone with the bench. */
function space(role: string): string {
  const name = `bhb${process.pid}${role}`;
  ip('netns', 'add', name);
  spaces.push(name);
  ip('-n', name, 'link', 'set', 'lo', 'up');
  return name;
}

function start(name: string, ...command: string[]): ChildProcess {
  const args = [`--net=/run/netns/${name}`, ...command];
  const child = spawn('nsenter', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(child);
  return child;
}

/** Runs until the command has printed its first line. */
async function ready(child: ChildProcess): Promise<void> {
  child.stderr?.resume();
  if (child.stdout === null) throw new Error('no output');
  await Promise.race([
    once(child.stdout, 'data'),
    once(child, 'exit').then(() => Promise.reject(new Error(`${child.spawnargs.join(' ')} ended`))),
  ]);
}

function wire(a: string, nameA: string, addressA: string, b: string, nameB: string, addressB: string): void {
  ip('-n', a, 'link', 'add', nameA, 'type', 'veth', 'peer', 'name', nameB, 'netns', b);
  ip('-n', a, 'addr', 'add', `${addressA}/24`, 'dev', nameA);
  ip('-n', b, 'addr', 'add', `${addressB}/24`, 'dev', nameB);
  ip('-n', a, 'link', 'set', nameA, 'up');
  ip('-n', b, 'link', 'set', nameB, 'up');
}

function clientIn(name: string, ...before: string[]): Promise<Figures> {
  return measureIn(name, ...before, ...ENDS, 'client', SERVER, String(PORT), String(SECONDS));
}

function tlsClientIn(name: string): Promise<Figures> {
  return measureIn(name, ...ENDS, 'tls', SERVER, String(PORT), String(SECONDS));
}

async function measureIn<T>(name: string, ...command: string[]): Promise<T> {
  const child = start(name, ...command);
  if (child.stdout === null || child.stderr === null) throw new Error('no output');
  const [out, errors] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const line = out.split('\n').find((each) => each.startsWith('{'));
  if (line === undefined) throw new Error(errors || 'the client measured nothing');
  return JSON.parse(line) as T;
}

/** A namespace whose TAP is a veth pair, with a gateway behind it. */
async function openGateway(outside: string, kind: 'plain' | 'intercept'): Promise<string> {
  const [vm, guest] = [space(`v${kind}`), space(`g${kind}`)];
  wire(vm, 'tap0', GATEWAY_V4, guest, 'eth0', GUEST_V4);
  ip('-n', guest, 'link', 'set', 'eth0', 'address', GUEST_MAC);
  ip('-n', guest, 'route', 'add', 'default', 'via', GATEWAY_V4);
  const holder = start(vm, 'sh', '-c', 'echo ready; exec sleep 1000000');
  await ready(holder);
  await ready(start(outside, ...ENDS, 'gateway', BUILD, String(holder.pid), kind));
  liftBounds(vm);
  return guest;
}

/** What the gateway can is to be measured, not the bounds of what one guest may ask of it. */
function liftBounds(name: string): void {
  const nft = (...args: string[]) =>
    execFileSync('nsenter', [`--net=/run/netns/${name}`, 'nft', ...args], { encoding: 'utf8' });
  const chain = ['netdev', 'bulkhead', 'guest'];
  for (const [, handle = ''] of nft('-a', 'list', 'chain', ...chain).matchAll(
    /limit rate over .*# handle (\d+)/g,
  ))
    nft('delete', 'rule', ...chain, 'handle', handle);
}

async function openSlirp(outside: string): Promise<string> {
  const guest = space('s');
  const slirp = ['slirp4netns', '--configure', '--mtu=65520', '--ready-fd=1', '--netns-type=path'];
  const child = start(outside, ...slirp, `/run/netns/${guest}`, 'tap0');
  await ready(child);
  return guest;
}

function isInstalled(command: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${command}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

try {
  const report = new Report('connections of a guest');
  const [outside, servers] = [space('o'), space('h')];
  wire(outside, 'out', '20.0.1.1', servers, 'in', '20.0.1.2');
  ip('-n', outside, 'route', 'add', 'default', 'via', '20.0.1.2');
  ip('-n', servers, 'addr', 'add', `${SERVER}/32`, 'dev', 'lo');
  await ready(start(servers, ...ENDS, 'server', String(PORT)));
  const guest = await openGateway(outside, 'plain');
  const opened = await openGateway(outside, 'intercept');
  const paths: Record<string, () => Promise<Figures>> = {
    'no gateway': () => clientIn(outside),
    gateway: () => clientIn(guest),
    'gateway, TLS': () => tlsClientIn(guest),
    'gateway, TLS opened': () => tlsClientIn(opened),
  };
  if (isInstalled('pasta')) {
    // As root it would become nobody, who may not enter namespaces.
    paths.pasta = () => clientIn(outside, 'pasta', '--config-net', '--runas', '0', '-f', '--');
  } else report.note('pasta is not installed (package passt)');
  if (isInstalled('slirp4netns')) {
    const slirped = await openSlirp(outside);
    paths.slirp4netns = () => clientIn(slirped);
  } else report.note('slirp4netns is not installed');

  const measured = new Map<string, Figures[]>();
  const answers: { known: DnsFigures; fresh: DnsFigures }[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [name, run] of Object.entries(paths))
      measured.set(name, [...(measured.get(name) ?? []), await run()]);
    answers.push(await measureIn(guest, ...ENDS, 'dns', GATEWAY_V4));
  }

  const units: Record<keyof Figures, readonly [string, string]> = {
    upGbit: ['up', 'Gbit/s'],
    downGbit: ['down', 'Gbit/s'],
    connections: ['connections, one after the other', '1/s'],
    connectionsTogether: ['connections, eight at a time', '1/s'],
    roundTripP50: ['round trip p50', 'us'],
    roundTripP99: ['round trip p99', 'us'],
  };
  const of = (path: string, unit: keyof Figures) => (measured.get(path) ?? []).map((each) => each[unit]);
  for (const [key, [title, unit]] of Object.entries(units))
    for (const path of Object.keys(paths))
      report.series(`${path}: ${title}`, unit, of(path, key as keyof Figures));
  for (const kind of ['known', 'fresh'] as const)
    for (const [figure, title, unit] of [
      ['perSecond', 'one after the other', '1/s'],
      ['p50', 'p50', 'us'],
      ['p99', 'p99', 'us'],
    ] as const)
      report.series(
        `answers to ${kind} names: ${title}`,
        unit,
        answers.map((each) => each[kind][figure]),
      );
  for (const unit of ['upGbit', 'downGbit', 'connectionsTogether'] as const)
    report.ratio(
      `TLS opened to TLS passed on, ${units[unit][0]}`,
      of('gateway, TLS opened', unit),
      of('gateway, TLS', unit),
      { min: 0.5 },
    );
  for (const peer of ['pasta', 'slirp4netns'].filter((name) => name in paths))
    for (const unit of ['upGbit', 'downGbit', 'connectionsTogether'] as const)
      report.ratio(`gateway to ${peer}, ${units[unit][0]}`, of('gateway', unit), of(peer, unit), { min: 1 });
  report.note(
    'The rates that one guest may have (1,000 connections and 1,000 questions a second) are lifted here.',
  );
  report.note('Namespaces stand for VMs: a TAP of a real one adds its VMM to each path.');
  report.print();
} finally {
  for (const child of children) child.kill('SIGKILL');
  for (const name of spaces.toReversed()) ip('netns', 'del', name);
}
