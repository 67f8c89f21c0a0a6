// Two connections made one: what comes from either goes to the other, as fast as that one takes it.
import type { Socket } from 'node:net';
import { AGENT_SILENCE_MS, CLIENT_SILENCE_MS, SILENCE_CHECK_MS, STREAM_END_MS } from './limits.ts';

export interface JoinOptions {
  now?: () => number;
  agentSilenceMs?: number;
  clientSilenceMs?: number;
  checkMs?: number;
}

/** Resolves when both are closed. Each may end its half first; one that breaks takes the other with it. */
export async function joinStreams(client: Socket, agent: Socket, options: JoinOptions = {}): Promise<void> {
  const {
    now = () => performance.now(),
    agentSilenceMs = AGENT_SILENCE_MS,
    clientSilenceMs = CLIENT_SILENCE_MS,
    checkMs = SILENCE_CHECK_MS,
  } = options;
  const destroyBoth = (): void => {
    client.destroy();
    agent.destroy();
  };
  const ends = [
    { from: client, to: agent, heardAt: now(), silenceMs: clientSilenceMs },
    { from: agent, to: client, heardAt: now(), silenceMs: agentSilenceMs },
  ];
  const check = setInterval(() => {
    for (const end of ends) {
      // One that is held back because the other does not read is not silent.
      if (end.to.writableNeedDrain) end.heardAt = now();
      else if (now() - end.heardAt > end.silenceMs && !end.from.readableEnded) destroyBoth();
    }
  }, checkMs);
  let late: NodeJS.Timeout | undefined;
  const closed = ends.map(
    (end) =>
      new Promise<void>((resolve) => {
        const { from, to } = end;
        from.setTimeout(0);
        from.setNoDelay(true);
        from.on('data', () => {
          end.heardAt = now();
        });
        from.on('error', destroyBoth);
        from.once('close', () => {
          if (!from.readableEnded) to.destroy();
          else to.end();
          late ??= setTimeout(destroyBoth, STREAM_END_MS);
          resolve();
        });
        from.pipe(to);
        if (from.destroyed) {
          to.destroy();
          resolve();
        }
      }),
  );
  await Promise.all(closed);
  clearInterval(check);
  clearTimeout(late);
}
