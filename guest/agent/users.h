// Users and groups of the image, from the text of its /etc/passwd and /etc/group. Pure functions over hostile
// bytes.
#ifndef BULKHEAD_USERS_H
#define BULKHEAD_USERS_H

#include <stddef.h>
#include <sys/types.h>

#include "err.h"

// Larger files are read only so far; no image comes near.
#define USERS_FILE_MAX (1024 * 1024)
// NGROUPS_MAX is 65536; a user in more groups than this keeps the first ones.
#define USERS_GROUPS_MAX 256

struct user {
    uid_t uid;
    gid_t gid;
    gid_t groups[USERS_GROUPS_MAX];
    size_t group_count;
    char home[512];
    char name[64]; // empty for a number without a line in passwd
};

// `spec` is name, uid, name:group or uid:gid; empty is root. A number needs no line in the files, a name
// does. With a group named, that one is the only one; else the user's own and all that list it, as container
// engines do.
int users_resolve(const char *spec, const char *passwd, size_t passwd_size, const char *group,
                  size_t group_size, struct user *user, struct err *err);

#endif
