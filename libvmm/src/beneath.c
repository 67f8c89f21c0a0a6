// Descriptors of what a path names, where the path is not to be trusted.
#include "libvmm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "error.h"

// The kernel gives up when something is renamed meanwhile; whoever renames all the time can delay, not win.
enum { ATTEMPTS = 64 };

static int open_resolved(int at, const char *path, struct open_how how, int32_t *out, char *error,
                         size_t error_size) {
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        int fd = (int)syscall(SYS_openat2, at, path, &how, sizeof how);
        if (fd >= 0) {
            *out = fd;
            return 0;
        }
        if (errno != EAGAIN && errno != EINTR)
            break;
    }
    return bh_fail(error, error_size, errno, "%s", path);
}

int bh_open_beneath(int32_t root, const char *path, int32_t *fd, char *error, size_t error_size) {
    if (!path || !fd)
        return bh_fail(error, error_size, EINVAL, "path");
    return open_resolved(
        root, path,
        (struct open_how){.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS},
        fd, error, error_size);
}

int bh_open_directory(const char *path, int32_t *fd, char *error, size_t error_size) {
    if (!path || !fd)
        return bh_fail(error, error_size, EINVAL, "directory");
    return open_resolved(AT_FDCWD, path,
                         (struct open_how){.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                                           .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS},
                         fd, error, error_size);
}
