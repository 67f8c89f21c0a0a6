// A real Kubernetes API server for tests: etcd and kube-apiserver on loopback ports, with a directory of their own. No
// kubelet, no controllers: what CRDs, CEL, RBAC, watches and aggregated APIs need, in seconds.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { constants } from 'node:fs';
import { access, cp, mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Agent, request } from 'undici';

/** Folder with `kube-apiserver`, or `kubeall` (all Kubernetes programs in one), and `etcd`; programs/build.sh fills the default. */
export const KUBE_BIN =
  process.env.BULKHEAD_KUBE_BIN ?? join(import.meta.dirname, '..', '..', 'build', 'cluster');

/** A start takes 3 to 8 s; a machine that builds beside it takes many times that. */
const READY_TIMEOUT_MS = 120_000;
/** Between two questions whether the server is ready: nothing announces it. */
const READY_POLL_MS = 100;
/** Shown of a server's log when it fails: the reason stands at its end. */
const LOG_SHOWN_MAX = 4000;
/** What Kubernetes needs after a SIGTERM without clients; then it is ended by force. */
const STOP_TIMEOUT_MS = 10_000;

/** Somebody whom the server knows by a bearer token. */
export interface TestUser {
  name: string;
  token: string;
  groups?: readonly string[];
}

/** May do everything, also before there is any RBAC. */
const ADMIN: TestUser = { name: 'admin', token: 'bulkhead-test-admin', groups: ['system:masters'] };

export interface ApiServerOptions {
  /** Beside the administrator. */
  users?: readonly TestUser[];
  /** Further flags of kube-apiserver; a later one wins over an earlier one of the same name. */
  flags?: readonly string[];
  /** Port of the API; a free one by default. */
  port?: number;
}

export interface ApiResponse {
  status: number;
  /** Parsed where it is JSON, else text. */
  body: unknown;
}

export interface ApiRequest {
  method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  body?: unknown;
  /** Default: application/json. */
  contentType?: string;
  /** Default: application/json. */
  accept?: string;
  /** Default: the administrator's. */
  token?: string;
}

/** The beginning of a program's command line. Throws where it is not to be had. */
export async function program(name: string): Promise<string[]> {
  const file = join(KUBE_BIN, name);
  await access(file, constants.X_OK).catch(() => {
    throw new Error(`${file} is missing; build it, or say in BULKHEAD_KUBE_BIN where it is`);
  });
  return [file];
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  server.close();
  await once(server, 'close');
  return address.port;
}

/** One program with a log file. It dies with this process, however that ends. */
export class Program {
  readonly #name: string;
  readonly #log: string;
  readonly #command: readonly string[];
  #child: ChildProcess | undefined;

  constructor(name: string, command: readonly string[], log: string) {
    this.#name = name;
    this.#command = command;
    this.#log = log;
  }

  get pid(): number | undefined {
    return this.running ? this.#child?.pid : undefined;
  }

  get running(): boolean {
    const child = this.#child;
    return child !== undefined && child.exitCode === null && child.signalCode === null;
  }

  async start(): Promise<void> {
    assert.ok(!this.running, `${this.#name} is already running`);
    const log = await open(this.#log, 'a');
    try {
      // The kernel's word that the program goes when this process does: no handler runs after a SIGKILL.
      this.#child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...this.#command], {
        stdio: ['ignore', log.fd, log.fd],
      });
      await once(this.#child, 'spawn');
    } finally {
      await log.close();
    }
  }

  /** Ends it and waits for its end; SIGKILL is what a crash is. */
  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === undefined || !this.running) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await exited;
    clearTimeout(timer);
  }

  async failure(): Promise<Error> {
    const log = await readFile(this.#log, 'utf8').catch(() => '');
    return new Error(`${this.#name} did not get ready; the end of its log:\n${log.slice(-LOG_SHOWN_MAX)}`);
  }
}

/** One API server with its etcd. Disposing it ends both and removes their directory. */
export class ApiServer implements AsyncDisposable {
  /** Of everything that belongs to it. */
  readonly root: string;
  /** `https://127.0.0.1:PORT`. */
  readonly url: string;
  /** Bearer token of the administrator. */
  readonly token = ADMIN.token;
  readonly #etcd: Program;
  readonly #api: Program;
  #agent: Agent | undefined;

  private constructor(root: string, url: string, etcd: Program, api: Program) {
    this.root = root;
    this.url = url;
    this.#etcd = etcd;
    this.#api = api;
  }

