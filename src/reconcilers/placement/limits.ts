// What the placement of sandboxes on nodes goes by.

/** On a Sandbox: its node still holds something of it. The node's agent sets it before its first effect. */
export const VM_FINALIZER = 'bulkhead.dev/vm';
/** On a reservation: its sandbox's VM still runs. So whoever drains the node waits for the VM's end. */
export const RESERVATION_FINALIZER = 'bulkhead.dev/vm';
/** On a reservation: uid of its sandbox. */
export const SANDBOX_UID_LABEL = 'bulkhead.dev/sandbox-uid';

/** Beside the guest's memory: VMM, page tables and buffers of one VM, in MiB. Measured below 20 MiB at rest; the rest is room. */
export const VM_OVERHEAD_MIB = 64;
/** Beside the sandbox's own grace a reservation gets so long to end: what stands between the two are requests. */
export const RESERVATION_GRACE_SECONDS = 15;
/** A reservation that failed on its node is replaced after so long, so that one that always fails is no hot loop. */
export const REPLACE_AFTER_MS = 5_000;
/** Name of a sandbox in that of its reservation; the rest of 63 characters are a dash and part of its uid. */
export const RESERVATION_NAME_MAX = 50;
/**
 * What waits for the scheduler for longer says so; most are placed sooner, and say that at once. Until then the API server's own
 * default stands in the status: never looked at.
 */
export const REPORT_WAIT_AFTER_MS = 1_000;
