// libvmm through koffi: the only place where native code is called. Shapes and rules: libvmm/include/libvmm.h.
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';
import { BulkheadError } from '../api/errors.ts';

/** BH_ABI_VERSION of the library this file is written for. */
const ABI_VERSION = 1;
/** BH_ERROR_BYTES. */
const ERROR_BYTES = 256;
/** BH_PLANE_SOCKETS. */
const PLANE_SOCKETS = 6;
/** BH_FLOW_BYTES. */
const FLOW_BYTES = 128;
/** BH_SPAWN_FIRST_FD: number of the first inherited descriptor in the launcher. */
export const FIRST_INHERITED_FD = 5;

/** A system call that failed: `code` as in Node's own errors (`ENOSPC`), `message` with the file or step. */
export class HostError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.name = 'HostError';
    this.code = code;
  }
}

/** A failure of libvmm or of a Node file call, as the product's own error. */
export function hostFailure(error: unknown, context: string): BulkheadError {
  if (error instanceof BulkheadError) return error;
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  const text = `${context}: ${error instanceof Error ? error.message : String(error)}`;
  return new BulkheadError(code === 'ENOSPC' || code === 'EDQUOT' ? 'DISK_FULL' : 'VM_START_FAILED', text, {
    cause: error,
  });
}

export interface SpawnedLauncher {
  pid: number;
  pidfd: number;
  /** Read end of the status pipe. */
  statusFd: number;
}

/** Identifies the library's watcher thread; opaque. */
export type WatcherPointer = unknown;

/** What a VM's network is opened with; bh_plane_open says more. */
export interface PlaneSetup {
  gateway4: string;
  gateway6: string;
  /** Of the transparent sockets. */
  port: number;
  /** For nftables. */
  rules: string;
}

/** Descriptors. */
export interface PlaneSockets {
  tcp: number;
  udp: number;
  dns4: number;
  dns6: number;
  echo4: number;
  echo6: number;
}

/** The calls of libvmm. Names follow the header; every failure throws (or rejects with) a HostError. */
export interface HostLibrary {
  spawn(binary: string, config: Uint8Array, fds: readonly number[]): SpawnedLauncher;
  processStartTime(pid: number): bigint;
  /** From now on this process leaves no core dump, wherever the kernel would send it. */
  forbidDumps(): void;
  pidfdOpen(pid: number, startTime: bigint): number;
  pidfdKill(pidfd: number, signal: 'SIGKILL' | 'SIGTERM'): void;
  watcherOpen(): { watcher: WatcherPointer; notifyFd: number };
  watcherAdd(watcher: WatcherPointer, pidfd: number, token: bigint): void;
  watcherClose(watcher: WatcherPointer): Promise<void>;
  lockIsHeld(path: string): boolean;
  memfdCreate(name: string, sizeBytes: number): number;
  memfdSeal(fd: number): void;
  memfdFromFile(path: string): Promise<number>;
  sparseCopy(source: string, target: string): Promise<void>;
  sparseCopyFd(source: number, target: string): Promise<void>;
  /**
   * Opens (O_PATH) what a relative path names below the directory `root`; no part of it, link or not, leads out of it (EXDEV)
   * or is a magic link (ELOOP).
   */
  openBeneath(root: number, path: string): number;
  /** Opens (O_PATH) a directory by a path without any link in it (ELOOP). */
  openDirectory(path: string): number;
  /** Data extents as [offset, length] in bytes; fails when there are more than `capacity`. */
  extents(path: string, capacity: number): [number, number][];
  unixListen(path: string): number;
  unixConnect(path: string): number;
  /** Connects to a socket at `path` inside the jail of a VMM; follows no link. */
  jailConnect(pid: number, path: string): number;
  sendFd(socket: number, data: Uint8Array, fd: number): void;
  tscKhz(): Promise<number>;
  /** Begins a TCP connection to the guest of that VM; gives its descriptor. */
  planeDial(process: { pid: number; startTime: bigint }, address: string, port: number): number;
  /** Whether a connection that was begun is there; throws when it failed. */
  dialResult(fd: number): boolean;
  /** A transparent UDP socket in the network of that VM, bound to any address; port 0 is a free one. Gives its descriptor. */
  planeBind(process: { pid: number; startTime: bigint }, address: string, port: number): number;
  /**
   * Takes a datagram from the UDP socket of `planeOpen`: its size, and where it came from and was sent, as
   * `ADDRESS PORT ADDRESS PORT`. Undefined where none waits.
   */
  receiveDatagram(fd: number, data: Uint8Array): { length: number; flow: string } | undefined;
  /** The same of an echo request of ICMP, from `echo4` or `echo6`; its ports are the identifier and 0. */
  receiveEcho(fd: number, data: Uint8Array): { length: number; flow: string } | undefined;
  /** Sends the guest a message that begins with the header of ICMP, whose checksum is written. */
  sendIcmp(fd: number, source: string, guest: string, data: Uint8Array): void;
  /** A socket of the host for echoes; its descriptor. EACCES where the host does not let this process have one. */
  pingOpen(family: 4 | 6): number;
  /** Calls back each time that the descriptor can be read, until it is stopped. */
  poll(fd: number, readable: () => void): PollHandle;
  /** Opens the network of the VM whose process this is; gives the descriptors of its sockets. */
  planeOpen(process: { pid: number; startTime: bigint }, plane: PlaneSetup): PlaneSockets;
}

