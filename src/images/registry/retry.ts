// Trying again: what may pass by itself gets a few chances, ever further apart.

import { setTimeout as delay } from 'node:timers/promises';
import { TransientError } from './errors.ts';

export interface RetryPolicy {
  attempts: number;
  firstDelayMs: number;
}

/** About 15 s in all; the reconciler behind it tries for ever, with its own back-off. */
export const DEFAULT_RETRY: RetryPolicy = { attempts: 5, firstDelayMs: 1000 };
/** A registry that asks for more patience gets it from the reconciler's back-off. */
const MAX_DELAY_MS = 30_000;

/** @throws the last TransientError after the last attempt, and every other error at once. */
export async function retrying<T>(
  policy: RetryPolicy,
  signal: AbortSignal,
  work: (attempt: number) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work(attempt);
    } catch (error) {
      if (!(error instanceof TransientError) || attempt >= policy.attempts) throw error;
      const backoff = policy.firstDelayMs * 2 ** (attempt - 1);
      // Between half and all of it, so that many hosts do not come back as one.
      const jittered = backoff * (0.5 + Math.random() / 2);
      await delay(Math.min(error.retryAfterMs ?? jittered, MAX_DELAY_MS), undefined, { signal });
    }
  }
}
