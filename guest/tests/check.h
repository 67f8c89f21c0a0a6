// What the agent's test programs share: checks that are counted, and the line at the end.
#ifndef BULKHEAD_CHECK_H
#define BULKHEAD_CHECK_H

#include <stdio.h>

static int failures;

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            (void)fprintf(stderr, "%s:%d: %s\n", __func__, __LINE__, #condition);                            \
            failures++;                                                                                      \
        }                                                                                                    \
    } while (0)

// The exit code of the program.
static inline int check_result(const char *name) {
    (void)printf("%s: %s\n", name, failures ? "FAILED" : "ok");
    return failures != 0;
}

#endif
