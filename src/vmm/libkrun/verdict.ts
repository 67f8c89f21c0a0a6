// What a trial VM says about this host, in words that tell what to do. Pure.
import type { VmExit } from '../driver.ts';
import { lastWords } from '../last-words.ts';

/** Why libkrun cannot be used here. */
export type KvmFault =
  | 'no-device'
  | 'no-library'
  | 'old-library'
  | 'no-permission'
  | 'vmm-failed'
  | 'guest-died'
  | 'no-hello'
  | 'host';

export interface Verdict {
  /** Absent where libkrun can be used. */
  fault?: KvmFault;
  /** What is the case, and what to do where it is not usable. */
  message: string;
  /** The guest kernel that answered. */
  version?: string;
}

/** How a trial VM went. */
export type TrialOutcome =
  | { kind: 'hello'; kernelRelease: string; milliseconds: number }
  /** It ended by itself before it said hello; `vmmLog` is the end of what the VMM wrote. */
  | { kind: 'ended'; exit: VmExit; vmmLog: string }
  /** It still ran, and was ended. */
  | { kind: 'silent'; milliseconds: number; vmmLog: string; consoleTail: string }
  /** It could not be started. */
  | { kind: 'failed'; message: string };

export const NO_DEVICE: Verdict = {
  fault: 'no-device',
  message:
    'This host has no /dev/kvm. Switch on virtualisation in the firmware and load the module kvm_intel or kvm_amd; in a ' +
    'virtual machine, have nested virtualisation switched on for it; in a container, hand it in with --device /dev/kvm.',
};

export function noLibrary(path: string): Verdict {
  return {
    fault: 'no-library',
    message: `libkrun is missing: there is no ${path}, and the system has none. Run \`make build\`, or install libkrun 1.19 or later.`,
  };
}

const NESTED_REMEDY =
  'KVM answers, but does not run guests properly: typical of a virtual machine without full support for nested ' +
  'virtualisation. Use bare metal, or a machine type that supports it; sandboxes run with the software driver meanwhile.';

export function judgeTrial(outcome: TrialOutcome): Verdict {
  switch (outcome.kind) {
    case 'hello':
      return {
        message: `libkrun on KVM: a trial VM answered after ${Math.round(outcome.milliseconds)} ms.`,
        version: outcome.kernelRelease,
      };
    case 'failed':
      return { fault: 'host', message: `A trial VM could not be started: ${outcome.message}` };
    case 'silent': {
      const words = lastWords(outcome.vmmLog) || lastWords(outcome.consoleTail);
      return {
        fault: 'no-hello',
        message: `A trial VM did not answer within ${Math.round(outcome.milliseconds / 1000)} s${words && ` (${words})`}. ${NESTED_REMEDY}`,
      };
    }
    case 'ended':
      return judgeEnd(outcome.exit, outcome.vmmLog);
  }
}

function judgeEnd(exit: VmExit, vmmLog: string): Verdict {
  const words = lastWords(vmmLog);
  if (/libkrun 1\.19 or later|was built without/.test(vmmLog))
    return {
      fault: 'old-library',
      message: `The installed libkrun does not fit: ${words}. Run \`make build\`, or install libkrun 1.19 or later.`,
    };
  if (/permission denied|operation not permitted|EACCES|EPERM|os error (1|13)\b/i.test(vmmLog))
    return {
      fault: 'no-permission',
      message: `/dev/kvm may not be used: ${words}. In a container, allow the device (--device /dev/kvm); else look at the device rules of the daemon's cgroup and at security modules.`,
    };
  if (exit.exitCode !== undefined && exit.exitCode !== 0)
    return {
      fault: 'vmm-failed',
      message: `libkrun made no VM of it: ${words || exit.message}. ${NESTED_REMEDY}`,
    };
  return {
    fault: 'guest-died',
    message: `A trial VM died before it answered: ${exit.message} ${NESTED_REMEDY}`,
  };
}
