// The guest's clock that its programs see, which stands still whenever its machine does.
#ifndef BULKHEAD_WALLTIME_H
#define BULKHEAD_WALLTIME_H

#include <stdint.h>

#include "err.h"

// Milliseconds since 1970.
int64_t walltime_now(void);
int walltime_set(int64_t time_ms, struct err *err);

#endif
