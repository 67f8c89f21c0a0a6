// The graceful end: signal, grace, kill, flush, unmount, answer, reboot.
#ifndef BULKHEAD_POWER_H
#define BULKHEAD_POWER_H

#include <stdint.h>

#include "agent.pb.h"

void power_shutdown(uint64_t request_id, const bulkhead_agent_v1_Shutdown *request);

// Ends the VM at once. Both VMMs end on a reset; a power-off leaves them waiting for ever.
_Noreturn void power_reboot(void);

// Takes the next step when it is due, and returns when to come again (monotonic milliseconds, -1 for never).
int64_t power_tick(int64_t now);

#endif
