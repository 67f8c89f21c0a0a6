// Between the contract's types and the protocol's messages, with every value from the guest checked.
import { randomUUID } from 'node:crypto';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { BulkheadError, type ErrorCode } from '../api/errors.ts';
import { parseCidr, parseIp, parseMac } from './addresses.ts';
import type { AgentHello, ExecRequest, GuestStats, Personality, ProcessExit, SessionInfo } from './agent.ts';
import { protocolError } from './frames.ts';
import {
  type ExecSchema,
  type ExitStatus,
  type Failure,
  FailureCode,
  type GuestHello,
  Overflow,
  type Personalize,
  PersonalizeSchema,
  type SessionState,
  type Stats,
} from './generated/agent_pb.js';
import {
  MAIN_RING_BYTES,
  MAX_FEATURES,
  MAX_SESSIONS,
  MAX_TEXT,
  OUTPUT_WINDOW_BYTES,
  RING_BYTES,
} from './limits.ts';
import { signalName } from './signals.ts';

export const PROTOCOL_VERSION = 1;
/** The session of the sandbox's own program. */
export const MAIN_SESSION = 'main';

const SESSION_ID = /^[a-z0-9-]{1,63}$/;

/** A count from the guest. Throws AGENT_PROTOCOL for what a number cannot hold exactly. */
export function safeCount(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw protocolError('an impossible count');
  return Number(value);
}

/** Printable and short. */
function safeText(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is taken out
  return text.slice(0, MAX_TEXT).replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ');
}

/** Throws INVALID. */
export function checkSessionId(sessionId: string): void {
  if (!SESSION_ID.test(sessionId)) {
    throw new BulkheadError('INVALID', `the session id "${sessionId}" is not 1 to 63 of [a-z0-9-]`);
  }
}

export function toProcessExit(status: ExitStatus): ProcessExit {
  if (status.code > 255 || status.signal > 64) throw protocolError('an impossible exit status');
  return {
    exitCode: status.signal > 0 ? 128 + status.signal : status.code,
    signal: signalName(status.signal),
    timedOut: status.timedOut,
    oomKilled: status.oomKilled,
  };
}

function toSessionInfo(state: SessionState): SessionInfo {
  if (!SESSION_ID.test(state.sessionId)) throw protocolError('a session with an impossible id');
  if (!state.running && !state.exit) throw protocolError('an ended session without its exit status');
  return {
    sessionId: state.sessionId,
    pid: state.pid,
    running: state.running,
    ...(state.exit ? { exit: toProcessExit(state.exit) } : {}),
  };
}

export function toAgentHello(hello: GuestHello): AgentHello {
  if (hello.protocolVersion !== PROTOCOL_VERSION) {
    throw protocolError(`it speaks version ${hello.protocolVersion}, this host version ${PROTOCOL_VERSION}`);
  }
  if (hello.sessions.length > MAX_SESSIONS)
    throw protocolError(`${hello.sessions.length} sessions in its hello`);
  if (hello.features.length > MAX_FEATURES)
    throw protocolError(`${hello.features.length} features in its hello`);
  const sessions = hello.sessions.map(toSessionInfo);
  if (new Set(sessions.map((session) => session.sessionId)).size !== sessions.length) {
    throw protocolError('two sessions with one id');
  }
  return {
    protocolVersion: hello.protocolVersion,
    agentVersion: safeText(hello.agentVersion),
    features: hello.features.map(safeText),
    kernelRelease: safeText(hello.kernelRelease),
    bootId: safeText(hello.bootId),
    rootMounted: hello.rootMounted,
    personalized: hello.personalized,
    sessions,
    ...(hello.timeMs === 0n ? {} : { timeMs: Number(hello.timeMs) }),
  };
}

const FAILURE_CODES: Record<FailureCode, ErrorCode> = {
  [FailureCode.FAILURE_UNSPECIFIED]: 'INTERNAL',
  [FailureCode.FAILURE_INVALID]: 'INVALID',
  [FailureCode.FAILURE_NOT_FOUND]: 'NOT_FOUND',
  [FailureCode.FAILURE_ALREADY_EXISTS]: 'ALREADY_EXISTS',
  [FailureCode.FAILURE_PRECONDITION]: 'SANDBOX_NOT_RUNNING',
  [FailureCode.FAILURE_EXHAUSTED]: 'TOO_MANY_REQUESTS',
  [FailureCode.FAILURE_COMMAND_NOT_FOUND]: 'COMMAND_NOT_FOUND',
  [FailureCode.FAILURE_COMMAND_NOT_EXECUTABLE]: 'COMMAND_NOT_EXECUTABLE',
  [FailureCode.FAILURE_IO]: 'INTERNAL',
};

