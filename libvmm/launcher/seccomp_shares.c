// What serving directories of the host takes, for the file server and for libkrun where a VM has some. Owners
// cannot be changed: everything belongs to the one user.
#include "seccomp.h"

// clang-format off
static const int allowed[] = {
    SCMP_SYS(getdents64), SCMP_SYS(unlinkat), SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(linkat),
    SCMP_SYS(symlinkat), SCMP_SYS(utimensat), SCMP_SYS(ftruncate), SCMP_SYS(copy_file_range), SCMP_SYS(umask),
    SCMP_SYS(syncfs), SCMP_SYS(fchdir),
};

static const struct conditional_call conditional[] = {
    {SCMP_SYS(fchmod), 1, {WITHOUT_SET_ID(1)}},
    {SCMP_SYS(fchmodat), 1, {WITHOUT_SET_ID(2)}},
    {SCMP_SYS(mkdirat), 1, {WITHOUT_SET_ID(2)}},
    {SCMP_SYS(mknodat), 1, {WITHOUT_SET_ID(2)}},
};

// There are no extended attributes.
static const struct refused_call refused[] = {
    {SCMP_SYS(getxattr), EOPNOTSUPP}, {SCMP_SYS(lgetxattr), EOPNOTSUPP}, {SCMP_SYS(fgetxattr), EOPNOTSUPP},
    {SCMP_SYS(setxattr), EOPNOTSUPP}, {SCMP_SYS(lsetxattr), EOPNOTSUPP}, {SCMP_SYS(fsetxattr), EOPNOTSUPP},
    {SCMP_SYS(listxattr), EOPNOTSUPP}, {SCMP_SYS(llistxattr), EOPNOTSUPP}, {SCMP_SYS(flistxattr), EOPNOTSUPP},
    {SCMP_SYS(removexattr), EOPNOTSUPP}, {SCMP_SYS(lremovexattr), EOPNOTSUPP}, {SCMP_SYS(fremovexattr), EOPNOTSUPP},
};
// clang-format on

const struct allow_list allow_shares = {
    .calls = allowed,
    .call_count = sizeof allowed / sizeof *allowed,
    .conditional = conditional,
    .conditional_count = sizeof conditional / sizeof *conditional,
    .refused = refused,
    .refused_count = sizeof refused / sizeof *refused,
};
