#include "walltime.h"

#include <time.h>

int64_t walltime_now(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) < 0)
        return 0;
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int walltime_set(int64_t time_ms, struct err *err) {
    if (time_ms <= 0)
        return err_set(err, FAIL_INVALID, "the time must be after 1970");
    struct timespec now = {.tv_sec = time_ms / 1000, .tv_nsec = time_ms % 1000 * 1000000};
    if (clock_settime(CLOCK_REALTIME, &now) < 0)
        return err_errno(err, "cannot set the clock");
    return 0;
}