export function toError(failure: Failure): BulkheadError {
  return new BulkheadError(
    FAILURE_CODES[failure.code] ?? 'INTERNAL',
    safeText(failure.message) || 'the guest gave no reason',
  );
}

/** The boot id is the host's choice, so that a repeated request gives the guest no other identity. */
export function toPersonalize(personality: Personality, now: number): Personalize {
  const { network } = personality;
  return create(PersonalizeSchema, {
    bootId: randomUUID(),
    hostname: personality.hostname,
    timeMs: BigInt(Math.round(personality.timeMs ?? now)),
    entropy: personality.entropy,
    ...(network
      ? {
          network: {
            mac: parseMac(network.mac),
            addresses: network.addresses.map(parseCidr),
            gateways: network.gateways.map((gateway) => ({ ip: parseIp(gateway), prefixLength: 0 })),
            mtu: network.mtu,
          },
        }
      : {}),
    nameservers: personality.nameservers,
    searchDomains: personality.searchDomains,
    extraHosts: personality.extraHosts,
  });
}

export function toExec(request: ExecRequest): MessageInitShape<typeof ExecSchema> {
  const isMain = request.sessionId === MAIN_SESSION;
  return {
    sessionId: request.sessionId,
    argv: request.argv,
    env: request.env,
    cwd: request.cwd ?? '/',
    createCwd: request.createCwd ?? false,
    user: request.user ?? '',
    ...(request.tty ? { terminal: request.tty } : {}),
    stdin: request.stdin,
    rlimits: (request.rlimits ?? []).map((limit) => ({
      name: limit.name.toUpperCase().replace(/^RLIMIT_/, ''),
      soft: toLimit(limit.soft),
      hard: toLimit(limit.hard),
    })),
    timeoutMs: BigInt(Math.ceil(request.timeoutMs ?? 0)),
    overflow: request.overflow === 'block' ? Overflow.BLOCK : Overflow.DROP_OLDEST,
    ringBytes: isMain ? MAIN_RING_BYTES : RING_BYTES,
    outputCredit: OUTPUT_WINDOW_BYTES,
    killOnRelease: isMain,
  };
}

/** Infinity, and -1 as docker writes it, are no limit. */
function toLimit(value: number): bigint {
  return Number.isFinite(value) && value >= 0 ? BigInt(Math.floor(value)) : 2n ** 64n - 1n;
}

export function toGuestStats(stats: Stats): GuestStats {
  const seconds = (ms: bigint): number => safeCount(ms) / 1000;
  return {
    uptimeSeconds: seconds(stats.uptimeMs),
    cpu: {
      userSeconds: seconds(stats.userMs),
      systemSeconds: seconds(stats.systemMs),
      idleSeconds: seconds(stats.idleMs),
      iowaitSeconds: seconds(stats.iowaitMs),
      stealSeconds: seconds(stats.stealMs),
    },
    memory: {
      totalBytes: safeCount(stats.memoryTotal),
      availableBytes: safeCount(stats.memoryAvailable),
      cachedBytes: safeCount(stats.memoryCached),
    },
    load: [stats.load1 / 1000, stats.load5 / 1000, stats.load15 / 1000],
    pressure: {
      cpuSomeAvg10: stats.pressureCpu / 100,
      memorySomeAvg10: stats.pressureMemory / 100,
      ioSomeAvg10: stats.pressureIo / 100,
    },
    fileSystems: stats.fileSystems.map((entry) => ({
      mountPath: safeText(entry.mountPath),
      ...(entry.volume === '' ? {} : { volume: safeText(entry.volume) }),
      availableBytes: safeCount(entry.availableBytes),
      totalBytes: safeCount(entry.totalBytes),
      usedBytes: safeCount(entry.usedBytes),
      totalInodes: safeCount(entry.totalInodes),
      usedInodes: safeCount(entry.usedInodes),
    })),
    interfaces: stats.interfaces.map((entry) => ({
      name: safeText(entry.name),
      receiveBytes: safeCount(entry.receiveBytes),
      transmitBytes: safeCount(entry.transmitBytes),
      receivePackets: safeCount(entry.receivePackets),
      transmitPackets: safeCount(entry.transmitPackets),
    })),
    processes: stats.processes,
  };
}
