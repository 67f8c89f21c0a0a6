// Every failure the product can name, in one table: what programs match on, and what people are told to do.

interface ErrorRow {
  /** CamelCase reason in conditions, events and Kubernetes `Status` objects. */
  reason: string;
  httpStatus: number;
  /** Exit code of the command line. */
  exitCode: number;
  /** Retrying without a change of the object cannot help. */
  terminal: boolean;
  /** What to do about it, one sentence. */
  hint: string;
}

export const ERRORS = {
  NOT_FOUND: {
    reason: 'NotFound',
    httpStatus: 404,
    exitCode: 1,
    terminal: true,
    hint: 'Check the kind, name and namespace.',
  },
  ALREADY_EXISTS: {
    reason: 'AlreadyExists',
    httpStatus: 409,
    exitCode: 1,
    terminal: true,
    hint: 'Choose another name, or update the existing object.',
  },
  ADDRESS_IN_USE: {
    reason: 'AddressInUse',
    httpStatus: 503,
    exitCode: 125,
    terminal: true,
    hint: 'Stop the daemon or program that has it, or choose another with --socket or --metrics-address (`none` for no metrics).',
  },
  STATE_DIR_UNUSABLE: {
    reason: 'StateDirUnusable',
    httpStatus: 500,
    exitCode: 125,
    terminal: true,
    hint: 'Make it possible to write there, or choose another directory with --state-dir.',
  },
  CONFLICT: {
    reason: 'Conflict',
    httpStatus: 409,
    exitCode: 1,
    terminal: false,
    hint: 'Read the object again and repeat the change on the new version.',
  },
  UNAUTHORIZED: {
    reason: 'Unauthorized',
    httpStatus: 401,
    exitCode: 1,
    terminal: false,
    hint: 'Come with the token of a service account that the cluster knows.',
  },
  FORBIDDEN: {
    reason: 'Forbidden',
    httpStatus: 403,
    exitCode: 1,
    terminal: false,
    hint: 'Ask for a role that allows what the message names.',
  },
  API_SERVER_UNAVAILABLE: {
    reason: 'ApiServerUnavailable',
    httpStatus: 503,
    exitCode: 125,
    terminal: false,
    hint: 'It is tried again; check the address in the kubeconfig and that the API server answers.',
  },
  KUBECONFIG_INVALID: {
    reason: 'KubeconfigInvalid',
    httpStatus: 500,
    exitCode: 125,
    terminal: true,
    hint: 'Say which with --kubeconfig and --context, or run in a Pod with a service account.',
  },
  EXPIRED: {
    reason: 'Expired',
    httpStatus: 410,
    exitCode: 1,
    terminal: false,
    hint: 'List again and watch from the new resourceVersion.',
  },
  INVALID: {
    reason: 'Invalid',
    httpStatus: 422,
    exitCode: 1,
    terminal: true,
    hint: 'Correct the field that the message names.',
  },
  BAD_REQUEST: {
    reason: 'BadRequest',
    httpStatus: 400,
    exitCode: 2,
    terminal: true,
    hint: 'Correct the request as the message says.',
  },
  METHOD_NOT_ALLOWED: {
    reason: 'MethodNotAllowed',
    httpStatus: 405,
    exitCode: 1,
    terminal: true,
    hint: 'This path does not answer to that method.',
  },
  UNSUPPORTED_MEDIA_TYPE: {
    reason: 'UnsupportedMediaType',
    httpStatus: 415,
    exitCode: 1,
    terminal: true,
    hint: 'Send one of the content types that the message lists.',
  },
  TOO_MANY_REQUESTS: {
    reason: 'TooManyRequests',
    httpStatus: 429,
    exitCode: 125,
    terminal: false,
    hint: 'Try again when some of the open requests have ended.',
  },
  DAEMON_UNAVAILABLE: {
    reason: 'DaemonUnavailable',
    httpStatus: 503,
    exitCode: 125,
    terminal: false,
    hint: 'Start it with `bulkhead daemon`, or say where its socket is with --socket or BULKHEAD_SOCKET.',
  },
  TOO_LARGE: {
    reason: 'RequestEntityTooLarge',
    httpStatus: 413,
    exitCode: 1,
    terminal: true,
    hint: 'Make it smaller than the limit in the message.',
  },
  NOT_SUPPORTED: {
    reason: 'NotSupported',
    httpStatus: 422,
    exitCode: 1,
    terminal: true,
    hint: 'Remove the field; this release does not act on it yet.',
  },
  NOT_IN_CLUSTER: {
    reason: 'NotInCluster',
    httpStatus: 422,
    exitCode: 1,
    terminal: true,
    hint: 'docs/cluster.md lists what is there only with a daemon on one host.',
  },
  PATCH_FAILED: {
    reason: 'PatchFailed',
    httpStatus: 422,
    exitCode: 125,
    terminal: true,
    hint: 'Patches cannot change afterwards: mend the one that the message names and create the sandbox anew.',
  },
  FILE_FAILED: {
    reason: 'FileFailed',
    httpStatus: 422,
    exitCode: 1,
    terminal: true,
    hint: "The file system of the sandbox refused it: see the message, and the sandbox's free space and mounts.",
  },
  DIAL_FAILED: {
    reason: 'ConnectionFailed',
    httpStatus: 502,
    exitCode: 1,
    terminal: false,
    hint: 'Nothing takes connections at that port of the guest: start what serves it, on all of its addresses.',
  },
  INTERNAL: {
    reason: 'InternalError',
    httpStatus: 500,
    exitCode: 125,
    terminal: false,
    hint: "Look at the daemon's log; please report it if it repeats.",
  },
  TIMEOUT: {
    reason: 'Timeout',
    httpStatus: 504,
    exitCode: 125,
    terminal: false,
    hint: 'Try again; if it repeats, look at `bulkhead describe`.',
  },
  STORE_FULL: {
    reason: 'StoreFull',
    httpStatus: 507,
    exitCode: 125,
    terminal: false,
    hint: 'Free space on the disk that holds the state directory.',
  },
  STORE_CORRUPT: {
    reason: 'StoreCorrupt',
    httpStatus: 500,
    exitCode: 125,
    terminal: true,
    hint: 'Restore store.db from a backup, or move it and its -wal file away to start from the manifests.',
  },
  STORE_LOCKED: {
    reason: 'StoreLocked',
    httpStatus: 503,
    exitCode: 125,
    terminal: false,
    hint: 'Another daemon uses this state directory; stop it first, or choose another --state-dir.',
  },
  STORE_TOO_NEW: {
    reason: 'StoreTooNew',
    httpStatus: 500,
    exitCode: 125,
    terminal: true,
    hint: 'Run the newer version of Bulkhead that wrote store.db, or restore an older backup.',
  },
  IMAGE_REFERENCE_INVALID: {
    reason: 'ImageReferenceInvalid',
    httpStatus: 422,
    exitCode: 125,
    terminal: true,
    hint: 'Write the image as registry/name:tag or registry/name@sha256:digest.',
  },
  IMAGE_NOT_FOUND: {
    reason: 'ImageNotFound',
    httpStatus: 404,
    exitCode: 125,
    terminal: true,
    hint: 'Check the name and tag, and that the registry holds it for this platform.',
  },
  IMAGE_NOT_PRESENT: {
    reason: 'ImageNotPresent',
    httpStatus: 404,
    exitCode: 125,
    terminal: true,
    hint: 'Load the image first, or use imagePullPolicy IfNotPresent.',
  },
  IMAGE_INVALID: {
    reason: 'ImageInvalid',
    httpStatus: 422,
    exitCode: 125,
    terminal: true,
    hint: 'The image breaks the OCI format or tries to leave its root; build it again.',
  },
  REGISTRY_UNAUTHORIZED: {
    reason: 'RegistryUnauthorized',
    httpStatus: 401,
    exitCode: 125,
    terminal: true,
    hint: 'Give credentials in imagePullSecrets, or correct them.',
  },
  REGISTRY_UNAVAILABLE: {
    reason: 'RegistryUnavailable',
    httpStatus: 503,
    exitCode: 125,
    terminal: false,
    hint: 'The registry does not answer; it is tried again by itself.',
  },
  DISK_FULL: {
    reason: 'DiskFull',
    httpStatus: 507,
    exitCode: 125,
    terminal: false,
    hint: 'Free space on the disk that holds the state directory.',
  },
  DISK_DAMAGED: {
    reason: 'DiskDamaged',
    httpStatus: 422,
    exitCode: 1,
    terminal: true,
    hint: 'Stop the sandbox gracefully and try again; where that changes nothing, its root file system is damaged.',
  },
  DISK_UNWRITABLE: {
    reason: 'DiskUnwritable',
    httpStatus: 503,
    exitCode: 125,
    terminal: false,
    hint: 'The disk of the state directory fails or is read-only: see the kernel log, check it, and mount it again.',
  },
  VM_ALREADY_RUNNING: {
    reason: 'VmAlreadyRunning',
    httpStatus: 409,
    exitCode: 125,
    terminal: false,
    hint: 'The former VM of this sandbox still ends; it is tried again by itself.',
  },
  VM_START_FAILED: {
    reason: 'VmStartFailed',
    httpStatus: 500,
    exitCode: 125,
    terminal: false,
    hint: 'Look at the message and at `bulkhead doctor`.',
  },
  DRIVER_UNAVAILABLE: {
    reason: 'DriverUnavailable',
    httpStatus: 503,
    exitCode: 125,
    terminal: true,
    hint: 'Run `bulkhead doctor` for what is missing.',
  },
  AGENT_UNREACHABLE: {
    reason: 'AgentUnreachable',
    httpStatus: 503,
    exitCode: 125,
    terminal: false,
    hint: 'The guest does not answer; it is dialled again by itself.',
  },
  AGENT_PROTOCOL: {
    reason: 'AgentProtocolError',
    httpStatus: 502,
    exitCode: 125,
    terminal: false,
    hint: 'The guest broke the protocol; its sandbox cannot be trusted and should be recreated.',
  },
  SANDBOX_NOT_RUNNING: {
    reason: 'SandboxNotRunning',
    httpStatus: 409,
    exitCode: 125,
    terminal: false,
    hint: 'Start it, or wait until it is Ready.',
  },
  NODE_LOST: {
    reason: 'NodeLost',
    httpStatus: 503,
    exitCode: 125,
    terminal: false,
    hint: 'Wait until the node is heard of again; docs/cluster.md says what to do with one that never returns.',
  },
  NODE_UNREACHABLE: {
    reason: 'NodeUnreachable',
    httpStatus: 503,
    exitCode: 125,
    terminal: false,
    hint: "Try again: the node's agent may be restarting. If it repeats, look at its Pod and at the way from controller to node.",
  },
  COMMAND_NOT_FOUND: {
    reason: 'CommandNotFound',
    httpStatus: 422,
    exitCode: 127,
    terminal: true,
    hint: 'The image has no such command.',
  },
  COMMAND_NOT_EXECUTABLE: {
    reason: 'CommandNotExecutable',
    httpStatus: 422,
    exitCode: 126,
    terminal: true,
    hint: 'The file exists but cannot be executed by this user.',
  },
  COMMAND_LOST: {
    reason: 'CommandLost',
    httpStatus: 410,
    exitCode: 125,
    terminal: true,
    hint: 'Run it again: it ended unseen, waited too long for its client, never began, or another client has it.',
  },
  VOLUME_IN_USE: {
    reason: 'VolumeInUse',
    httpStatus: 409,
    exitCode: 1,
    terminal: false,
    hint: 'Wait until the sandbox that has it ends, or end it; who waits goes on by itself.',
  },
  HOST_PATH_NOT_ALLOWED: {
    reason: 'HostPathNotAllowed',
    httpStatus: 403,
    exitCode: 125,
    terminal: true,
    hint: 'Name a path below a directory that the operator allows (`bulkhead daemon --host-path-root`).',
  },
  HOST_PATH_NOT_FOUND: {
    reason: 'HostPathNotFound',
    httpStatus: 404,
    exitCode: 125,
    terminal: false,
    hint: 'Make it on the host of the daemon, or correct the path or its type; it is looked for again.',
  },
  VOLUME_NOT_READY: {
    reason: 'VolumeNotReady',
    httpStatus: 409,
    exitCode: 1,
    terminal: false,
    hint: 'Wait until the volume is Ready.',
  },
  VOLUME_READ_ONLY: {
    reason: 'VolumeReadOnly',
    httpStatus: 422,
    exitCode: 1,
    terminal: true,
    hint: 'Mount it with readOnly: true, or make the volume ReadWriteOnce.',
  },
  VOLUME_SHRINK: {
    reason: 'ShrinkRefused',
    httpStatus: 422,
    exitCode: 1,
    terminal: true,
    hint: 'Ask for at least the size that the disk has, or create another Volume.',
  },
  VOLUME_DAMAGED: {
    reason: 'VolumeDamaged',
    httpStatus: 500,
    exitCode: 1,
    terminal: true,
    hint: 'Put a good image in its place with `bulkhead volume import --overwrite`, or delete the volume.',
  },
  VOLUME_UNAVAILABLE: {
    reason: 'VolumeUnavailable',
    httpStatus: 503,
    exitCode: 1,
    terminal: false,
    hint: 'Look at the message and at the directory of volumes; it is tried again by itself.',
  },
  NETWORK_UNAVAILABLE: {
    reason: 'NetworkUnavailable',
    httpStatus: 503,
    exitCode: 125,
    terminal: false,
    hint: 'The gateway does not answer; sandboxes stay closed, or under the policy they have, and it is tried again by itself.',
  },
  PORT_UNAVAILABLE: {
    reason: 'PortUnavailable',
    httpStatus: 409,
    exitCode: 1,
    terminal: false,
    hint: 'Free the port of the host or choose another one (0, or none before the colon of port-forward: a free one); a hostPort is tried again by itself.',
  },
  PORT_UNREACHABLE: {
    reason: 'PortUnreachable',
    httpStatus: 502,
    exitCode: 1,
    terminal: false,
    hint: 'Start the server in the sandbox, and let it listen on all addresses: one on 127.0.0.1 is reached from within alone.',
  },
  INSUFFICIENT_RESOURCES: {
    reason: 'InsufficientResources',
    httpStatus: 507,
    exitCode: 125,
    terminal: true,
    hint: 'Ask for less, or use a host that has it.',
  },
  INSUFFICIENT_MEMORY: {
    reason: 'InsufficientMemory',
    httpStatus: 507,
    exitCode: 125,
    terminal: false,
    hint: 'It starts by itself when others have ended; suspend or delete some, or ask for less.',
  },
  INSUFFICIENT_DISK: {
    reason: 'InsufficientDisk',
    httpStatus: 507,
    exitCode: 125,
    terminal: false,
    hint: 'It starts by itself when there is room: `bulkhead image prune` and `bulkhead gc` remove what nothing uses.',
  },
  REFERENCE_NOT_FOUND: {
    reason: 'ReferenceNotFound',
    httpStatus: 404,
    exitCode: 1,
    terminal: false,
    hint: 'Create the object that is referred to; the sandbox goes on by itself.',
  },
} as const satisfies Record<string, ErrorRow>;

