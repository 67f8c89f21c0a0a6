// Opens a TLS connection at the gateway: first towards the real server, which is verified, then towards the guest with a leaf
// of our own, so that both ends speak the protocol that the server chose.
import type { Socket } from 'node:net';
import { connect, type SecureContext, TLSSocket } from 'node:tls';
import type { Decider } from '../policy/flow.ts';
import { normalizeName } from '../policy/names.ts';
import { HANDSHAKES_MS } from './limits.ts';

/** What carries them out comes from the sandbox's policy. */
export interface OpenTlsOptions {
  readonly client: Socket;
  readonly upstream: Socket;
  /** As the ClientHello has it. */
  readonly serverName: string | null;
  readonly alpn: readonly string[];
  /** Of the server, for clients that name none. */
  readonly address: string;
  readonly trust: SecureContext;
  readonly verify: boolean;
  readonly leafFor: (name: string) => Promise<SecureContext>;
}

export interface OpenTls {
  readonly guest: TLSSocket;
  readonly server: TLSSocket;
  /** By ALPN; undefined where none was negotiated. */
  readonly protocol: string | undefined;
}

/** A handshake that failed, as what it says about who refused whom. */
export class TlsRefused extends Error {
  readonly by: Decider;
  constructor(by: Decider) {
    super(by.kind);
    this.by = by;
  }
}

/** The client's ClientHello is yet to be read from `client`. Throws TlsRefused; both sockets are the caller's to end then. */
export async function openTls(options: OpenTlsOptions): Promise<OpenTls> {
  const { client, upstream, serverName, alpn, address, trust, verify, leafFor } = options;
  const name = serverName === null ? undefined : normalizeName(serverName);
  const host = name ?? address;
  const server = connect({
    ...{ socket: upstream, host: address, secureContext: trust, rejectUnauthorized: verify },
    ...(name === undefined ? {} : { servername: name }),
    ...(alpn.length === 0 ? {} : { ALPNProtocols: [...alpn] }),
  });
  await handshake(server, 'secureConnect', (problem) => ({ kind: 'UpstreamTls', host, problem }));
  const protocol = typeof server.alpnProtocol === 'string' ? server.alpnProtocol : undefined;
  const guest = new TLSSocket(client, {
    isServer: true,
    secureContext: await leafFor(host),
    ...(protocol === undefined ? {} : { ALPNProtocols: [protocol] }),
  });
  await handshake(guest, 'secure', (problem) => ({ kind: 'GuestTls', host, problem }));
  // As tls.Server does it: HTTP/2 waits for a handshake as long as it is set.
  Object.assign(guest, { secureConnecting: false });
  return { guest, server, protocol };
}

function handshake(
  socket: TLSSocket,
  done: 'secureConnect' | 'secure',
  refused: (problem: string) => Decider,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (problem?: string): void => {
      clearTimeout(timer);
      socket.off(done, onDone).off('error', onError).off('close', onClose);
      socket.off('readable', onReadable).off('end', onClose);
      // What comes of it later is its owner's, who listens from the next turn on.
      socket.on('error', () => {});
      if (problem === undefined) resolve();
      else reject(new TlsRefused(refused(problem)));
    };
    const onDone = () => settle();
    const onError = (error: Error) => settle(reasonOf(error));
    const onClose = () => settle('the connection ended in the handshake');
    // Nobody reads yet: an end is only told to one who does.
    const onReadable = () => {
      if (socket.readableLength === 0) socket.read(0);
    };
    const timer = setTimeout(() => settle('the handshake took too long'), HANDSHAKES_MS);
    socket.on(done, onDone).on('error', onError).on('close', onClose);
    socket.on('readable', onReadable).on('end', onClose);
  });
}

/** OpenSSL's errors say more than a person needs. */
function reasonOf(error: Error): string {
  const { reason } = error as Error & { reason?: unknown };
  return (typeof reason === 'string' && reason !== '' ? reason : error.message).slice(0, 200);
}
