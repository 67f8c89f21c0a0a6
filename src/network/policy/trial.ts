// What would happen to a connection: asked of a policy without a sandbox that opens it.
import { isIP } from 'node:net';
import { parseAddress, parseRange } from './addresses.ts';
import { decideAnswer, decideFlow, decideQuery } from './decide.ts';
import type { EffectivePolicy } from './effective.ts';
import type { Decider, FlowProtocol } from './flow.ts';
import { HOST_NAME, normalizeName } from './names.ts';

export interface Trial {
  /** Name or address. */
  readonly host: string;
  readonly protocol: FlowProtocol;
  /** 0 for ICMP. */
  readonly port: number;
  /** Where the name leads; some public address that no narrow range holds when absent. */
  readonly address?: string;
}

interface Step {
  readonly allowed: boolean;
  readonly by: Decider;
}

export interface TrialResult {
  readonly allowed: boolean;
  /** The question for the name; absent for an address. */
  readonly question?: Step;
  /** Whether an answer with the given address is told; absent where none was given. */
  readonly answer?: Step;
  /** The connection, of a client that shows the name; absent where the name already is refused. */
  readonly flow?: Step;
}

/** Ranges that hold more than this many addresses are not meant for one of them. */
const NARROW_PREFIX = 8;

/** A public address that stands for one that is not known: outside all ranges of rules that are not about nearly everything. */
function somePublicAddress({ rules }: EffectivePolicy): string {
  const narrow = rules
    .flatMap(({ to }) => to)
    .flatMap(({ cidr }) => (cidr === undefined ? [] : (parseRange(cidr) ?? [])))
    .filter(({ family, prefix }) => family === 4 && prefix >= NARROW_PREFIX)
    .map(({ value }) => Number(value >> 24n));
  const first = [11, 12, 13, 14, 15, 16, 17, 18, 19, 20].find((octet) => !narrow.includes(octet)) ?? 11;
  return `${first}.${first}.${first}.${first}`;
}

export function tryDestination(effective: EffectivePolicy, trial: Trial): TrialResult {
  const { protocol, port } = trial;
  if (isIP(trial.host) !== 0) {
    const flow = decideFlow(effective, { protocol, port, address: trial.host, toHost: false, names: [] });
    return { allowed: flow.allowed, flow: stepOf(flow) };
  }
  const question = stepOf(decideQuery(effective, { name: trial.host }));
  if (!question.allowed) return { allowed: false, question };
  const name = normalizeName(trial.host) ?? '';
  const toHost = name === HOST_NAME;
  const answer =
    trial.address === undefined || toHost ? undefined : decideAnswer(effective, trial.address, false);
  if (answer?.allowed === false) return { allowed: false, question, answer };
  const address = trial.address ?? somePublicAddress(effective);
  const shown = protocol === 'TCP' ? { sni: name } : {};
  const flow = decideFlow(effective, { protocol, port, address, toHost, names: [name], ...shown });
  return {
    allowed: flow.allowed,
    question,
    ...(answer === undefined ? {} : { answer: stepOf(answer) }),
    flow: stepOf(flow),
  };
}

function stepOf({ allowed, by }: Step): Step {
  return { allowed, by };
}

/** `HOST:PORT`, with `[` and `]` around an IPv6 address; for ICMP the host alone. Undefined for what is none. */
export function parseDestination(
  text: string,
  protocol: FlowProtocol,
): { host: string; port: number } | undefined {
  if (protocol === 'ICMP') return isHost(text) ? { host: text, port: 0 } : undefined;
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2] ?? '';
  const port = Number(match?.[3]);
  return isHost(host) && port >= 1 && port <= 65_535 ? { host, port } : undefined;
}

function isHost(text: string): boolean {
  return parseAddress(text) !== undefined || normalizeName(text) !== undefined;
}
