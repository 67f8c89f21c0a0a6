// What probes and hooks do in a guest: a command, an HTTP request, a connection. Everything goes through the agent's channel,
// also HTTP and TCP, which the guest's agent dials from inside: so no network policy and no gateway decides over the health of
// a sandbox, and one whose network is closed is probed like any other.
import { request } from 'node:http';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';

import { asBulkheadError, BulkheadError } from '../../../api/errors.ts';
import type { HttpGetAction } from '../../../api/sandbox-probes.ts';
import type { Clock } from '../../../controller/clock.ts';
import type { GuestAgent, GuestProcess } from '../../../guest/agent.ts';
import { within } from '../../elapsed.ts';
import {
  ACTION_OUTPUT_WAIT_MS,
  HTTP_BODY_MAX_BYTES,
  HTTP_HEADER_MAX_BYTES,
  PROBE_MESSAGE_MAX_CHARS,
} from '../limits.ts';
import type { ExecDefaults } from '../runtime/sandbox-runtime.ts';

/** The guest in which it is done. */
export interface ActionTarget {
  readonly agent: GuestAgent;
  readonly defaults: ExecDefaults;
  /** Of the guest, in its own network. */
  readonly address: string;
  readonly clock: Clock;
}

/** Why it is not good, in words that may come from the guest; `undefined` where it is. */
export type Complaint = string | undefined;

/** What a probe or hook does; the fields of its spec. */
export interface Action {
  exec?: { command: string[] };
  httpGet?: HttpGetAction;
  tcpSocket?: { port: number };
}

/**
 * Does it once. What the guest says or fails to do is a complaint; throws NOT_SUPPORTED where its agent cannot be asked at all. Waits
 * until the signal aborts; what follows then says nothing.
 */
export async function perform(
  target: ActionTarget,
  { exec, httpGet, tcpSocket }: Action,
  sessionId: string,
  signal: AbortSignal,
): Promise<Complaint> {
  try {
    if (exec !== undefined) return await runCommand(target, exec.command, sessionId, signal);
    if (httpGet !== undefined) return await getOverHttp(target, httpGet, signal);
    if (tcpSocket !== undefined) {
      const connection = await dial(target, tcpSocket.port, signal);
      connection.destroy();
    }
    return undefined;
  } catch (error) {
    const { code, message } = asBulkheadError(error);
    if (code === 'NOT_SUPPORTED') throw error;
    return plain(code === 'AGENT_UNREACHABLE' ? 'the guest does not answer' : message);
  }
}

async function runCommand(
  { agent, defaults, clock }: ActionTarget,
  argv: string[],
  sessionId: string,
  signal: AbortSignal,
): Promise<Complaint> {
  const known = agent.hello.sessions.some((session) => session.sessionId === sessionId);
  const process = known
    ? await agent.attach(sessionId, { stdout: 0, stderr: 0 })
    : await agent.exec(
        {
          sessionId,
          argv,
          env: [...defaults.env],
          cwd: defaults.cwd,
          ...(defaults.user === undefined ? {} : { user: defaults.user }),
          stdin: false,
          overflow: 'drop-oldest',
        },
        signal,
      );
  // Ends it where it still runs.
  const release = (): void => void process.release().catch(() => {});
  if (signal.aborted) release();
  else signal.addEventListener('abort', release, { once: true });
  const words = firstWords(process);
  const { exitCode } = await process.exited;
  signal.removeEventListener('abort', release);
  const said = exitCode === 0 ? '' : ((await within(clock, ACTION_OUTPUT_WAIT_MS, words)) ?? '');
  release();
  if (exitCode === 0) return undefined;
  return plain(`exit code ${exitCode}${said === '' ? '' : `: ${said}`}`);
}

/** The begin of what it says; the rest stays in the guest, which drops it. */
async function firstWords(process: GuestProcess): Promise<string> {
  let text = '';
  try {
    for await (const { data } of process.output()) {
      text += Buffer.from(data.subarray(0, PROBE_MESSAGE_MAX_CHARS)).toString();
      if (text.length >= PROBE_MESSAGE_MAX_CHARS) break;
    }
  } catch {
    // Whoever waits for its end is told.
  }
  return text;
}

async function dial({ agent, address }: ActionTarget, port: number, signal: AbortSignal): Promise<Duplex> {
  const connection = await agent.dial({ address, port }, signal);
  // What goes wrong with it is told where it is used.
  connection.on('error', () => {});
  return connection;
}

async function getOverHttp(
  target: ActionTarget,
  action: HttpGetAction,
  signal: AbortSignal,
): Promise<Complaint> {
  const connection = await dial(target, action.port, signal);
  try {
    const status = await statusOf(await secured(connection, action), target.address, action, signal);
    return status >= 200 && status < 400 ? undefined : `HTTP ${status}`;
  } finally {
    connection.destroy();
  }
}

/** Whoever can answer here is inside the sandbox already: a certificate would prove nothing more. */
function secured(connection: Duplex, { scheme }: HttpGetAction): Promise<Duplex> {
  if (scheme !== 'HTTPS') return Promise.resolve(connection);
  return new Promise((resolve, reject) => {
    const tls = connectTls({ socket: connection, rejectUnauthorized: false }, () => resolve(tls));
    tls.on('error', reject);
    connection.once('close', () => reject(new BulkheadError('DIAL_FAILED', 'TLS was not established')));
  });
}

function statusOf(
  connection: Duplex,
  address: string,
  { path = '/', port, httpHeaders = [] }: HttpGetAction,
  signal: AbortSignal,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = request({
      createConnection: () => connection,
      ...{ method: 'GET', host: address, port, path, signal, setHost: false },
      maxHeaderSize: HTTP_HEADER_MAX_BYTES,
    });
    const given = new Set(httpHeaders.map(({ name }) => name.toLowerCase()));
    const basic = { Host: `${address}:${port}`, 'User-Agent': 'bulkhead-probe', Accept: '*/*' };
    for (const [name, value] of Object.entries(basic))
      if (!given.has(name.toLowerCase())) asked.setHeader(name, value);
    for (const { name, value } of httpHeaders) asked.appendHeader(name, value);
    let status: number | undefined;
    asked.on('response', (response) => {
      status = response.statusCode ?? 0;
      // A server is let finish what it has to say, within bounds: many log a client that leaves as an error.
      let left = HTTP_BODY_MAX_BYTES;
      response.on('data', (chunk: Buffer) => {
        left -= chunk.length;
        if (left < 0) response.destroy();
      });
      response.on('error', () => {});
      response.on('close', () => asked.destroy());
    });
    asked.on('error', reject);
    // Also where what came was no answer, as a change of protocols.
    asked.on('close', () =>
      status === undefined ? reject(new BulkheadError('DIAL_FAILED', 'no answer')) : resolve(status),
    );
    asked.end();
  });
}

/** Printable and short: it goes into events and conditions. */
function plain(text: string): string {
  return text
    .replaceAll(/\p{Cc}+/gu, ' ')
    .trim()
    .slice(0, PROBE_MESSAGE_MAX_CHARS);
}
