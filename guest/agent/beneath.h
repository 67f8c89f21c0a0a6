// Paths inside the container, resolved so that no link in them leads out of it.
#ifndef BULKHEAD_BENEATH_H
#define BULKHEAD_BENEATH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

// openat2 with RESOLVE_IN_ROOT; absolute and climbing links stay beneath `root`. Returns -1 with errno.
int beneath_open(int root, const char *path, uint64_t flags, mode_t mode);

// Opens (O_PATH) a directory whose every part is a real directory, making the ones that are missing.
int beneath_directory(int root, const char *path, mode_t mode);

// Opens (O_PATH) what the path names beneath `root`, through links like beneath_open; what is missing of it
// is made as directories, the last part as an empty file unless `directory`. A part ".." and a link to
// nowhere are refused.
int beneath_make(int root, const char *path, bool directory, mode_t mode);

#endif
