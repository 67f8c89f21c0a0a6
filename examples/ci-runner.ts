// A runner of CI jobs: a checkout goes into a microVM, steps run one after the other until one fails, artifacts come out. The
// job may reach one host, with a token that it never sees: its requests carry a placeholder, which the gateway swaps.
//
//   TOKEN=... node examples/ci-runner.ts ./checkout registry.example.com 'make' 'make publish'
import { mkdir } from 'node:fs/promises';
import { BulkheadError, type NetworkConfig, NotFoundError, Sandbox, Secret } from 'bulkhead';

const WORK = '/work';

export interface Job {
  image: string;
  /** Directory of this host. */
  checkout: string;
  /** Lines of a shell, run in the checkout. */
  steps: readonly string[];
  /** What the job may reach, and what its requests there carry. Default of `port`: 443. */
  host: { name: string; port?: number; variable: string; token: string };
  /** Paths beneath the checkout that are copied to `artifactsDir` of this host. */
  artifacts?: readonly string[];
  artifactsDir?: string;
  /** Default: an hour. */
  timeoutMs?: number;
  /** Gives the job up. */
  signal?: AbortSignal;
  /** Told of output as it comes. */
  onOutput?: (step: number, stream: 'stdout' | 'stderr', data: Buffer) => void;
  /** How TLS is opened for the token, where the host is not the internet's: its authority, its port. */
  tls?: NetworkConfig['tls'];
}

export interface JobResult {
  success: boolean;
  /** Exit codes of the steps that ran: all but the last are 0. */
  codes: number[];
  artifacts: string[];
}

export async function runJob(job: Job): Promise<JobResult> {
  const { host, timeoutMs = 3_600_000, tls } = job;
  const { name, port = 443, variable, token } = host;
  await using sandbox = await Sandbox.create(
    {
      ...{ image: job.image, memoryMib: 1024, workdir: WORK, maxDurationSecs: Math.ceil(timeoutMs / 1000) },
      network: {
        policy: 'none',
        rules: [{ action: 'allow', destination: name, port }],
        ...(tls === undefined ? {} : { tls }),
      },
      secrets: [Secret.env(variable, { value: token, allowHosts: [name] })],
    },
    job.signal === undefined ? {} : { signal: job.signal },
  );
  const fs = sandbox.fs();
  await fs.mkdir(WORK);
  const directory = await fs.copyFromHost(job.checkout, WORK);
  const codes: number[] = [];
  for (const [index, step] of job.steps.entries()) {
    codes.push(await runStep(sandbox, directory, index, step, job));
    if (codes[index] !== 0) break;
  }
  const success = codes.length === job.steps.length && codes.every((code) => code === 0);
  return { success, codes, artifacts: await takeArtifacts(sandbox, directory, job) };
}

async function runStep(
  sandbox: Sandbox,
  cwd: string,
  index: number,
  step: string,
  job: Job,
): Promise<number> {
  const { signal, onOutput } = job;
  // A daemon that is upgraded meanwhile is waited for; the step goes on in its VM.
  const options = { cwd, resumeMs: 60_000, ...(signal === undefined ? {} : { signal }) };
  for await (const event of await sandbox.shellStream(step, options)) {
    if (event.eventType === 'stdout' || event.eventType === 'stderr')
      onOutput?.(index, event.eventType, event.data);
    if (event.eventType === 'exited') return event.code;
  }
  throw new BulkheadError('COMMAND_LOST', `step ${index} ended without a code`);
}

/** Those that are there: a job that failed may have made some. */
async function takeArtifacts(sandbox: Sandbox, directory: string, job: Job): Promise<string[]> {
  const { artifacts = [], artifactsDir } = job;
  if (artifactsDir === undefined) return [];
  await mkdir(artifactsDir, { recursive: true });
  const taken: string[] = [];
  for (const path of artifacts) {
    try {
      taken.push(await sandbox.fs().copyToHost(`${directory}/${path}`, artifactsDir));
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
    }
  }
  return taken;
}

if (import.meta.main) {
  const [checkout = '.', host = '', ...steps] = process.argv.slice(2);
  const { TOKEN = '', IMAGE = 'docker.io/library/debian:12' } = process.env;
  const result = await runJob({
    ...{ image: IMAGE, checkout, steps, host: { name: host, variable: 'TOKEN', token: TOKEN } },
    onOutput: (_step, stream, data) => process[stream].write(data),
  });
  process.exitCode = result.success ? 0 : 1;
}
