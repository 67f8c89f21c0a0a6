// The way of one request to the agent of the node where its sandbox runs, and of the answer back: streamed, bounded, and to nobody
// but that node. Own code rather than a proxy of a library: those for Fastify take WebSockets apart into messages, without holding
// either side back.
import { type ClientRequest, type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import { Agent, request as httpsRequest, type RequestOptions } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { PeerCertificate, TLSSocket } from 'node:tls';
import { BulkheadError } from '../api/errors.ts';
import { GROUP_VERSION } from '../api/meta.ts';
import { type SubresourceTarget, subresourceUrl } from '../api/subresources.ts';
import { Admission } from '../server/admission.ts';
import { type MutualTls, secureContext } from '../server/mutual-tls.ts';
import { answerHeaders, requestHeaders } from './headers.ts';
import { joinStreams } from './join.ts';
import {
  CONNECT_TIMEOUT_MS,
  KEEP_ALIVE_MS,
  KEPT_PER_NODE_MAX,
  PROXIED_STREAMS_MAX,
  PROXIED_STREAMS_PER_SANDBOX_MAX,
} from './limits.ts';
import type { Locate, Place } from './locate.ts';

export interface AgentProxyOptions {
  locate: Locate;
  /** Of agents, the same on each node. */
  port: number;
}

interface NodeRequestOptions extends RequestOptions {
  nodeName?: string;
}

/** Keeps connections of nodes apart by the nodes' names: an address may have been another's before. */
class NodeAgents extends Agent {
  override getName(options: NodeRequestOptions = {}): string {
    return `${super.getName(options)}:${options.nodeName}`;
  }

  /** Keeps no connection any more; those in use go on. */
  retire(): void {
    this.maxFreeSockets = 0;
    for (const socket of Object.values(this.freeSockets).flat()) socket?.destroy();
  }
}

export class AgentProxy {
  readonly #locate: Locate;
  readonly #port: number;
  #identity: MutualTls | undefined;
  #agents: NodeAgents | undefined;
  readonly #streams = new Admission({
    what: 'streams',
    total: PROXIED_STREAMS_MAX,
    perSandbox: PROXIED_STREAMS_PER_SANDBOX_MAX,
  });
  /** Both ends of each open stream. */
  readonly #open = new Set<Duplex>();

  constructor({ locate, port }: AgentProxyOptions) {
    this.#locate = locate;
    this.#port = port;
  }

  /** What agents know this controller by, from now on; requests under way go on. */
  identify(identity: MutualTls): void {
    this.#agents?.retire();
    this.#identity = identity;
    this.#agents = new NodeAgents({
      ...{ keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS, maxFreeSockets: KEPT_PER_NODE_MAX },
      maxCachedSessions: 0,
    });
  }

  /** Ends every stream, and the connections that are kept. */
  close(): void {
    for (const each of this.#open) each.destroy();
    this.#agents?.destroy();
  }

  /** Answers with what the agent answers, once `take` was called. Fails where it gives no answer; then nothing was sent. */
  async pass(
    target: SubresourceTarget,
    request: IncomingMessage,
    response: ServerResponse,
    take: () => void,
  ): Promise<void> {
    const place = await this.#locate(decoded(target.namespace), decoded(target.name));
    const isReadOnly = request.method === 'GET' || request.method === 'HEAD';
    const send = (): ClientRequest => {
      const asked = this.#ask(place, target, request, requestHeaders(request.rawHeaders), this.#agents);
      response.once('close', () => {
        if (!response.writableFinished) asked.destroy();
      });
      if (isReadOnly) asked.end();
      // Its failure is that of `asked`; an agent that answers early reads no further.
      else void pipeline(request, asked).catch(() => undefined);
      return asked;
    };
    const answer = await answerTo(send(), place).catch((error: unknown) => {
      // A connection that was kept may have been closed by the agent meanwhile.
      if (isReadOnly && error instanceof StaleConnection && !response.destroyed)
        return answerTo(send(), place);
      throw error;
    });
    take();
    response.writeHead(answer.statusCode ?? 502, answer.statusMessage, answerHeaders(answer.rawHeaders));
    response.flushHeaders();
    // The headers are out: a broken connection is the only honest way left to say that the answer is not whole.
    await pipeline(answer, response).catch(() => response.destroy());
  }

  /** Joins the connection with one to the agent, once that takes the upgrade; passes on its answer where it does not. */
  async upgrade(
    target: SubresourceTarget,
    request: IncomingMessage,
    socket: Socket,
    head: Buffer,
  ): Promise<void> {
    const [namespace, name] = [decoded(target.namespace), decoded(target.name)];
    const place = await this.#locate(namespace, name);
    const release = this.#streams.admit(`${namespace}/${name}`);
    try {
      if (socket.destroyed) return;
      const headers = [
        ...requestHeaders(request.rawHeaders),
        ...['Connection', 'Upgrade', 'Upgrade', request.headers.upgrade ?? 'websocket'],
      ];
      const asked = this.#ask(place, target, request, headers, new NodeAgents({ maxCachedSessions: 0 }));
      const leave = (): void => void asked.destroy();
      socket.once('close', leave);
      asked.end();
      const taken = await upgradeOf(asked, place);
      socket.off('close', leave);
      if (taken.stream === undefined) {
        socket.write(headText(taken.answer, ['Connection', 'close']));
        await pipeline(taken.answer, socket).catch(() => socket.destroy());
        return;
      }
      await this.#join(socket, head, taken);
    } finally {
      release();
    }
  }

  async #join(
    socket: Socket,
    head: Buffer,
    { answer, stream, head: early }: { answer: IncomingMessage; stream: Socket; head: Buffer },
  ): Promise<void> {
    this.#open.add(socket).add(stream);
    try {
      socket.setKeepAlive(true, KEEP_ALIVE_MS);
      stream.setKeepAlive(true, KEEP_ALIVE_MS);
      const upgrade = ['Connection', 'Upgrade', 'Upgrade', String(answer.headers.upgrade)];
      socket.write(headText(answer, upgrade));
      if (early.length > 0) socket.write(early);
      if (head.length > 0) stream.write(head);
      await joinStreams(socket, stream);
    } finally {
      this.#open.delete(socket);
      this.#open.delete(stream);
    }
  }

  #ask(
    { nodeName, host }: Place,
    target: SubresourceTarget,
    { method }: IncomingMessage,
    headers: string[],
    agent: Agent | undefined,
  ): ClientRequest {
    if (this.#identity === undefined || agent === undefined)
      throw new BulkheadError('NODE_UNREACHABLE', 'This controller has no certificate for nodes yet.');
    const options: NodeRequestOptions = {
      ...{ host, port: this.#port, method, agent, nodeName },
      path: subresourceUrl(target, GROUP_VERSION),
      headers: ['Host', nodeName, ...headers],
      ...secureContext(this.#identity),
      // The node is known by its name, and reached by its address. Names of nodes may look like addresses, which TLS sends to no one.
      servername: '',
      checkServerIdentity: (_host: string, certificate: PeerCertificate) => checkNode(nodeName, certificate),
      allowHalfOpen: true,
    } as NodeRequestOptions;
    const asked = httpsRequest(options);
    const late = setTimeout(
      () => asked.destroy(new Error(`no connection within ${CONNECT_TIMEOUT_MS / 1000} s`)),
      CONNECT_TIMEOUT_MS,
    );
    const inTime = (): void => clearTimeout(late);
    asked.once('socket', (socket: TLSSocket) => {
      if (asked.reusedSocket) inTime();
      else socket.once('secureConnect', inTime);
    });
    asked.once('close', inTime);
    return asked;
  }
}

/** Of a connection that was kept and turned out to be closed. */
class StaleConnection extends BulkheadError {}

function unreachable(asked: ClientRequest, { nodeName }: Place, error: NodeJS.ErrnoException): BulkheadError {
  const message = `The agent of node "${nodeName}" does not answer: ${error.message || error.code}.`;
  const isStale = asked.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
  return new (isStale ? StaleConnection : BulkheadError)('NODE_UNREACHABLE', message, { cause: error });
}

function answerTo(asked: ClientRequest, place: Place): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    asked.once('response', resolve);
    // Errors go on coming: of a request whose body is sent after the answer has begun.
    asked.on('error', (error) => reject(unreachable(asked, place, error)));
  });
}

