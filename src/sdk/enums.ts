// The words of settings, by name: `PullPolicy.Always` is `'always'`, and either may be given.

type Values<T> = T[keyof T];

export const PullPolicy = { Always: 'always', IfMissing: 'if-missing', Never: 'never' } as const;
export type PullPolicy = Values<typeof PullPolicy>;

export const LogLevel = {
  ...{ Trace: 'trace', Debug: 'debug', Info: 'info', Warn: 'warn', Error: 'error' },
} as const;
export type LogLevel = Values<typeof LogLevel>;

/** `lost` is told only where output is missing. */
export const ExecEventType = {
  ...{ Started: 'started', Stdout: 'stdout', Stderr: 'stderr', Lost: 'lost', Exited: 'exited' },
} as const;
export type ExecEventType = Values<typeof ExecEventType>;

export const FsEntryKind = {
  ...{ File: 'file', Directory: 'directory', Symlink: 'symlink', Other: 'other' },
} as const;
export type FsEntryKind = Values<typeof FsEntryKind>;

export const PolicyAction = { Allow: 'allow', Deny: 'deny' } as const;
export type PolicyAction = Values<typeof PolicyAction>;

/** What comes in is published by `ports` alone: `inbound` is refused where it is given. */
export const PolicyDirection = { Outbound: 'outbound', Inbound: 'inbound' } as const;
export type PolicyDirection = Values<typeof PolicyDirection>;

export const PolicyProtocol = { Tcp: 'tcp', Udp: 'udp' } as const;
export type PolicyProtocol = Values<typeof PolicyProtocol>;

/** `starting` covers the pull of the image too. */
export const SandboxStatus = {
  ...{ Starting: 'starting', Running: 'running', Draining: 'draining' },
  ...{ Stopped: 'stopped', Crashed: 'crashed' },
} as const;
export type SandboxStatus = Values<typeof SandboxStatus>;

/** What becomes of a connection on which a placeholder goes elsewhere: it ends, and an event tells it, by either word. */
export const ViolationAction = { Block: 'block', BlockAndLog: 'block-and-log' } as const;
export type ViolationAction = Values<typeof ViolationAction>;
