// Certificates and requests for tests: real ones, on loopback.
import type { IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { createAuthority, LeafIssuer, type LeafOptions } from '../../network/intercept/certificates.ts';
import type { MutualTls } from '../../server/mutual-tls.ts';

/** Of one authority. */
export class Issuer {
  readonly ca: string;
  readonly #issuer: LeafIssuer;

  private constructor(ca: string, issuer: LeafIssuer) {
    this.ca = ca;
    this.#issuer = issuer;
  }

  static async create(name: string): Promise<Issuer> {
    const authority = await createAuthority(name, Date.now(), 'test');
    return new Issuer(authority.certificate, new LeafIssuer(authority, Date.now));
  }

  /** `ca`: whom its bearer believes; this authority by default. */
  async leaf(name: string, options: LeafOptions = {}, ca = this.ca): Promise<MutualTls> {
    const { chain, key } = await this.#issuer.issue(name, options);
    return { cert: chain, key, ca };
  }
}

export interface Answer {
  status: number;
  headers: IncomingMessage['headers'];
  text: string;
}

export interface Asked {
  port: number;
  path: string;
  method?: string;
  headers?: Record<string, string>;
  body?: string | Buffer;
  /** Of the client; without one it has no certificate. */
  tls?: Partial<MutualTls>;
}

/** One request on a connection of its own. Rejects where no answer comes, or no whole one. */
export function ask({ port, path, method = 'GET', headers = {}, body, tls = {} }: Asked): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { cert, key } = tls;
    const asked = httpsRequest(
      {
        ...{ host: '127.0.0.1', port, path, method, headers, agent: false, rejectUnauthorized: false },
        ...(cert === undefined || key === undefined ? {} : { cert, key }),
      },
      (answer) => {
        const pieces: Buffer[] = [];
        answer.on('data', (piece: Buffer) => pieces.push(piece));
        answer.on('error', reject);
        answer.on('end', () =>
          resolve({
            status: answer.statusCode ?? 0,
            headers: answer.headers,
            text: Buffer.concat(pieces).toString(),
          }),
        );
      },
    );
    asked.on('error', reject);
    asked.end(body);
  });
}

/** A connection on which an upgrade was asked for, with what was answered to that. */
export async function upgrade({ port, path, headers = {}, tls = {} }: Asked): Promise<{
  status: number;
  head: string;
  /** What came behind the head. */
  rest: Buffer;
  socket: TLSSocket;
}> {
  const { cert, key } = tls;
  const options: ConnectionOptions & { allowHalfOpen: boolean } = {
    ...{ host: '127.0.0.1', port, rejectUnauthorized: false, allowHalfOpen: true },
    ...(cert === undefined || key === undefined ? {} : { cert, key }),
  };
  const socket = connect(options);
  const lines = Object.entries({
    ...{ Host: 'test', Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13' },
    ...{ 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==', ...headers },
  });
  socket.write(
    `GET ${path} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`,
  );
  let text = Buffer.alloc(0);
  while (true) {
    const piece = await nextOf(socket);
    text = Buffer.concat([text, piece]);
    const end = text.indexOf('\r\n\r\n');
    if (end === -1) continue;
    const head = text.subarray(0, end).toString();
    return { status: Number(head.split(' ')[1]), head, rest: text.subarray(end + 4), socket };
  }
}

/** The next piece that comes. Rejects when none does any more. */
export function nextOf(socket: TLSSocket): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void): void => {
      socket.off('data', data).off('close', close).off('error', error);
      socket.pause();
      act();
    };
    const data = (piece: Buffer): void => settle(() => resolve(piece));
    const close = (): void => settle(() => reject(new Error('closed before anything came')));
    const error = (failure: Error): void => settle(() => reject(failure));
    socket.on('data', data).once('close', close).once('error', error);
    socket.resume();
  });
}
