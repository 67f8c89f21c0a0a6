// Bulkhead's TypeScript API: untrusted code in real microVMs.
export type { CopyOptions } from '../client/copy.ts';
export type { AttachConfig, AttachOptions, DetachedExec } from './attach.ts';
export type { RegistryCredentials, SandboxConfig } from './config.ts';
export {
  type CallOptions,
  type ConfigureOptions,
  type ConnectionOptions,
  configure,
  type WaitOptions,
} from './connection.ts';
export { install, isInstalled } from './daemon.ts';
export {
  ExecEventType,
  FsEntryKind,
  LogLevel,
  PolicyAction,
  PolicyDirection,
  PolicyProtocol,
  PullPolicy,
  SandboxStatus,
  ViolationAction,
} from './enums.ts';
export {
  AlreadyExistsError,
  BulkheadError,
  CommandError,
  CommandLostError,
  DaemonUnavailableError,
  type ErrorCode,
  ExecTimeoutError,
  FileError,
  ImageError,
  InvalidConfigError,
  NotFoundError,
  NotSupportedError,
  SandboxNotRunningError,
  SandboxStillRunningError,
  TimeoutError,
  TooManyRequestsError,
  VolumeError,
} from './errors.ts';
export type {
  ExecConfig,
  ExecEvent,
  ExecHandle,
  ExecOptions,
  ResumeExecOptions,
} from './exec.ts';
export type { ExecOutput, ExitStatus, LostOutput } from './exec-output.ts';
export type { ExecSink } from './exec-sink.ts';
export type {
  FsEntry,
  FsMetadata,
  FsNewFile,
  FsOptions,
  FsReadStream,
  FsWriteSink,
  SandboxFs,
} from './fs.ts';
export type { StartOptions } from './lifecycle.ts';
export { allSandboxMetrics, type MetricsStream, type SandboxMetrics } from './metrics.ts';
export { Mount, type MountConfig } from './mounts.ts';
export {
  type NetworkConfig,
  NetworkPolicy,
  type PolicyRule,
  type TlsConfig,
} from './network.ts';
export type { SandboxInfo } from './objects.ts';
export { Patch, type PatchConfig } from './patches.ts';
export type { ForwardedPort, ForwardPortOptions } from './ports.ts';
export { Sandbox } from './sandbox.ts';
export { SandboxHandle } from './sandbox-handle.ts';
export { Secret, type SecretEntry } from './secrets.ts';
export { Volume, type VolumeConfig, VolumeHandle, type VolumeInfo } from './volume.ts';