type Taken =
  | { answer: IncomingMessage; stream: Socket; head: Buffer }
  | { answer: IncomingMessage; stream?: undefined };

function upgradeOf(asked: ClientRequest, place: Place): Promise<Taken> {
  return new Promise((resolve, reject) => {
    asked.once('response', (answer) => resolve({ answer }));
    asked.once('upgrade', (answer, stream, head) => resolve({ answer, stream: stream as Socket, head }));
    asked.on('error', (error) => reject(unreachable(asked, place, error)));
  });
}

function checkNode(nodeName: string, { subjectaltname = '' }: PeerCertificate): Error | undefined {
  const names = subjectaltname.split(', ');
  if (names.includes(`DNS:${nodeName}`) || names.includes(`IP Address:${nodeName}`)) return undefined;
  return new Error(`its certificate is not that of the node but of ${subjectaltname}`);
}

/** The head of an answer as it goes over a connection that Node's server has let go of. */
function headText(answer: IncomingMessage, more: readonly string[]): string {
  const { statusCode = 502, statusMessage } = answer;
  const flat = [...answerHeaders(answer.rawHeaders), ...more];
  let text = `HTTP/1.1 ${statusCode} ${statusMessage || STATUS_CODES[statusCode]}\r\n`;
  for (let index = 0; index + 1 < flat.length; index += 2) text += `${flat[index]}: ${flat[index + 1]}\r\n`;
  return `${text}\r\n`;
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch (error) {
    throw new BulkheadError('BAD_REQUEST', `"${segment}" is not percent-encoded UTF-8`, { cause: error });
  }
}