/** A descriptor that is watched. */
export interface PollHandle {
  stop(): void;
  /** After a stop. */
  start(): void;
  /** The descriptor may be closed then. */
  close(): void;
}

type Argument = string | number | bigint | ArrayBufferView | WatcherPointer;

const failures = new Map<string, number>();

/** Calls that failed in this process, by name as in the header. Some failures are answers, such as that a process is gone. */
export function failedHostCalls(): ReadonlyMap<string, number> {
  return failures;
}

/** Loads `<buildDir>/libvmm/libvmm.so`. */
export function loadHostLibrary(buildDir: string): HostLibrary {
  const library = koffi.load(`${buildDir}/libvmm/libvmm.so`);
  const version: unknown = library.func('int bh_abi_version(void)')();
  if (version !== ABI_VERSION)
    throw new BulkheadError(
      'DRIVER_UNAVAILABLE',
      `libvmm.so has version ${version}, ${ABI_VERSION} is needed`,
    );

  const declare = (name: string, parameters: string) => {
    const tail = 'uint8_t *error, size_t error_size)';
    const native = library.func(`int ${name}(${parameters}${parameters === '' ? '' : ', '}${tail}`);
    const check = (result: unknown, error: Uint8Array): number => {
      const status = Number(result);
      if (status >= 0) return status;
      failures.set(name, (failures.get(name) ?? 0) + 1);
      const end = error.indexOf(0);
      const message = Buffer.from(error.subarray(0, end < 0 ? ERROR_BYTES : end)).toString();
      throw new HostError(getSystemErrorName(status), message);
    };
    return {
      now: (...values: Argument[]): number => {
        const error = new Uint8Array(ERROR_BYTES);
        return check(native(...values, error, ERROR_BYTES), error);
      },
      /** On a worker thread of koffi. The buffers stay referenced by this closure until it is done. */
      later: (...values: Argument[]): Promise<number> =>
        new Promise((resolve, reject) => {
          const error = new Uint8Array(ERROR_BYTES);
          native.async(...values, error, ERROR_BYTES, (failure: unknown, result: unknown) => {
            try {
              if (failure) throw failure;
              resolve(check(result, error));
            } catch (problem) {
              reject(problem instanceof Error ? problem : new Error(String(problem)));
            }
            values.length = 0;
          });
        }),
    };
  };

  const spawn = declare(
    'bh_spawn',
    'const char *binary, const uint8_t *config, size_t config_size, const int32_t *fds, size_t fd_count, int32_t *pid, int32_t *pidfd, int32_t *status_fd',
  );
  const startTime = declare('bh_process_start_time', 'int32_t pid, uint64_t *start_time');
  const forbidDumps = declare('bh_forbid_dumps', '');
  const pidfdOpen = declare('bh_pidfd_open', 'int32_t pid, uint64_t start_time, int32_t *pidfd');
  const pidfdKill = declare('bh_pidfd_kill', 'int32_t pidfd, int32_t signal');
  const watcherOpen = declare('bh_watcher_open', '_Out_ void **watcher, int32_t *notify_fd');
  const watcherAdd = declare('bh_watcher_add', 'void *watcher, int32_t pidfd, uint64_t token');
  const watcherClose = declare('bh_watcher_close', 'void *watcher');
  const lockProbe = declare('bh_lock_probe', 'const char *path');
  const memfdCreate = declare('bh_memfd_create', 'const char *name, uint64_t size, int32_t *fd');
  const memfdSeal = declare('bh_memfd_seal', 'int32_t fd');
  const memfdFromFile = declare('bh_memfd_from_file', 'const char *path, int32_t *fd');
  const sparseCopy = declare('bh_sparse_copy', 'const char *source, const char *target');
  const sparseCopyFd = declare('bh_sparse_copy_fd', 'int32_t source, const char *target');
  const extents = declare(
    'bh_extents',
    'const char *path, uint64_t *extents, size_t capacity, uint64_t *count',
  );
  const openBeneath = declare('bh_open_beneath', 'int32_t root, const char *path, int32_t *fd');
  const openDirectory = declare('bh_open_directory', 'const char *path, int32_t *fd');
  const unixListen = declare('bh_unix_listen', 'const char *path, int32_t *fd');
  const unixConnect = declare('bh_unix_connect', 'const char *path, int32_t *fd');
  const jailConnect = declare('bh_jail_connect', 'int32_t pid, const char *path, int32_t *fd');
  const sendFd = declare('bh_send_fd', 'int32_t socket, const uint8_t *data, size_t size, int32_t fd');
  const planeOpen = declare(
    'bh_plane_open',
    'int32_t pid, uint64_t start_time, const char *gateway4, const char *gateway6, uint16_t port, const char *rules, int32_t *sockets',
  );
  const planeDial = declare(
    'bh_plane_dial',
    'int32_t pid, uint64_t start_time, const char *address, uint16_t port, int32_t *fd',
  );
  const planeBind = declare(
    'bh_plane_bind',
    'int32_t pid, uint64_t start_time, const char *address, uint16_t port, int32_t *fd',
  );
  const datagramReceive = declare(
    'bh_datagram_receive',
    'int32_t fd, uint8_t *data, size_t size, uint8_t *flow, int32_t *length',
  );
  const echoReceive = declare(
    'bh_echo_receive',
    'int32_t fd, uint8_t *data, size_t size, uint8_t *flow, int32_t *length',
  );
  const icmpSend = declare(
    'bh_icmp_send',
    'int32_t fd, const char *source, const char *guest, uint8_t *data, size_t size',
  );
  const pingOpen = declare('bh_ping_open', 'int32_t ipv6, int32_t *fd');
  const dialResult = declare('bh_dial_result', 'int32_t fd, int32_t *connected');
  const tscKhz = declare('bh_tsc_khz', 'uint32_t *khz');

  const receive = (call: typeof datagramReceive, fd: number, data: Uint8Array) => {
    const [flow, length] = [Buffer.alloc(FLOW_BYTES), new Int32Array(1)];
    call.now(fd, data, data.length, flow, length);
    if (first(length) < 0) return undefined;
    return { length: first(length), flow: flow.toString('latin1', 0, flow.indexOf(0)) };
  };
  const first = (array: Int32Array | Uint32Array): number => array[0] ?? -1;

  return {
    spawn(binary, config, fds) {
      const [pid, pidfd, statusFd] = [new Int32Array(1), new Int32Array(1), new Int32Array(1)];
      spawn.now(binary, config, config.length, Int32Array.from(fds), fds.length, pid, pidfd, statusFd);
      return { pid: first(pid), pidfd: first(pidfd), statusFd: first(statusFd) };
    },
    processStartTime(pid) {
      const out = new BigUint64Array(1);
      startTime.now(pid, out);
      return out[0] ?? 0n;
    },
    forbidDumps() {
      forbidDumps.now();
    },
    pidfdOpen(pid, start) {
      const out = new Int32Array(1);
      pidfdOpen.now(pid, start, out);
      return first(out);
    },
    pidfdKill(pidfd, signal) {
      pidfdKill.now(pidfd, constants.signals[signal]);
    },
    watcherOpen() {
      const watcher: WatcherPointer[] = [null];
      const notify = new Int32Array(1);
      watcherOpen.now(watcher, notify);
      return { watcher: watcher[0], notifyFd: first(notify) };
    },
    watcherAdd(watcher, pidfd, token) {
      watcherAdd.now(watcher, pidfd, token);
    },
    async watcherClose(watcher) {
      await watcherClose.later(watcher);
    },
    lockIsHeld: (path) => lockProbe.now(path) === 1,
    memfdCreate(name, sizeBytes) {
      const out = new Int32Array(1);
      memfdCreate.now(name, sizeBytes, out);
      return first(out);
    },
    memfdSeal(fd) {
      memfdSeal.now(fd);
    },
    async memfdFromFile(path) {
      const out = new Int32Array(1);
      await memfdFromFile.later(path, out);
      return first(out);
    },
    async sparseCopy(source, target) {
      await sparseCopy.later(source, target);
    },
    async sparseCopyFd(source, target) {
      await sparseCopyFd.later(source, target);
    },
    openBeneath(root, path) {
      const out = new Int32Array(1);
      openBeneath.now(root, path, out);
      return first(out);
    },
    openDirectory(path) {
      const out = new Int32Array(1);
      openDirectory.now(path, out);
      return first(out);
    },
    extents(path, capacity) {
      const pairs = new BigUint64Array(capacity * 2);
      const count = new BigUint64Array(1);
      extents.now(path, pairs, capacity, count);
      const found: [number, number][] = [];
      for (let i = 0; i < Number(count[0] ?? 0n); i++)
        found.push([Number(pairs[2 * i] ?? 0n), Number(pairs[2 * i + 1] ?? 0n)]);
      return found;
    },
    unixListen(path) {
      const out = new Int32Array(1);
      unixListen.now(path, out);
      return first(out);
    },
    unixConnect(path) {
      const out = new Int32Array(1);
      unixConnect.now(path, out);
      return first(out);
    },
    jailConnect(pid, path) {
      const out = new Int32Array(1);
      jailConnect.now(pid, path, out);
      return first(out);
    },
    sendFd(socket, data, fd) {
      sendFd.now(socket, data, data.length, fd);
    },
    planeOpen({ pid, startTime: start }, { gateway4, gateway6, port, rules }) {
      const sockets = new Int32Array(PLANE_SOCKETS);
      planeOpen.now(pid, start, gateway4, gateway6, port, rules, sockets);
      const [tcp = -1, udp = -1, dns4 = -1, dns6 = -1, echo4 = -1, echo6 = -1] = sockets;
      return { tcp, udp, dns4, dns6, echo4, echo6 };
    },
    planeDial({ pid, startTime: start }, address, port) {
      const out = new Int32Array(1);
      planeDial.now(pid, start, address, port, out);
      return first(out);
    },
    planeBind({ pid, startTime: start }, address, port) {
      const out = new Int32Array(1);
      planeBind.now(pid, start, address, port, out);
      return first(out);
    },
    receiveDatagram: (fd, data) => receive(datagramReceive, fd, data),
    receiveEcho: (fd, data) => receive(echoReceive, fd, data),
    sendIcmp(fd, source, guest, data) {
      icmpSend.now(fd, source, guest, data, data.length);
    },
    pingOpen(family) {
      const out = new Int32Array(1);
      pingOpen.now(family === 6 ? 1 : 0, out);
      return first(out);
    },
    poll(fd, readable) {
      const handle = koffi.node.poll(fd, { readable: true }, () => readable());
      return {
        stop: () => handle.stop(),
        start: () => handle.start({ readable: true }, () => readable()),
        close: () => handle.close(),
      };
    },
    dialResult(fd) {
      const out = new Int32Array(1);
      dialResult.now(fd, out);
      return first(out) === 1;
    },
    async tscKhz() {
      const out = new Uint32Array(1);
      await tscKhz.later(out);
      return first(out);
    },
  };
}
