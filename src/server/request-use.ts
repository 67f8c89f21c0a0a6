// Whether anybody asks anything of the server.
import type { FastifyInstance } from 'fastify';

export class RequestUse {
  #underWay = 0;
  #lastAt: number;
  readonly #now: () => number;

  /** @param now monotonic milliseconds. */
  constructor(app: FastifyInstance, now: () => number) {
    this.#now = now;
    this.#lastAt = now();
    app.addHook('onRequest', async (_request, reply) => {
      this.#underWay++;
      reply.raw.once('close', () => {
        this.#underWay--;
        this.#lastAt = this.#now();
      });
    });
  }

  /** Milliseconds since the last request ended; 0 while there is one, watches and holds included, streams not. */
  get idleMs(): number {
    return this.#underWay > 0 ? 0 : this.#now() - this.#lastAt;
  }
}
