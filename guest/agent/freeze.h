// Holds the root's upper disk still while the host copies it. Whatever becomes of the host, the guest thaws
// by itself.
#ifndef BULKHEAD_FREEZE_H
#define BULKHEAD_FREEZE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"

// Answered when all that was written is on the disk and nothing more is written. Returns -1 when it cannot
// begin.
int freeze_start(uint64_t request_id, uint32_t deadline_ms, struct err *err);

// Answered when it is thawed; with a failure when it was not frozen up to now, so that a copy may be torn.
int freeze_end(uint64_t request_id, struct err *err);

// Nobody is to wait for the disk any more.
void freeze_give_up(void);

// A child has ended. True when it was the one that freezes.
bool freeze_reaped(pid_t pid, int status);

#endif
