// A scrape waits for nobody: what does not answer in time is left out, or shows as it was.

/** The result, or `undefined` when it failed or took longer than `ms`. */
export async function timely<T>(result: Promise<T>, ms: number): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), ms);
  try {
    return await Promise.race([result, late]);
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}
