// A response that is written bit by bit: watches, logs, progress. Writers wait for slow readers.
import { once } from 'node:events';
import type { FastifyReply } from 'fastify';

/** An open response. */
export interface LineStream {
  /** Aborts when the client goes away or the server closes. */
  readonly signal: AbortSignal;
  /** Resolves when the client's side has room for more. */
  write(chunk: string | Uint8Array): Promise<void>;
  end(): void;
}

/** Takes the response over from Fastify and sends the headers at once, so that the client knows it is connected. */
export function openLineStream(
  reply: FastifyReply,
  contentType: string,
  closing: AbortSignal,
  status = 200,
): LineStream {
  reply.hijack();
  const response = reply.raw;
  const gone = new AbortController();
  const leave = () => gone.abort();
  response.once('close', leave);
  response.on('error', leave);
  closing.addEventListener('abort', leave, { once: true });
  response.once('close', () => closing.removeEventListener('abort', leave));
  if (closing.aborted) leave();
  response.writeHead(status, { 'content-type': contentType, 'cache-control': 'no-store' });
  response.flushHeaders();
  return {
    signal: gone.signal,
    async write(chunk) {
      if (gone.signal.aborted || response.write(chunk)) return;
      try {
        await once(response, 'drain', { signal: gone.signal });
      } catch {
        // The client is gone; the caller sees it on the signal.
      }
    },
    end() {
      response.end();
    },
  };
}
