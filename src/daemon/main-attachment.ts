// One client's view of a main process: what the log takes in from now on, and the process's own end and signals.
// Reading the log rather than the channel means that a slow client holds up neither the process nor other clients.
import { BulkheadError } from '../api/errors.ts';
import type { OutputChunk } from '../guest/agent.ts';
import type { SandboxLogs } from '../reconcilers/sandbox/logs/logs.ts';
import type { LiveSandbox } from '../reconcilers/sandbox/runtime/sandbox-runtime.ts';
import type { MainAttachment } from '../server/contracts.ts';

export async function attachMain(live: LiveSandbox, logs: SandboxLogs): Promise<MainAttachment> {
  const process = live.main;
  if (process === undefined) {
    throw new BulkheadError('SANDBOX_NOT_RUNNING', 'The sandbox has no main process; use exec.');
  }
  const view = new AbortController();
  return {
    tty: false,
    output: () => output(logs, live.uid, view.signal),
    exited: process.exited,
    signal: (name) => process.signal(name),
    resize: (size) => process.resize(size),
    close: () => view.abort(),
  };
}

async function* output(logs: SandboxLogs, uid: string, signal: AbortSignal): AsyncGenerator<OutputChunk> {
  const seen = { stdout: 0, stderr: 0 };
  for await (const entry of logs.read(uid, { follow: true, tailLines: 0, signal })) {
    const offset = seen[entry.stream] + entry.lostBytes;
    seen[entry.stream] = offset + entry.data.byteLength;
    yield { stream: entry.stream, offset, data: entry.data, lostBefore: entry.lostBytes };
  }
}
