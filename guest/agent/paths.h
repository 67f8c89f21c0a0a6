// Paths of the container as requests name them: resolved beneath its root, with failures that say which path.
#ifndef BULKHEAD_PATHS_H
#define BULKHEAD_PATHS_H

#include <stdint.h>

#include "err.h"

// Fills err from errno, with the code that fits, and returns -1.
int paths_failure(const char *path, struct err *err);

// Opens a path beneath the root whatever links it goes through; NULL is refused.
int paths_open(const char *path, uint64_t flags, struct err *err);

// Opens (O_PATH) the directory that has or will have what `path` names, and points `name` at its last part
// within the path.
int paths_open_parent(const char *path, const char **name, struct err *err);

#endif
