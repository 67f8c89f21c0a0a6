// The agent's clock, apart from the loop so that tests can put their own in its place.
#ifndef BULKHEAD_CLOCK_H
#define BULKHEAD_CLOCK_H

#include <stdint.h>

// Milliseconds of CLOCK_MONOTONIC.
int64_t clock_now(void);

#endif
