// The smallest test frame: a failed check names the broken promise and ends the program.
#pragma once
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition, promise)                                                                            \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            (void)fprintf(stderr, "%s:%d: broken promise: %s (%s)\n", __FILE__, __LINE__, promise,           \
                          #condition);                                                                       \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)
