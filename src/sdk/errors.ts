// The failures of the SDK: one class for each way in which programs react, all of them BulkheadErrors with a stable code
// and a hint.
import { asBulkheadError, BulkheadError, type ErrorCode } from '../api/errors.ts';

export { BulkheadError, type ErrorCode };

/** There is no sandbox, volume, file or other thing of this name. */
export class NotFoundError extends BulkheadError {}
/** Something has this name already. */
export class AlreadyExistsError extends BulkheadError {}
/** A value that was given cannot be; `causes` names each field. */
export class InvalidConfigError extends BulkheadError {}
/** This release does not act on what was asked for. */
export class NotSupportedError extends BulkheadError {}
/** No daemon answers, or not the API server of the cluster. */
export class DaemonUnavailableError extends BulkheadError {}
/** It took longer than it may. */
export class TimeoutError extends BulkheadError {}
/** The command was killed when its time was up. */
export class ExecTimeoutError extends TimeoutError {}
/** The sandbox has no VM, or its guest does not answer. */
export class SandboxNotRunningError extends BulkheadError {}
/** The sandbox would have to be stopped first. */
export class SandboxStillRunningError extends BulkheadError {}
/** The image cannot be had or is no image. */
export class ImageError extends BulkheadError {}
/** The file system of the sandbox refused it. */
export class FileError extends BulkheadError {}
/** The image has no such command, or one that cannot be executed. */
export class CommandError extends BulkheadError {}
/** The command is not there to go on with: what became of it is unknown. */
export class CommandLostError extends CommandError {}
/** Too many at once; later it works. */
export class TooManyRequestsError extends BulkheadError {}
/** The disk of a volume is in use, damaged or not ready. */
export class VolumeError extends BulkheadError {}

type ErrorClass = new (...args: ConstructorParameters<typeof BulkheadError>) => BulkheadError;

/** By code; a code that is not named here stays a plain BulkheadError. */
const CLASSES: Partial<Record<ErrorCode, ErrorClass>> = {
  NOT_FOUND: NotFoundError,
  ALREADY_EXISTS: AlreadyExistsError,
  INVALID: InvalidConfigError,
  BAD_REQUEST: InvalidConfigError,
  NOT_SUPPORTED: NotSupportedError,
  NOT_IN_CLUSTER: NotSupportedError,
  DAEMON_UNAVAILABLE: DaemonUnavailableError,
  API_SERVER_UNAVAILABLE: DaemonUnavailableError,
  TIMEOUT: TimeoutError,
  SANDBOX_NOT_RUNNING: SandboxNotRunningError,
  AGENT_UNREACHABLE: SandboxNotRunningError,
  IMAGE_REFERENCE_INVALID: ImageError,
  IMAGE_NOT_FOUND: ImageError,
  IMAGE_NOT_PRESENT: ImageError,
  IMAGE_INVALID: ImageError,
  REGISTRY_UNAUTHORIZED: ImageError,
  REGISTRY_UNAVAILABLE: ImageError,
  FILE_FAILED: FileError,
  COMMAND_NOT_FOUND: CommandError,
  COMMAND_NOT_EXECUTABLE: CommandError,
  COMMAND_LOST: CommandLostError,
  TOO_MANY_REQUESTS: TooManyRequestsError,
  VOLUME_IN_USE: VolumeError,
  VOLUME_NOT_READY: VolumeError,
  VOLUME_READ_ONLY: VolumeError,
  VOLUME_SHRINK: VolumeError,
  VOLUME_DAMAGED: VolumeError,
  VOLUME_UNAVAILABLE: VolumeError,
};

/** A failure as the class that fits its code; what is no failure of ours (an abort, say) as it is. */
export function typed(error: unknown): unknown {
  if (!(error instanceof BulkheadError) || error.constructor !== BulkheadError) return error;
  const Class = CLASSES[error.code];
  if (Class === undefined) return error;
  const { code, message, causes } = error;
  const better = new Class(code, message, { cause: error.cause ?? error, causes });
  better.name = Class.name;
  return better;
}

/** Runs `work`; its failures come out typed. */
export async function withTypedErrors<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw typed(error);
  }
}

/** A failure of this code, as its class. */
export function failure(code: ErrorCode, message: string): BulkheadError {
  return asBulkheadError(typed(new BulkheadError(code, message)));
}
