#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../src/cleanup.h"
#include "../src/error.h"
#include "jail.h"

// Added by later ABI versions than these headers may know.
#define ACCESS_REFER (1ULL << 13)    // ABI 2
#define ACCESS_TRUNCATE (1ULL << 14) // ABI 3
#define ACCESS_IOCTL (1ULL << 15)    // ABI 5

// Everything up to the last right of ABI 1.
#define ACCESS_V1 ((1ULL << 13) - 1)

// What may be done below a writable share: everything but devices and programs.
#define SHARE_FILE_ACCESS (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_TRUNCATE)
#define SHARE_DIRECTORY_ACCESS                                                                               \
    (SHARE_FILE_ACCESS | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR |                       \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |            \
     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM |             \
     ACCESS_REFER)

static int allow_below(int ruleset, const char *path, uint64_t access) {
    CLEANUP_FD fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};
    return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0 ? 0 : -errno;
}

int jail_landlock(const struct launch_config *config, struct limitations *limitations, char *error,
                  size_t error_size) {
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1) {
        limitation_add(limitations,
                       "This kernel has no Landlock; the jail's mount namespace alone confines file access.");
        return 0;
    }
    struct landlock_ruleset_attr rules = {.handled_access_fs = ACCESS_V1};
    if (abi >= 2)
        rules.handled_access_fs |= ACCESS_REFER;
    if (abi >= 3)
        rules.handled_access_fs |= ACCESS_TRUNCATE;
    if (abi >= 5)
        rules.handled_access_fs |= ACCESS_IOCTL;
    CLEANUP_FD ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof rules.handled_access_fs, 0);
    if (ruleset < 0)
        return bh_fail(error, error_size, errno, "Landlock");
    const uint64_t read = LANDLOCK_ACCESS_FS_READ_FILE, write = LANDLOCK_ACCESS_FS_WRITE_FILE;
    int result = allow_below(ruleset, "/", LANDLOCK_ACCESS_FS_EXECUTE | read | LANDLOCK_ACCESS_FS_READ_DIR);
    if (result == 0)
        result = allow_below(ruleset, "/dev/null", read | write);
    for (size_t i = 0; result == 0 && i < config->bind_count; i++) {
        const struct bind_mount *bind = &config->binds[i];
        if (bind->device)
            result =
                allow_below(ruleset, bind->target, read | write | (rules.handled_access_fs & ACCESS_IOCTL));
        else if (bind->writable)
            result = allow_below(ruleset, bind->target, read | write);
    }
    for (size_t i = 0; result == 0 && config->kind != VMM_SOFTWARE && i < config->share_count; i++) {
        char path[64];
        (void)snprintf(path, sizeof path, SHARES_DIRECTORY "/%zu", i);
        struct stat status;
        if (!config->shares[i].writable)
            continue;
        if (stat(path, &status) != 0)
            result = -errno;
        else
            result = allow_below(ruleset, path,
                                 rules.handled_access_fs &
                                     (S_ISDIR(status.st_mode) ? SHARE_DIRECTORY_ACCESS : SHARE_FILE_ACCESS));
    }
    if (result == 0 && config->kind == VMM_LIBKRUN)
        result = allow_below(ruleset, AGENT_DIRECTORY, LANDLOCK_ACCESS_FS_MAKE_SOCK);
    if (result == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
        result = -errno;
    return result == 0 ? 0 : bh_fail(error, error_size, -result, "Landlock");
}
