// What the first bytes of a connection say about where it goes.
import { readClientHello } from '../inspect/client-hello.ts';
import { readHttpHead } from '../inspect/http-head.ts';

export type FirstBytes =
  | { readonly state: 'incomplete' }
  /** Neither TLS nor HTTP. */
  | { readonly state: 'other' }
  /** They hide where they go: to be refused where that matters. */
  | { readonly state: 'unreadable' }
  | { readonly state: 'tls'; readonly sni: string | null; readonly alpn: readonly string[] }
  /** More requests may follow the first, each with a host of its own. */
  | { readonly state: 'http'; readonly httpHost: string | null };

export function readFirstBytes(bytes: Uint8Array): FirstBytes {
  const hello = readClientHello(bytes);
  if (hello.state === 'hello') return { state: 'tls', sni: hello.serverName, alpn: hello.alpn };
  if (hello.state === 'invalid') return { state: 'unreadable' };
  if (hello.state === 'incomplete') return hello;
  const head = readHttpHead(bytes);
  switch (head.state) {
    case 'head':
      return { state: 'http', httpHost: head.host };
    case 'http2':
    case 'invalid':
      return { state: 'unreadable' };
    default:
      return head;
  }
}
