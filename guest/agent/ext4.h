// ext4 disks that the host made larger.
#ifndef BULKHEAD_EXT4_H
#define BULKHEAD_EXT4_H

#include "err.h"

// Lets the file system of `device`, which is mounted on `mounted_on`, fill its disk. Does nothing where it
// does already.
int ext4_fill(const char *device, const char *mounted_on, struct err *err);

#endif