/** Stable code of a failure. */
export type ErrorCode = keyof typeof ERRORS;

/** One of several things that were wrong: `details.causes` of a `Status`. */
export interface FieldCause {
  /** CamelCase, as Kubernetes names it: `FieldValueInvalid`, `FieldValueRequired`, ... */
  reason: string;
  message: string;
  /** Path of the field, e.g. `spec.resources.cpus`. */
  field: string;
}

/** A failure with a code from the table and a message for this case. */
export class BulkheadError extends Error {
  readonly code: ErrorCode;
  /** Every field that was wrong, where fields were. */
  readonly causes: readonly FieldCause[];
  constructor(code: ErrorCode, message: string, options?: ErrorOptions & { causes?: readonly FieldCause[] }) {
    super(message, options);
    this.name = 'BulkheadError';
    this.code = code;
    this.causes = options?.causes ?? [];
  }
  /** What to do about it. */
  get hint(): string {
    return this.row.hint;
  }
  get row(): ErrorRow {
    return ERRORS[this.code];
  }
}

/** Any thrown value as a BulkheadError; what is not one of ours becomes INTERNAL with its cause kept. */
export function asBulkheadError(error: unknown): BulkheadError {
  if (error instanceof BulkheadError) return error;
  const readOnly = error instanceof Error && 'code' in error && error.code === 'EROFS';
  return new BulkheadError(
    readOnly ? 'DISK_UNWRITABLE' : 'INTERNAL',
    error instanceof Error ? error.message : String(error),
    {
      cause: error,
    },
  );
}