  /** Starts both and resolves when the API is ready. Throws with the end of a log when one of them is not to be had. */
  static async start(options: ApiServerOptions = {}): Promise<ApiServer> {
    const etcdBinary = await program('etcd');
    const apiServer = await program('kube-apiserver').catch(async (error: unknown) => {
      const all = await program('kubeall').catch(() => undefined);
      if (all === undefined) throw error;
      return [...all, 'kube-apiserver'];
    });
    const root = await mkdtemp(join(tmpdir(), 'bulkhead-kube-'));
    const [clientPort, peerPort, freeApiPort] = [await freePort(), await freePort(), await freePort()];
    const port = options.port ?? freeApiPort;
    const client = `http://127.0.0.1:${clientPort}`;
    const peer = `http://127.0.0.1:${peerPort}`;
    await mkdir(join(root, 'logs'));
    await ApiServer.#writeKeys(root, [ADMIN, ...(options.users ?? [])]);

    const etcd = new Program(
      'etcd',
      [
        ...etcdBinary,
        ...['--data-dir', join(root, 'etcd'), '--log-level', 'warn'],
        // Tests only: what a power cut would lose is thrown away at the end anyway.
        '--unsafe-no-fsync',
        ...['--listen-client-urls', client, '--advertise-client-urls', client],
        ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
        ...['--initial-cluster', `default=${peer}`],
      ],
      join(root, 'logs', 'etcd.log'),
    );
    const api = new Program(
      'kube-apiserver',
      [
        ...[...apiServer, '--etcd-servers', client],
        ...['--bind-address', '127.0.0.1', '--secure-port', String(port), '--cert-dir', join(root, 'certs')],
        // There is no other server to tell of, and Endpoints refuse loopback addresses.
        ...['--advertise-address', '127.0.0.1', '--endpoint-reconciler-type', 'none'],
        ...['--token-auth-file', join(root, 'tokens.csv'), '--authorization-mode', 'RBAC'],
        ...['--service-account-issuer', 'https://kubernetes.default.svc'],
        ...['--service-account-key-file', join(root, 'sa.pub')],
        ...['--service-account-signing-key-file', join(root, 'sa.key')],
        ...['--service-cluster-ip-range', '10.96.0.0/16'],
        // No controller manager makes the accounts that this plugin would wait for.
        ...['--disable-admission-plugins', 'ServiceAccount'],
        ...(options.flags ?? []),
      ],
      join(root, 'logs', 'kube-apiserver.log'),
    );
    const server = new ApiServer(root, `https://127.0.0.1:${port}`, etcd, api);
    try {
      await etcd.start();
      await server.startApi();
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
    return server;
  }

  static async #writeKeys(root: string, users: readonly TestUser[]): Promise<void> {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    await writeFile(join(root, 'sa.pub'), publicKey.export({ type: 'spki', format: 'pem' }));
    await writeFile(join(root, 'sa.key'), privateKey.export({ type: 'pkcs8', format: 'pem' }), {
      mode: 0o600,
    });
    const lines = users.map(
      ({ name, token, groups = [] }) => `${token},${name},${name},"${groups.join(',')}"\n`,
    );
    await writeFile(join(root, 'tokens.csv'), lines.join(''), { mode: 0o600 });
  }

