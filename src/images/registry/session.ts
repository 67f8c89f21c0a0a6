// Requests for one repository on one host: scheme, redirects, authorisation. One session per pull, so no token outlives it.

import type { Dispatcher } from 'undici';
import { BulkheadError } from '../../api/errors.ts';
import type { RegistryCredential } from '../images.ts';
import { basicHeader, type Challenge, parseChallenge, parseToken, tokenUrl } from './auth.ts';
import { asTransient, NotTlsError, statusError, TransientError } from './errors.ts';
import type { Connections, RegistryHost } from './hosts.ts';

export type Response = Dispatcher.ResponseData;

const MAX_REDIRECTS = 5;
const MAX_TOKEN_BYTES = 64 * 1024;

export class Session {
  readonly host: RegistryHost;
  readonly repository: string;
  readonly #connections: Connections;
  readonly #credential: RegistryCredential | undefined;
  #origin: string | undefined;
  #authorization: { header: string; renewAt: number } | undefined;
  #challenge: Challenge | undefined;

  constructor(
    host: RegistryHost,
    repository: string,
    connections: Connections,
    credential: RegistryCredential | undefined,
  ) {
    this.host = host;
    this.repository = repository;
    this.#connections = connections;
    this.#credential = credential;
  }

  /**
   * A successful answer to GET `/v2/REPOSITORY/path`; the caller consumes its body.
   * @throws TransientError, or BulkheadError for what trying again cannot help.
   */
  async get(path: string, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
    const origin = await this.#findOrigin(signal);
    const url = new URL(`${origin}/v2/${this.repository}/${path}`);
    let response = await this.#authorized(url, headers, signal);
    if (response.statusCode === 401 && (await this.#answerChallenge(response, origin, signal))) {
      response = await this.#authorized(url, headers, signal);
    }
    if (response.statusCode >= 200 && response.statusCode < 300) return response;
    await response.body.dump();
    throw statusError(response.statusCode, response.headers, `${this.host.name}/${this.repository}`);
  }

  /** All of a body of at most `most` bytes. */
  async read(response: Response, most: number, what: string, signal: AbortSignal): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let length = 0;
    try {
      for await (const chunk of response.body as AsyncIterable<Buffer>) {
        length += chunk.length;
        if (length > most) throw new BulkheadError('IMAGE_INVALID', `${what} has more than ${most} bytes`);
        chunks.push(chunk);
      }
    } catch (error) {
      throw asTransient(error, this.host.name, signal);
    }
    return Buffer.concat(chunks);
  }

  /** https, or plain http where that is allowed and TLS is not spoken. */
  async #findOrigin(signal: AbortSignal): Promise<string> {
    if (this.#origin !== undefined) return this.#origin;
    const [first = '', plain] = this.host.origins;
    this.#origin = first;
    if (plain !== undefined) {
      try {
        const response = await this.#request(new URL(`${first}/v2/`), {}, signal);
        await response.body.dump();
      } catch (error) {
        if (error instanceof NotTlsError) this.#origin = plain;
        else if (error instanceof TransientError) this.#origin = undefined;
        if (this.#origin === undefined) throw error;
      }
    }
    return this.#origin;
  }

  async #authorized(url: URL, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
    if (this.#authorization !== undefined && this.#authorization.renewAt < Date.now()) {
      await this.#authorize(url.origin, signal);
    }
    const header = this.#authorization?.header;
    return this.#follow(url, header === undefined ? headers : { ...headers, authorization: header }, signal);
  }

  async #follow(start: URL, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
    let url = start;
    let sent = headers;
    for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
      const response = await this.#request(url, sent, signal);
      const { location } = response.headers;
      if (![301, 302, 303, 307, 308].includes(response.statusCode) || typeof location !== 'string')
        return response;
      await response.body.dump();
      const next = this.#redirected(location, url);
      if (next.origin !== url.origin) {
        // Blobs are often elsewhere, under signed URLs: that place must not learn what opens the registry.
        const { authorization: _, ...rest } = sent;
        sent = rest;
      }
      url = next;
    }
    throw new BulkheadError('IMAGE_INVALID', `${this.host.name} redirects more than ${MAX_REDIRECTS} times`);
  }

  #redirected(location: string, from: URL): URL {
    const next = URL.canParse(location, from.href) ? new URL(location, from) : undefined;
    const isSafe = next?.protocol === 'https:' || (next?.protocol === 'http:' && from.protocol === 'http:');
    if (next === undefined || !isSafe || next.username !== '' || next.password !== '') {
      throw new BulkheadError('IMAGE_INVALID', `${this.host.name} redirects to where no image may come from`);
    }
    return next;
  }

  /** True if there is now something better to send. */
  async #answerChallenge(response: Response, origin: string, signal: AbortSignal): Promise<boolean> {
    await response.body.dump();
    this.#challenge = parseChallenge(response.headers['www-authenticate']);
    if (this.#challenge === undefined) return false;
    if (this.#challenge.scheme === 'basic' && this.#credential === undefined) return false;
    await this.#authorize(origin, signal);
    return true;
  }

  async #authorize(origin: string, signal: AbortSignal): Promise<void> {
    const challenge = this.#challenge;
    if (challenge === undefined) return;
    if (challenge.scheme === 'bearer') {
      const { token, renewAt } = await this.#fetchToken(challenge, origin, signal);
      this.#authorization = { header: `Bearer ${token}`, renewAt };
    } else if (this.#credential !== undefined) {
      this.#authorization = { header: basicHeader(this.#credential), renewAt: Number.POSITIVE_INFINITY };
    }
  }

  async #fetchToken(
    challenge: Challenge,
    origin: string,
    signal: AbortSignal,
  ): Promise<{ token: string; renewAt: number }> {
    const refused = (why: string): BulkheadError =>
      new BulkheadError('REGISTRY_UNAUTHORIZED', `the token server of ${this.host.name} ${why}`);
    let url: URL;
    try {
      url = tokenUrl(challenge, this.repository);
    } catch {
      throw refused('has no valid address');
    }
    // Credentials never leave in the clear unless the registry itself is spoken to in the clear.
    if (url.protocol !== 'https:' && !(url.protocol === 'http:' && origin.startsWith('http:'))) {
      throw refused('is not reached by https');
    }
    const headers = this.#credential === undefined ? {} : { authorization: basicHeader(this.#credential) };
    const response = await this.#follow(url, headers, signal);
    if (response.statusCode !== 200) {
      await response.body.dump();
      if (response.statusCode === 429 || response.statusCode >= 500) {
        throw statusError(response.statusCode, response.headers, `token server of ${this.host.name}`);
      }
      throw refused(`refuses access (${response.statusCode})`);
    }
    const answer = parseToken(await this.read(response, MAX_TOKEN_BYTES, 'the token', signal), Date.now());
    if (!/^[\x21-\x7e]+$/.test(answer.token)) throw refused('gave no token');
    return answer;
  }

  async #request(url: URL, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
    try {
      const dispatcher = await this.#connections.to(url.origin);
      return await dispatcher.request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method: 'GET',
        headers: { 'user-agent': 'bulkhead', ...headers },
        signal,
      });
    } catch (error) {
      throw asTransient(error, url.origin, signal);
    }
  }
}
