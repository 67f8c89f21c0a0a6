// A real Kubernetes cluster for one test file: started from nothing in some 15 s, ended with all that runs in it.
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { promisify } from 'node:util';

const run = promisify(execFile);
const here = import.meta.dirname;
/** Where `programs/build.sh` puts what a cluster is made of. */
const PROGRAMS = resolve(here, '..', '..', 'build', 'cluster');
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

export interface ClusterOptions {
  nodes?: number;
  /** OCI image archives that each node imports, beside the one of Kubernetes itself. */
  images?: readonly string[];
  /** Loopback port that leads to the API server. */
  port: number;
}

export interface CommandResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** A cluster that runs until it is disposed of. */
export class TestCluster {
  readonly dir: string;
  /** For programs outside of the nodes. */
  readonly kubeconfig: string;

  private constructor(dir: string) {
    this.dir = dir;
    this.kubeconfig = join(dir, 'kubeconfig.outside');
  }

  static async start({ nodes = 1, images = [], port }: ClusterOptions): Promise<TestCluster> {
    const dir = await mkdtemp(join(tmpdir(), 'bulkhead-cluster-'));
    const cluster = new TestCluster(dir);
    // A test that is ended by its runner leaves no cluster behind.
    process.once('exit', () => spawnSync(join(here, 'machine', 'down.sh'), [dir]));
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => process.exit(1));
    try {
      await run(join(here, 'machine', 'up.sh'), [dir], {
        env: {
          ...process.env,
          KC_BIN: PROGRAMS,
          KC_IMAGES: [join(PROGRAMS, 'pause.tar'), ...images].join(' '),
          KC_NODES: String(nodes),
          KC_PORT: String(port),
        },
        maxBuffer: MAX_OUTPUT_BYTES,
      });
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
    return cluster;
  }

  /** kubectl from outside, with `input` on its standard input. Never throws for what kubectl says with its exit code. */
  kubectl(args: readonly string[], input: string | Buffer = ''): Promise<CommandResult> {
    return command(join(PROGRAMS, 'kubectl'), ['--kubeconfig', this.kubeconfig, ...args], input);
  }

  /** What kubectl prints; fails where kubectl does. */
  async ask(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.kubectl(args);
    if (code !== 0) throw new Error(`kubectl ${args.join(' ')} ended with ${code}: ${stderr}`);
    return stdout;
  }

  async apply(manifest: string): Promise<void> {
    const { code, stderr } = await this.kubectl(['apply', '-f', '-'], manifest);
    if (code !== 0) throw new Error(`kubectl apply ended with ${code}: ${stderr}`);
  }

  /** Every version of the objects of a collection from now on, e.g. of `/apis/bulkhead.dev/v1alpha1/sandboxes`. */
  watch(path: string): WatchedObjects {
    const child = spawn(join(PROGRAMS, 'kubectl'), [
      ...['--kubeconfig', this.kubeconfig, 'get', '--raw'],
      `${path}?watch=1`,
    ]);
    return new WatchedObjects(child);
  }

  /** A command in the namespaces of a node. */
  inNode(node: number, ...args: string[]): Promise<CommandResult> {
    return command(join(here, 'machine', 'in-node.sh'), [this.dir, ...args], '', { KC_NODE: String(node) });
  }

  /** The process that is PID 1 of a node: what kills it kills the node. */
  async nodePid(node: number): Promise<number> {
    return Number(await readFile(join(this.dir, `node${node}.pid`), 'utf8'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run(join(here, 'machine', 'down.sh'), [this.dir]);
    await rm(this.dir, { recursive: true, force: true });
  }
}

interface WatchedObject {
  metadata: { name: string };
}

export class WatchedObjects {
  /** In the order of the API server; an object that is gone comes a last time. */
  readonly versions: WatchedObject[] = [];
  readonly gone = new Set<string>();
  readonly #child: ChildProcess;
  #came = Promise.withResolvers<void>();

  constructor(child: ChildProcess & { stdout: Readable }) {
    this.#child = child;
    createInterface({ input: child.stdout }).on('line', (line) => {
      const { type, object } = JSON.parse(line) as { type: string; object: WatchedObject };
      this.versions.push(object);
      if (type === 'DELETED') this.gone.add(object.metadata.name);
      this.#came.resolve();
    });
  }

  /** Fails when it does not hold within `ms`. */
  async until(holds: () => boolean, ms: number): Promise<void> {
    const late = AbortSignal.timeout(ms);
    late.addEventListener('abort', () => this.#came.resolve());
    while (!holds()) {
      late.throwIfAborted();
      this.#came = Promise.withResolvers();
      await this.#came.promise;
    }
  }

  [Symbol.dispose](): void {
    this.#child.kill();
  }
}

/** Where programs of the cluster are, e.g. `helm`. */
export function clusterProgram(name: string): string {
  return join(PROGRAMS, name);
}

/** Runs a program to its end. Never throws for an exit code. */
export function command(
  file: string,
  args: readonly string[],
  input: string | Buffer = '',
  env: Record<string, string> = {},
): Promise<CommandResult> {
  return new Promise((done) => {
    const child = execFile(
      file,
      args,
      { maxBuffer: MAX_OUTPUT_BYTES, env: { ...process.env, ...env } },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
        done({ code, stdout, stderr });
      },
    );
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}
