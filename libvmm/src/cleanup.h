// Scope-bound clean-up, so that every function has one way out.
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void bh_close_fd(int *fd) {
    if (*fd >= 0)
        (void)close(
            *fd); // nothing can be done about a failing close of a descriptor that is not needed any more
    *fd = -1;
}

static inline void bh_close_file(FILE **file) {
    if (*file)
        (void)fclose(*file);
    *file = NULL;
}

static inline void bh_free(void *pointer) {
    free(*(void **)pointer);
    *(void **)pointer = NULL;
}

#define CLEANUP_FD __attribute__((cleanup(bh_close_fd))) int
#define CLEANUP_FILE __attribute__((cleanup(bh_close_file))) FILE *
#define CLEANUP_FREE __attribute__((cleanup(bh_free)))

// Hands a descriptor out of its scope.
static inline int bh_take_fd(int *fd) {
    int taken = *fd;
    *fd = -1;
    return taken;
}
