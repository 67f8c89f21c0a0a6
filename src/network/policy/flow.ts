// What is decided about, and what a decision says.
import type { BlockedAnswer, EgressMode } from '../../api/networkpolicy.ts';
import type { InterceptionReason } from './interception.ts';

export type FlowProtocol = 'TCP' | 'UDP' | 'ICMP';

/** One connection, datagram session or echo that a sandbox opens, with all that is known of it so far. */
export interface Flow {
  readonly protocol: FlowProtocol;
  /** Destination as the guest sent it, in any textual form; v4-mapped and others are unwrapped here. */
  readonly address: string;
  /** Destination port; 0 for ICMP. */
  readonly port: number;
  /** The destination is this host: one of its own addresses, or that of `host.bulkhead.internal`. */
  readonly toHost: boolean;
  /** Names that this sandbox resolved to this address through its own filter, and whose answers still count. */
  readonly names: readonly string[];
  /** Of the TLS ClientHello: its server name, null where it has none. Absent: no ClientHello was seen (yet). */
  readonly sni?: string | null;
  /** Of the HTTP request head: its Host or :authority without port, null where it has none. Absent: none was seen (yet). */
  readonly httpHost?: string | null;
}

/** A question to the DNS filter. */
export interface Question {
  readonly name: string;
}

/** What decided. `policy` is `namespace/name`. */
export type Decider =
  | { readonly kind: 'Rule'; readonly policy: string; readonly index: number; readonly destination: string }
  | { readonly kind: 'BlockList'; readonly policy: string; readonly entry: string }
  /** No rule said anything. Without a policy: the mode that holds where none selects the sandbox. */
  | { readonly kind: 'Mode'; readonly mode: EgressMode; readonly policy?: string }
  /** Port 53 never leaves as a flow: the gateway's own filter answers it. */
  | { readonly kind: 'DnsFilter' }
  /** DNS over TLS or QUIC would pass the filter by; only a rule that names the port opens it. */
  | { readonly kind: 'EncryptedDns' }
  /** QUIC where TLS is intercepted: clients fall back to TCP. */
  | { readonly kind: 'BlockQuic' }
  /** An answer that points a name into a network that no rule opens. */
  | { readonly kind: 'RebindProtection' }
  /** Names that no name server outside may be asked for. */
  | { readonly kind: 'LocalName' }
  /** Why the gateway opened a TLS connection. */
  | { readonly kind: 'Interception'; readonly reason: InterceptionReason }
  /** The gateway does not trust the server. */
  | { readonly kind: 'UpstreamTls'; readonly host: string; readonly problem: string }
  /** The guest does not trust the gateway, as a client that pins certificates. */
  | { readonly kind: 'GuestTls'; readonly host: string; readonly problem: string }
  /** The placeholder of a secret, in a place where its value may not go. */
  | { readonly kind: 'SecretPlaceholder'; readonly env: string }
  /** The value of a secret took the place of its placeholder. */
  | { readonly kind: 'Secret'; readonly env: string }
  /** Not an address, port or name. */
  | { readonly kind: 'Malformed' };

export interface FlowVerdict {
  readonly allowed: boolean;
  readonly by: Decider;
  /**
   * A name in the first bytes (SNI, Host) may turn this Allow into a Deny: they are to be looked at before they are passed
   * on, and the flow decided again. Never set on a Deny, which no name can open.
   */
  readonly inspect: boolean;
}

export interface QueryVerdict {
  readonly allowed: boolean;
  readonly by: Decider;
  /** What the guest is told where it is not allowed. */
  readonly blockedAnswer: BlockedAnswer;
}

/** A decision as a sentence for people, without a full stop. */
export function explain(by: Decider): string {
  switch (by.kind) {
    case 'Rule':
      return `rule ${by.index} of ${by.policy} (${by.destination})`;
    case 'BlockList':
      return `the block list of ${by.policy} (${by.entry})`;
    case 'Mode':
      return by.policy === undefined
        ? `mode ${by.mode}, which holds where no policy selects the sandbox`
        : `mode ${by.mode} of ${by.policy}, as no rule names the destination`;
    case 'DnsFilter':
      return 'port 53 is answered by the DNS filter and never leaves';
    case 'EncryptedDns':
      return 'encrypted DNS would pass the DNS filter by; only a rule that names port 853 opens it';
    case 'BlockQuic':
      return 'QUIC is refused where TLS is intercepted (tls.blockQuic)';
    case 'RebindProtection':
      return 'an answer pointed the name at an address that is not public (dns.rebindProtection)';
    case 'LocalName':
      return 'the name is of local use only and no rule names it';
    case 'Interception':
      return by.reason.kind === 'Secret'
        ? `a secret of the sandbox may go to ${by.reason.host}`
        : `tls.intercept of ${by.reason.policy}`;
    case 'UpstreamTls':
      return `the server's TLS for ${by.host} is not trusted: ${by.problem}`;
    case 'GuestTls':
      return `the client refused the gateway's certificate for ${by.host}, as one does that pins certificates or does not read the system's: ${by.problem}`;
    case 'SecretPlaceholder':
      return `the placeholder of secret ${by.env} was sent where its value may not go`;
    case 'Secret':
      return `secret ${by.env} was put into a request`;
    case 'Malformed':
      return 'it is not a valid destination';
  }
}
