// users_resolve on the files of the container. For child processes: the files are the image's, and may be
// anything.
#ifndef BULKHEAD_USERLOOKUP_H
#define BULKHEAD_USERLOOKUP_H

#include "users.h"

// Call inside the container's mount namespace.
int userlookup(const char *spec, struct user *user, struct err *err);

#endif
