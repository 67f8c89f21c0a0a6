// What is in force in one sandbox: every policy that selects it, put together. Plain JSON, so that it can be handed to the
// gateway process, and named by a hash, so that the gateway can say what it has in force.
import type {
  BlockedAnswer,
  EgressAction,
  EgressDestination,
  EgressMode,
  EgressPort,
} from '../../api/networkpolicy.ts';

/** Version of this shape. A gateway that does not know the format keeps the sandbox closed. */
export const EFFECTIVE_FORMAT = 1;

/** `spec.egress.rules[index]` of a policy. */
export interface EffectiveRule {
  /** `namespace/name`. */
  readonly policy: string;
  readonly index: number;
  readonly action: EgressAction;
  /** Any of them matches. */
  readonly to: readonly EgressDestination[];
  /** Any of them matches; absent: every port of every protocol, ICMP included. */
  readonly ports?: readonly EgressPort[];
}

/** The block lists of one policy. */
export interface EffectiveBlockList {
  readonly policy: string;
  readonly domains: readonly string[];
  /** With their leading dot. */
  readonly suffixes: readonly string[];
}

/** One policy that asks for interception. */
export interface EffectiveInterception {
  readonly policy: string;
  readonly ports: readonly number[];
  /** Host names, or `*.` and a domain. A host stays closed to the gateway only where every asking policy bypasses it. */
  readonly bypass: readonly string[];
}

export interface EffectivePolicy {
  readonly format: typeof EFFECTIVE_FORMAT;
  /** SHA-256, hexadecimal, of all it was compiled from. Equal hashes: equal in every field. */
  readonly hash: string;
  /** The policies that select the sandbox, in the order of their names. */
  readonly policies: readonly {
    readonly name: string;
    readonly blockedAnswer: BlockedAnswer;
    /** Which state of the policy it is, where it came from an object. */
    readonly revision?: string;
  }[];
  /** The strictest, and the first policy that asks for it; none where no policy selects the sandbox. */
  readonly mode: { readonly value: EgressMode; readonly policy?: string };
  readonly rules: readonly EffectiveRule[];
  readonly dns: {
    readonly blockLists: readonly EffectiveBlockList[];
    /** On where any policy has it on. */
    readonly rebindProtection: boolean;
    /** Those of the first policy that names some; empty: the host's own. */
    readonly nameservers: readonly string[];
  };
  readonly tls: {
    readonly interceptions: readonly EffectiveInterception[];
    /** Hosts of the sandbox's secrets, intercepted whatever the policies say. Host names, or `*.` and a domain. */
    readonly secretHosts: readonly string[];
    /** On where any policy has it on. */
    readonly verifyUpstream: boolean;
    /** On where any policy has it on. */
    readonly blockQuic: boolean;
    /** PEM texts, of all policies. */
    readonly upstreamCAs: readonly string[];
  };
  /** The smallest of all policies. */
  readonly limits: { readonly maxConnections: number; readonly egressBytesPerSecond?: number };
}

/** What the daemon says of one sandbox: what is to be in force, and what is. */
export interface SandboxPolicy {
  readonly effective: EffectivePolicy;
  /** Hash of what the gateway has in force; absent while nothing leaves the sandbox, as before it runs. */
  readonly acknowledged?: string;
}