  /** Process ids of what runs, for tests that stop or kill it in their own way. */
  get pids(): { etcd: number | undefined; api: number | undefined } {
    return { etcd: this.#etcd.pid, api: this.#api.pid };
  }

  /** PEM of what the server's certificate is verified with: it made the certificate itself. */
  certificateAuthority(): Promise<string> {
    return readFile(join(this.root, 'certs', 'apiserver.crt'), 'utf8');
  }

  /** Starts the API server on the etcd that runs, at the same address; resolves when it is ready. */
  async startApi(): Promise<void> {
    await this.#api.start();
    const deadline = Date.now() + READY_TIMEOUT_MS;
    for (;;) {
      for (const program of [this.#etcd, this.#api]) {
        if (!program.running || Date.now() > deadline) throw await program.failure();
      }
      const answer = await this.request('/readyz').catch(() => undefined);
      if (answer?.status === 200) return;
      await delay(READY_POLL_MS);
    }
  }

  /** Ends the API server alone; etcd keeps what it holds. SIGKILL is what a crash is. */
  async stopApi(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.#api.end(signal);
    await this.#agent?.destroy();
    this.#agent = undefined;
  }

  /** Keeps what etcd holds now as the older state that `restore` goes back to. Of an API server that is stopped alone. */
  async snapshot(): Promise<string> {
    assert.ok(!this.#api.running, 'what is written meanwhile would be torn');
    const copy = join(this.root, 'etcd-snapshot');
    await this.#etcd.end('SIGTERM');
    await cp(join(this.root, 'etcd'), copy, { recursive: true });
    await this.#etcd.start();
    return copy;
  }

  /** Goes back to a snapshot, as an operator without `--bump-revision` does it; the API server is stopped. */
  async restore(snapshot: string): Promise<void> {
    assert.ok(!this.#api.running, 'it would go on with what it has in memory');
    await this.#etcd.end('SIGKILL');
    await rm(join(this.root, 'etcd'), { recursive: true });
    await cp(snapshot, join(this.root, 'etcd'), { recursive: true });
    await this.#etcd.start();
  }

  /** One request, as the administrator where no token is given. Rejects only when no answer comes. */
  async request(path: string, options: ApiRequest = {}): Promise<ApiResponse> {
    const {
      body,
      contentType = 'application/json',
      accept = 'application/json',
      token = this.token,
    } = options;
    this.#agent ??= new Agent({ connect: { ca: await this.certificateAuthority() } });
    const response = await request(new URL(path, this.url), {
      dispatcher: this.#agent,
      method: options.method ?? 'GET',
      headers: { authorization: `Bearer ${token}`, 'content-type': contentType, accept },
      body: body === undefined ? null : typeof body === 'string' ? body : JSON.stringify(body),
    });
    const text = await response.body.text();
    const isJson = String(response.headers['content-type'] ?? '').startsWith('application/json');
    return { status: response.statusCode, body: isJson ? (JSON.parse(text) as unknown) : text };
  }

  /** Applies the definitions of a folder (crds/ of the project) and resolves when the API serves them. */
  async applyCrds(folder = join(import.meta.dirname, '..', '..', 'crds')): Promise<void> {
    for (const file of (await readdir(folder)).filter((name) => name.endsWith('.yaml'))) {
      const name = file.replace(/^(.*)_(.*)\.yaml$/, '$2.$1');
      const path = `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${name}`;
      const { status, body } = await this.request(`${path}?fieldManager=bulkhead-test&force=true`, {
        method: 'PATCH',
        contentType: 'application/apply-patch+yaml',
        body: await readFile(join(folder, file), 'utf8'),
      });
      assert.ok(status === 200 || status === 201, `${file}: ${status} ${JSON.stringify(body)}`);
      await this.#served(path);
    }
  }

  async #served(crd: string): Promise<void> {
    const deadline = Date.now() + READY_TIMEOUT_MS;
    for (;;) {
      const { body } = await this.request(crd);
      const { spec, status } = body as {
        spec: { group: string; names: { plural: string }; versions: { name: string }[] };
        status?: { conditions?: { type: string; status: string; message: string }[] };
      };
      const conditions = status?.conditions ?? [];
      const is = (type: string) => conditions.find((each) => each.type === type);
      const refused = conditions.find(
        ({ type, status }) =>
          (type === 'NonStructuralSchema' && status === 'True') ||
          (type === 'NamesAccepted' && status === 'False'),
      );
      assert.equal(refused, undefined, `${crd}: ${refused?.message}`);
      if (is('Established')?.status === 'True') {
        // Established says that the storage is; the address is served a moment later.
        const path = `/apis/${spec.group}/${spec.versions[0]?.name}/${spec.names.plural}`;
        if ((await this.request(path)).status === 200) return;
      }
      assert.ok(Date.now() < deadline, `${crd} is not served: ${JSON.stringify(conditions)}`);
      await delay(READY_POLL_MS);
    }
  }

  /** Writes a kubeconfig for a user (the administrator by default) and returns its path. */
  async kubeconfig(user: TestUser = ADMIN): Promise<string> {
    const path = join(this.root, `kubeconfig-${user.name.replaceAll(/[^a-z0-9-]/gi, '-')}`);
    const ca = Buffer.from(await this.certificateAuthority()).toString('base64');
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'test', cluster: { server: this.url, 'certificate-authority-data': ca } }],
      users: [{ name: user.name, user: { token: user.token } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: user.name } }],
      'current-context': 'test',
    };
    // JSON is YAML.
    await writeFile(path, JSON.stringify(config), { mode: 0o600 });
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopApi('SIGKILL');
    await this.#etcd.end('SIGKILL');
    await rm(this.root, { recursive: true, force: true });
  }
}
