#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
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

int jail_landlock(struct limitations *limitations, char *error, size_t error_size) {
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
    CLEANUP_FD root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP_FD null = open("/dev/null", O_PATH | O_CLOEXEC);
    if (root < 0 || null < 0)
        return bh_fail(error, error_size, errno, "Landlock");
    struct landlock_path_beneath_attr read_below_root = {.allowed_access = LANDLOCK_ACCESS_FS_EXECUTE |
                                                                           LANDLOCK_ACCESS_FS_READ_FILE |
                                                                           LANDLOCK_ACCESS_FS_READ_DIR,
                                                         .parent_fd = root};
    struct landlock_path_beneath_attr write_null = {
        .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE, .parent_fd = null};
    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &read_below_root, 0) != 0 ||
        syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &write_null, 0) != 0 ||
        syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
        return bh_fail(error, error_size, errno, "Landlock");
    return 0;
}
