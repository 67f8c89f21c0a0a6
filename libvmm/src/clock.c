// Rate of the time stamp counter.
#include "libvmm.h"

#include <errno.h>
#include <time.h>

#include "error.h"

#ifdef __x86_64__
#include <x86intrin.h>

// 200 ms keeps the error of the two clock reads (below 1 us each on a busy machine) under 10 ppm.
static const long measure_ns = 200 * 1000 * 1000;

struct sample {
    uint64_t tsc;
    uint64_t ns;
};

// The closest of a few pairs: a pair torn apart by the scheduler would bend the result.
static int sample(struct sample *best) {
    uint64_t narrowest = UINT64_MAX;
    for (int i = 0; i < 16; i++) {
        struct timespec now;
        uint64_t before = __rdtsc();
        if (clock_gettime(CLOCK_MONOTONIC_RAW, &now) != 0)
            return -errno;
        uint64_t after = __rdtsc();
        if (after - before < narrowest) {
            narrowest = after - before;
            best->tsc = before + (after - before) / 2;
            best->ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        }
    }
    return 0;
}

int bh_tsc_khz(uint32_t *khz, char *error, size_t error_size) {
    if (!khz)
        return bh_fail(error, error_size, EINVAL, "tsc");
    struct sample first, second;
    int result = sample(&first);
    struct timespec pause = {.tv_nsec = measure_ns};
    while (result == 0 && nanosleep(&pause, &pause) != 0)
        if (errno != EINTR)
            result = -errno;
    if (result == 0)
        result = sample(&second);
    if (result != 0)
        return bh_fail(error, error_size, -result, "tsc");
    if (second.ns <= first.ns || second.tsc <= first.tsc)
        return bh_fail(error, error_size, EIO, "the time stamp counter does not advance");
    unsigned __int128 scaled = (unsigned __int128)(second.tsc - first.tsc) * 1000000u;
    *khz = (uint32_t)(scaled / (second.ns - first.ns));
    return 0;
}
#else
// Only the software driver asks, for its x86 machine under TCG.
int bh_tsc_khz(uint32_t *khz, char *error, size_t error_size) {
    (void)khz;
    return bh_fail(error, error_size, ENOTSUP, "tsc");
}
#endif
