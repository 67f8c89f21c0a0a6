// Every bound of the way from the API server to a sandbox, with its reason.
import type { ConnectionLimits } from '../server/connections.ts';
import {
  API_CONNECTION_LIMITS,
  FORWARDS_PER_SANDBOX_MAX,
  STREAMS_PER_SANDBOX_MAX,
} from '../server/limits.ts';

/** Open streams of one controller: each holds some 200 KiB of buffers on both sides together, of the 512 MiB it is given. */
export const PROXIED_STREAMS_MAX = 512;
/** What the node's agent lets one sandbox have. */
export const PROXIED_STREAMS_PER_SANDBOX_MAX = STREAMS_PER_SANDBOX_MAX + FORWARDS_PER_SANDBOX_MAX;
/** From API servers: streams, and requests that pass. */
export const PROXY_CONNECTION_LIMITS: ConnectionLimits = {
  ...API_CONNECTION_LIMITS,
  connections: 4 * PROXIED_STREAMS_MAX,
  requests: 2 * PROXIED_STREAMS_MAX,
};
/** For connection and handshake with a node's agent, in the same cluster. */
export const CONNECT_TIMEOUT_MS = 10_000;
/** Connections to one agent that are kept for the next request. */
export const KEPT_PER_NODE_MAX = 16;
/** Finds peers whose machine is gone: after this long without traffic, and ten seconds more. */
export const KEEP_ALIVE_MS = 15_000;
/** An agent pings its streams each two seconds; one that is silent for so long is gone. */
export const AGENT_SILENCE_MS = 30_000;
/** Clients answer those pings. One that was suspended for a while may come back. */
export const CLIENT_SILENCE_MS = 5 * 60_000;
/** How often both are looked at. */
export const SILENCE_CHECK_MS = 5_000;
/** How long one side may take to end once the other has. */
export const STREAM_END_MS = 5_000;

/** How often a controller looks whether it still has what it serves with: from memory, which a watch keeps current. */
export const IDENTITY_CHECK_MS = 2_000;
/** While another controller makes the authorities: until the watch brings them. */
export const IDENTITY_RETRY_MS = 500;
/** After a failure. */
export const IDENTITY_FAILED_MS = 5_000;
/** How often the APIService is looked at: a chart that is applied anew may have changed it. */
export const API_SERVICE_CHECK_MS = 60_000;
/** Leaves are valid for thirty days; a third of that before the end they are made anew. */
export const LEAF_RENEWED_BEFORE_MS = 10 * 86_400_000;
/** Authorities are valid for ten years, and replaced in the last one. */
export const AUTHORITY_RENEWED_BEFORE_MS = 365 * 86_400_000;

/** A request for a certificate has some 600 bytes. */
export const CERTIFICATE_REQUEST_BYTES_MAX = 16 * 1024;
/** How often an agent looks whether its certificate is still the right one: from memory. */
export const AGENT_CHECK_MS = 2_000;
/** Between two looks whether a request was answered, doubled each time. */
export const REQUEST_POLL_MIN_MS = 200;
export const REQUEST_POLL_MAX_MS = 5_000;
/** When an agent gives a request up and makes another. */
export const REQUEST_WAIT_MS = 60_000;
/** Before another attempt after one that failed. */
export const REQUEST_RETRY_MS = 10_000;
