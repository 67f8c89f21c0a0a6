// WebSocket upgrades: exec, attach and port-forward.
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import { STREAM_PROTOCOLS, type StreamProtocol } from '../api/channels.ts';
import { BulkheadError } from '../api/errors.ts';
import { execSessionId, isExecId, RESUME_SECONDS_MAX, resumableSessionId } from '../api/exec-sessions.ts';
import { GROUP_VERSION } from '../api/meta.ts';
import { PORT_FORWARD_PROTOCOL } from '../api/port-forward.ts';
import type { ExecRequest, GuestProcess } from '../guest/agent.ts';
import { Admission } from './admission.ts';
import type { LiveSandbox, SandboxAccess } from './contracts.ts';
import { sendRawFailure } from './failures.ts';
import type { KeptExec } from './kept-exec.ts';
import { KeptExecs } from './kept-execs.ts';
import {
  FORWARDS_MAX,
  FORWARDS_PER_SANDBOX_MAX,
  HANGUP_GRACE_MS,
  STREAM_MESSAGE_BYTES_MAX,
  STREAMS_MAX,
  STREAMS_PER_SANDBOX_MAX,
  TERMINAL_SIZE_MAX,
} from './limits.ts';
import { carryPortForward } from './port-forward.ts';
import { boolean, integer, parseQuery, type Query, repeated, single } from './query.ts';
import { StreamSession } from './stream-session.ts';

const PATH = new RegExp(
  `^/apis/${GROUP_VERSION}/namespaces/([^/]+)/sandboxes/([^/]+)/(exec|attach|portforward)$`,
);
const ENV_ENTRY = /^[^=\0]+=[^\0]*$/;
/** Size of a terminal whose client has not told it yet. */
const DEFAULT_SIZE = { columns: 80, rows: 24 };

const PORT_MAX = 65_535;

type Serve = (session: StreamSession, release: () => void) => Promise<void>;

/** Of a client that has no output yet. */
const NOTHING = { stdout: 0, stderr: 0 } as const;

