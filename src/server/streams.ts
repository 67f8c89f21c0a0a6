// WebSocket upgrades: exec and attach.
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import { STREAM_PROTOCOLS, type StreamProtocol } from '../api/channels.ts';
import { BulkheadError } from '../api/errors.ts';
import { GROUP_VERSION } from '../api/meta.ts';
import type { ExecRequest, GuestProcess } from '../guest/agent.ts';
import type { LiveSandbox, SandboxAccess } from './contracts.ts';
import { sendRawFailure } from './failures.ts';
import {
  HANGUP_GRACE_MS,
  STREAM_MESSAGE_BYTES_MAX,
  STREAMS_MAX,
  STREAMS_PER_SANDBOX_MAX,
  TERMINAL_SIZE_MAX,
} from './limits.ts';
import { boolean, integer, parseQuery, type Query, repeated, single } from './query.ts';
import { StreamSession } from './stream-session.ts';

const PATH = new RegExp(`^/apis/${GROUP_VERSION}/namespaces/([^/]+)/sandboxes/([^/]+)/(exec|attach)$`);
const ENV_ENTRY = /^[^=\0]+=[^\0]*$/;
/** Size of a terminal whose client has not told it yet. */
const DEFAULT_SIZE = { columns: 80, rows: 24 };

/** Serves exec and attach on `server`. Fail before the upgrade: HTTP and a `Status`; after it: the error channel. */
export class StreamEndpoints {
  readonly #sandboxes: SandboxAccess;
  readonly #closing: AbortSignal;
  readonly #sockets = new WebSocketServer({
    noServer: true,
    maxPayload: STREAM_MESSAGE_BYTES_MAX,
    perMessageDeflate: false,
    handleProtocols: (offered) => STREAM_PROTOCOLS.find((protocol) => offered.has(protocol)) ?? false,
  });
  readonly #openBySandbox = new Map<string, number>();
  readonly #running = new Set<Promise<void>>();
  #open = 0;

  constructor(server: Server, sandboxes: SandboxAccess, closing: AbortSignal) {
    this.#sandboxes = sandboxes;
    this.#closing = closing;
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
    const protocol = offeredProtocol(request);
    const query = parseQuery(url.searchParams);
    const sandbox = await this.#sandboxes.live(namespace, name);
    const serve = verb === 'exec' ? prepareExec(sandbox, query) : prepareAttach(sandbox, query);
    const release = this.#admit(sandbox.uid);
    try {
      const session = await this.#accept(request, socket, head, protocol, query);
      const unuse = sandbox.use();
      try {
        await serve(session);
      } catch (error) {
        session.fail(error);
      } finally {
        unuse();
      }
    } finally {
      release();
    }
  }

  #accept(request: IncomingMessage, socket: Duplex, head: Buffer, protocol: StreamProtocol, query: Query) {
    const stdout = boolean(query, 'stdout', true);
    const stderr = boolean(query, 'stderr', true);
    const started = boolean(query, 'started');
    const { promise, resolve } = Promise.withResolvers<StreamSession>();
    this.#sockets.handleUpgrade(request, socket, head, (webSocket) =>
      resolve(new StreamSession(webSocket, { protocol, stdout, stderr, started, closing: this.#closing })),
    );
    return promise;
  }

  #admit(uid: string): () => void {
    const ofSandbox = this.#openBySandbox.get(uid) ?? 0;
    if (this.#open >= STREAMS_MAX || ofSandbox >= STREAMS_PER_SANDBOX_MAX) {
      const limit =
        this.#open >= STREAMS_MAX ? `${STREAMS_MAX} in all` : `${STREAMS_PER_SANDBOX_MAX} per sandbox`;
      throw new BulkheadError('TOO_MANY_REQUESTS', `too many open execs and attaches: at most ${limit}`);
    }
    this.#open++;
    this.#openBySandbox.set(uid, ofSandbox + 1);
    return () => {
      this.#open--;
      const left = (this.#openBySandbox.get(uid) ?? 1) - 1;
      if (left > 0) this.#openBySandbox.set(uid, left);
      else this.#openBySandbox.delete(uid);
    };
  }
}

function offeredProtocol(request: IncomingMessage): StreamProtocol {
  const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((each) => each.trim());
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
    sessionId: `exec-${randomUUID()}`,
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
