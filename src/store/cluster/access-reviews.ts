// Who a bearer of a token is, and whether they may have what they ask for, as the API server says: a TokenReview, then a
// SubjectAccessReview, as kube-rbac-proxy asks for them. Everybody who reaches the port may come with a token, so that what is
// kept and what is asked at a time is bounded.
import { createHash } from 'node:crypto';
import { BulkheadError } from '../../api/errors.ts';
import { isJsonObject } from '../merge-patch.ts';
import type { ApiClient } from './api-client.ts';

/** A right that was taken away counts after so long; kubelets keep them for longer. */
const ALLOWED_MS = 60_000;
/** Shorter: somebody may be waiting for a right that was given just now. */
const REFUSED_MS = 10_000;
/** Of each kind. A handful of scrapers comes with a token each, renewed every hour. */
const KEPT_MAX = 256;
/** Each costs the API server two requests; those that come with invented tokens get no more of it. */
const UNDER_WAY_MAX = 8;
/** Tokens of service accounts have about a kilobyte. */
const TOKEN_LENGTH_MAX = 16_384;

/** `unauthenticated`: nobody's token. */
export type Verdict = 'allowed' | 'forbidden' | 'unauthenticated';

/** What is asked for: a path of a server, by a verb such as `get`. */
export interface AskedPath {
  path: string;
  verb: string;
}

interface Kept {
  verdict: Verdict;
  until: number;
}

export class AccessReviews {
  readonly #client: Pick<ApiClient, 'send'>;
  readonly #asked: AskedPath;
  readonly #now: () => number;
  /** By digest of the token, oldest first. Apart, so that no number of refusals pushes out who may. */
  readonly #allowed = new Map<string, Kept>();
  readonly #refused = new Map<string, Kept>();
  readonly #underWay = new Map<string, Promise<Verdict>>();

  /** `now` in milliseconds; must not go back. */
  constructor(client: Pick<ApiClient, 'send'>, asked: AskedPath, now: () => number) {
    this.#client = client;
    this.#asked = asked;
    this.#now = now;
  }

  /** Fails with API_SERVER_UNAVAILABLE where there is no answer, and with TOO_MANY_REQUESTS while others wait for theirs. */
  async check(token: string): Promise<Verdict> {
    if (token.length > TOKEN_LENGTH_MAX) return 'unauthenticated';
    const key = createHash('sha256').update(token).digest('base64');
    const kept = this.#allowed.get(key) ?? this.#refused.get(key);
    if (kept !== undefined && kept.until > this.#now()) return kept.verdict;
    const asked = this.#underWay.get(key);
    if (asked !== undefined) return asked;
    if (this.#underWay.size >= UNDER_WAY_MAX)
      throw new BulkheadError(
        'TOO_MANY_REQUESTS',
        `${UNDER_WAY_MAX} tokens are under review already; try again`,
      );
    const review = this.#review(token).finally(() => this.#underWay.delete(key));
    this.#underWay.set(key, review);
    const verdict = await review;
    this.#keep(key, verdict);
    return verdict;
  }

  async #review(token: string): Promise<Verdict> {
    const who = await this.#ask('authentication.k8s.io', 'TokenReview', 'tokenreviews', { token });
    if (who.authenticated !== true || !isJsonObject(who.user)) return 'unauthenticated';
    const { username, uid, groups, extra } = who.user;
    const may = await this.#ask('authorization.k8s.io', 'SubjectAccessReview', 'subjectaccessreviews', {
      nonResourceAttributes: this.#asked,
      ...{ user: username, uid, groups, extra },
    });
    return may.allowed === true ? 'allowed' : 'forbidden';
  }

  /** The status of a review. */
  async #ask(group: string, kind: string, plural: string, spec: object): Promise<Record<string, unknown>> {
    const answer = await this.#client.send({
      method: 'POST',
      path: `/apis/${group}/v1/${plural}`,
      body: { apiVersion: `${group}/v1`, kind, spec },
    });
    return isJsonObject(answer) && isJsonObject(answer.status) ? answer.status : {};
  }

  #keep(key: string, verdict: Verdict): void {
    this.#allowed.delete(key);
    this.#refused.delete(key);
    const [kept, ms] = verdict === 'allowed' ? [this.#allowed, ALLOWED_MS] : [this.#refused, REFUSED_MS];
    for (const oldest of kept.keys()) {
      if (kept.size < KEPT_MAX) break;
      kept.delete(oldest);
    }
    kept.set(key, { verdict, until: this.#now() + ms });
  }
}