/** Serves exec, attach and port-forward on `server`. Fail before the upgrade: HTTP and a `Status`; after it: the error channel. */
export class StreamEndpoints {
  readonly #sandboxes: SandboxAccess;
  readonly #closing: AbortSignal;
  readonly #sockets = new WebSocketServer({
    noServer: true,
    maxPayload: STREAM_MESSAGE_BYTES_MAX,
    perMessageDeflate: false,
    handleProtocols: (offered) =>
      [...STREAM_PROTOCOLS, PORT_FORWARD_PROTOCOL].find((protocol) => offered.has(protocol)) ?? false,
  });
  readonly #streams = new Admission({
    what: 'execs and attaches',
    total: STREAMS_MAX,
    perSandbox: STREAMS_PER_SANDBOX_MAX,
  });
  readonly #forwards = new Admission({
    what: 'forwarded connections',
    total: FORWARDS_MAX,
    perSandbox: FORWARDS_PER_SANDBOX_MAX,
  });
  readonly #running = new Set<Promise<void>>();
  readonly #kept: KeptExecs;

  constructor(server: Server, sandboxes: SandboxAccess, closing: AbortSignal) {
    this.#sandboxes = sandboxes;
    this.#closing = closing;
    this.#kept = new KeptExecs(closing);
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.on('error', () => socket.destroy());
      const served = this.#upgrade(request, socket, head).catch((error: unknown) =>
        sendRawFailure(socket, error),
      );
      this.#running.add(served);
      void served.finally(() => this.#running.delete(served));
    });
  }

  /** Resolves when every stream that was open has ended. */
  async drained(): Promise<void> {
    await Promise.allSettled([...this.#running]);
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const target = request.url ?? '/';
    // Put behind the host, not resolved against it: a path may begin with two slashes.
    const url = target.startsWith('/') ? URL.parse(`http://localhost${target}`) : null;
    const [, encodedNamespace, encodedName, verb] = PATH.exec(url?.pathname ?? '') ?? [];
    const [namespace, name] = [encodedNamespace, encodedName].map(decoded);
    if (url === null || namespace === undefined || name === undefined) {
      throw new BulkheadError('NOT_FOUND', `no WebSocket at ${url?.pathname ?? target}`);
    }
    const query = parseQuery(url.searchParams);
    if (verb === 'portforward') {
      await this.#forward(request, socket, head, await this.#sandboxes.live(namespace, name), query);
      return;
    }
    const protocol = offeredProtocol(request);
    const sandbox = await this.#sandboxes.live(namespace, name);
    const serve = this.#prepare(verb === 'exec', sandbox, query);
    // Refused here, it is an ordinary answer. A command that is resumed has its place, or takes it when it is found.
    const release = query.resume === undefined ? this.#streams.admit(sandbox.uid) : () => {};
    let session: StreamSession;
    try {
      session = await this.#accept(request, socket, head, protocol, query);
    } catch (error) {
      release();
      throw error;
    }
    try {
      await serve(session, release);
    } catch (error) {
      session.fail(error);
    }
  }

  /** Checks the query. What comes out gives the place among the streams of the sandbox back when it needs it no more. */
  #prepare(isExec: boolean, sandbox: LiveSandbox, query: Query): Serve {
    const resume = execIdOf(query, 'resume');
    if (isExec && resume !== undefined) {
      const from = {
        stdout: integer(query, 'stdoutOffset') ?? 0,
        stderr: integer(query, 'stderrOffset') ?? 0,
      };
      const admit = () => this.#streams.admit(sandbox.uid);
      return async (session) =>
        serveKept(await this.#kept.resume(sandbox, resume, from, admit), session, from);
    }
    const id = execIdOf(query, 'id');
    if (isExec && id !== undefined) {
      const seconds = integer(query, 'resumeSeconds', 1, RESUME_SECONDS_MAX) ?? RESUME_SECONDS_MAX;
      const request = { ...execRequest(sandbox, query), sessionId: resumableSessionId(id, seconds) };
      return async (session, release) =>
        serveKept(await this.#kept.start(sandbox, id, seconds, request, release), session, NOTHING);
    }
    const serve = isExec ? prepareExec(sandbox, query) : prepareAttach(sandbox, query);
    return async (session, release) => {
      const unuse = sandbox.use();
      try {
        await serve(session);
      } finally {
        unuse();
        release();
      }
    };
  }

  #accept(request: IncomingMessage, socket: Duplex, head: Buffer, protocol: StreamProtocol, query: Query) {
    const stdout = boolean(query, 'stdout', true);
    const stderr = boolean(query, 'stderr', true);
    const started = boolean(query, 'started');
    const { promise, resolve, reject } = Promise.withResolvers<StreamSession>();
    // A handshake that is wrong is answered and closed, and told in no other way.
    socket.once('close', () => reject(new BulkheadError('BAD_REQUEST', 'the upgrade was not completed')));
    const options = { protocol, stdout, stderr, started, closing: this.#closing, transport: socket };
    this.#sockets.handleUpgrade(request, socket, head, (webSocket) =>
      resolve(new StreamSession(webSocket, options)),
    );
    return promise;
  }

  /** Connects to the guest first, so that a port that does not answer is a failed request. */
  async #forward(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    sandbox: LiveSandbox,
    query: Query,
  ): Promise<void> {
    if (!offeredProtocols(request).includes(PORT_FORWARD_PROTOCOL))
      throw new BulkheadError(
        'BAD_REQUEST',
        `the WebSocket must offer the subprotocol ${PORT_FORWARD_PROTOCOL}`,
      );
    const port = integer(query, 'port', 1, PORT_MAX);
    if (port === undefined) throw new BulkheadError('BAD_REQUEST', 'query parameter port: which port?');
    const release = this.#forwards.admit(sandbox.uid);
    const unuse = sandbox.use();
    try {
      const guest = await sandbox.dial(port);
      // Until it is carried nobody else would hear of it.
      const ignore = () => {};
      guest.on('error', ignore);
      if (socket.destroyed) {
        guest.destroy();
        return;
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      socket.once('close', () => resolve());
      this.#sockets.handleUpgrade(request, socket, head, (webSocket) =>
        resolve(carryPortForward(webSocket, guest, this.#closing)),
      );
      await promise;
      guest.destroy();
    } finally {
      unuse();
      release();
    }
  }
}

function offeredProtocols(request: IncomingMessage): string[] {
  return (request.headers['sec-websocket-protocol'] ?? '').split(',').map((each) => each.trim());
}

function offeredProtocol(request: IncomingMessage): StreamProtocol {
  const offered = offeredProtocols(request);
  const protocol = STREAM_PROTOCOLS.find((each) => offered.includes(each));
  if (protocol !== undefined) return protocol;
  throw new BulkheadError(
    'BAD_REQUEST',
    `the WebSocket must offer one of the subprotocols ${STREAM_PROTOCOLS.join(', ')}`,
  );
}

function terminalSize(query: Query): { columns: number; rows: number } {
  return {
    columns: integer(query, 'columns', 1, TERMINAL_SIZE_MAX) ?? DEFAULT_SIZE.columns,
    rows: integer(query, 'rows', 1, TERMINAL_SIZE_MAX) ?? DEFAULT_SIZE.rows,
  };
}

/** The parameters of an exec as a request to the agent; the sandbox's own environment below the request's. */
export function execRequest(sandbox: LiveSandbox, query: Query): ExecRequest {
  const { execDefaults } = sandbox;
  const words = repeated(query, 'command');
  const argv = boolean(query, 'entrypoint')
    ? [...execDefaults.entrypoint, ...(words.length > 0 ? words : execDefaults.cmd)]
    : words;
  if (argv.length === 0) {
    throw new BulkheadError('BAD_REQUEST', 'no command: give one, the image has none of its own here');
  }
  const env = new Map<string, string>();
  for (const entry of [...execDefaults.env, ...repeated(query, 'env')]) {
    if (!ENV_ENTRY.test(entry)) {
      throw new BulkheadError('BAD_REQUEST', `env: expected NAME=VALUE, found "${entry.slice(0, 64)}"`);
    }
    env.set(entry.slice(0, entry.indexOf('=')), entry);
  }
  const workingDir = single(query, 'workingDir');
  const user = single(query, 'user') ?? execDefaults.user;
  const timeoutSeconds = integer(query, 'timeoutSeconds', 1);
  return {
    sessionId: execSessionId(randomUUID()),
    argv,
    env: [...env.values()],
    cwd: workingDir ?? execDefaults.cwd,
    // As for the main process, that of the spec or image is made; a typing error in a request is not.
    createCwd: workingDir === undefined,
    ...(user === undefined ? {} : { user }),
    ...(boolean(query, 'tty') ? { tty: terminalSize(query) } : {}),
    stdin: boolean(query, 'stdin'),
    ...(timeoutSeconds === undefined ? {} : { timeoutMs: timeoutSeconds * 1000 }),
    overflow: 'block',
  };
}

/** The id of a resumable command in this parameter. */
function execIdOf(query: Query, parameter: string): string | undefined {
  const id = single(query, parameter);
  if (id !== undefined && !isExecId(id))
    throw new BulkheadError('BAD_REQUEST', `query parameter ${parameter}: expected a UUID in lower case`);
  return id;
}

async function serveKept(
  kept: KeptExec,
  session: StreamSession,
  from: { stdout: number; stderr: number },
): Promise<void> {
  const view = kept.view(from);
  view.replaced.addEventListener('abort', () => session.replace(), { once: true });
  await session.run(view);
  const { inOrder } = await session.closed;
  await kept.left(view, inOrder);
}

function prepareExec(sandbox: LiveSandbox, query: Query): (session: StreamSession) => Promise<void> {
  const request = execRequest(sandbox, query);
  return async (session) => {
    const process = await sandbox.agent.exec(request, session.gone);
    let ended = false;
    const end = process.exited.then(
      () => {
        ended = true;
      },
      () => {
        ended = true;
      },
    );
    try {
      await session.run(process);
      if (!ended) await hangUp(process, end);
    } finally {
      // Fails only where the guest is gone, and the session with it.
      await process.release().catch(() => {});
    }
  };
}

/** A command ends with its connection: first the hang-up that a terminal would give it; `release` ends it by force. */
async function hangUp(process: GuestProcess, end: Promise<void>): Promise<void> {
  await process.signal('SIGHUP').catch(() => {});
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, HANGUP_GRACE_MS);
  await Promise.race([end, late]);
  clearTimeout(timer);
}

function prepareAttach(sandbox: LiveSandbox, query: Query): (session: StreamSession) => Promise<void> {
  const stdin = boolean(query, 'stdin');
  const size = terminalSize(query);
  return async (session) => {
    const main = await sandbox.attachMain();
    try {
      if (main.tty) await main.resize(size);
      const input = stdin ? main.stdin : undefined;
      await session.run({
        ...(input === undefined ? {} : { stdin: input }),
        output: () => main.output(),
        exited: main.exited,
        signal: (name) => main.signal(name),
        resize: (to) => main.resize(to),
      });
    } finally {
      main.close();
    }
  };
}

/** Undefined where it is no percent-encoded UTF-8. */
function decoded(text: string | undefined): string | undefined {
  try {
    return text === undefined ? undefined : decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
