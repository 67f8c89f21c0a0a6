// TLS by which both sides prove who they are, with an authority of the installation's own.
import { constants } from 'node:crypto';
import type { SecureContextOptions } from 'node:tls';

/** PEM texts: what one proves itself by, and the authority that vouches for the other. */
export interface MutualTls {
  cert: string;
  key: string;
  ca: string;
}

/** Both sides are ours, or Kubernetes': nobody needs an older version. */
const MIN_VERSION = 'TLSv1.3';

/** Without tickets: a connection that is resumed by one would stand on a verdict of before. */
export function secureContext({ cert, key, ca }: MutualTls): SecureContextOptions {
  return { cert, key, ca, minVersion: MIN_VERSION, secureOptions: constants.SSL_OP_NO_TICKET };
}
