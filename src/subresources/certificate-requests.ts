// Certificates of nodes, asked for as Kubernetes has it: an agent makes a CertificateSigningRequest, by which its key never leaves
// the node, and the API server writes into it who asks and for which node the asker's token was made. That is what is vouched for;
// nothing that the agent wrote is believed but its public key.
import 'reflect-metadata'; // which the container of @peculiar/x509 needs before it is loaded
import { webcrypto } from 'node:crypto';
import { Pkcs10CertificateRequest } from '@peculiar/x509';
import { BulkheadError } from '../api/errors.ts';
import type { StoredObject } from '../api/meta.ts';
import type { Informer } from '../controller/informer.ts';
import type { Outcome, Reconciler, Request } from '../controller/reconciler.ts';
import { LeafIssuer } from '../network/intercept/certificates.ts';
import type { ApiClient } from '../store/cluster/api-client.ts';
import { absentAsUndefined } from '../store/cluster/failures.ts';
import type { Authorities } from './authorities.ts';
import { CERTIFICATE_REQUEST_BYTES_MAX } from './limits.ts';

/** Of requests that are ours to answer. */
export const NODE_SIGNER = 'bulkhead.dev/node-agent';
/** What such a certificate is good for. */
export const NODE_USAGES = ['digital signature', 'server auth'] as const;
const NODE_NAME_EXTRA = 'authentication.kubernetes.io/node-name';
const REQUESTS = '/apis/certificates.k8s.io/v1/certificatesigningrequests';

interface RequestSpec {
  /** PEM of PKCS #10, in base64. */
  request?: string;
  signerName?: string;
  usages?: readonly string[];
  username?: string;
  extra?: Readonly<Record<string, readonly string[]>>;
}

interface RequestStatus {
  certificate?: string;
  conditions?: readonly { type: string; status: string }[];
}

export interface SignerOptions {
  client: ApiClient;
  requests: Pick<Informer, 'get'>;
  /** Undefined as long as this controller has none. */
  authorities(): Authorities | undefined;
  /** The service account of agents, as its tokens name it. */
  agentUser: string;
  now: () => number;
}

/** Answers requests of agents; a request of anybody else for this signer is denied. */
export class NodeCertificateReconciler implements Reconciler {
  readonly name = 'node-certificates';
  readonly kind = 'CertificateSigningRequest';
  readonly #options: SignerOptions;

  constructor(options: SignerOptions) {
    this.#options = options;
  }

  async reconcile({ name }: Request): Promise<Outcome> {
    const { requests, authorities, now } = this.#options;
    const request = requests.get('', name);
    const { certificate, conditions = [] } = (request?.status ?? {}) as RequestStatus;
    const has = (type: string): boolean => conditions.some((each) => each.type === type);
    if (request === undefined || certificate !== undefined || has('Denied') || has('Failed'))
      return { type: 'done' };
    const issuing = authorities();
    if (issuing === undefined) return { type: 'requeue', afterMs: 1_000 };
    const asked = await this.#check(request);
    if (asked instanceof BulkheadError) {
      if (!has('Approved')) await this.#say(name, 'Denied', 'NotAnAgent', asked.message);
      return { type: 'done' };
    }
    const leaf = await new LeafIssuer(issuing.nodes, now).issue(asked.nodeName, {
      publicKey: asked.publicKey,
    });
    if (!has('Approved'))
      await this.#say(name, 'Approved', 'AgentOfNode', `The agent of node ${asked.nodeName} asked.`);
    await this.#patch(`${name}/status`, { certificate: Buffer.from(leaf.chain).toString('base64') });
    return { type: 'done' };
  }

  async #check({
    spec,
  }: StoredObject): Promise<{ nodeName: string; publicKey: webcrypto.CryptoKey } | BulkheadError> {
    const { request = '', signerName, usages = [], username, extra = {} } = spec as RequestSpec;
    const refuse = (why: string) => new BulkheadError('FORBIDDEN', why);
    const { [NODE_NAME_EXTRA]: names = [] } = extra;
    const [nodeName] = names;
    if (signerName !== NODE_SIGNER) return refuse(`This is a request for ${signerName}.`);
    if (username !== this.#options.agentUser)
      return refuse(`Only ${this.#options.agentUser} may ask, not ${username}.`);
    if (nodeName === undefined || names.length !== 1)
      return refuse('The token of the asker says no node: it is not that of a Pod.');
    if ([...usages].sort().join() !== [...NODE_USAGES].sort().join())
      return refuse(`The usages must be ${NODE_USAGES.join(' and ')}.`);
    if (request.length > CERTIFICATE_REQUEST_BYTES_MAX) return refuse('The request is too long.');
    try {
      const parsed = new Pkcs10CertificateRequest(Buffer.from(request, 'base64').toString('latin1'));
      if (!(await parsed.verify(webcrypto))) return refuse('The request is not signed by its own key.');
      const publicKey = await parsed.publicKey.export(
        { name: 'ECDSA', namedCurve: 'P-256' },
        ['verify'],
        webcrypto,
      );
      return { nodeName, publicKey };
    } catch (error) {
      return refuse(`The request cannot be read: ${(error as Error).message}`);
    }
  }

  #say(name: string, type: 'Approved' | 'Denied', reason: string, message: string): Promise<void> {
    return this.#patch(`${name}/approval`, { conditions: [{ type, status: 'True', reason, message }] });
  }

  /** One that is gone meanwhile is nobody's loss. */
  async #patch(path: string, status: Record<string, unknown>): Promise<void> {
    await absentAsUndefined(
      this.#options.client.send({
        ...{ method: 'PATCH', path: `${REQUESTS}/${path}`, body: { status } },
        contentType: 'application/merge-patch+json',
      }),
    );
  }
}
