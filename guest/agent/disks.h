// Takes the block driver off the disks before a template is saved, and puts it back in a restored guest.
#ifndef BULKHEAD_DISKS_H
#define BULKHEAD_DISKS_H

#include <stddef.h>

#include "err.h"

int disks_bind(char devices[][32], size_t count, struct err *err);
int disks_unbind(char devices[][32], size_t count, struct err *err);

#endif
