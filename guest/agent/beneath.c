#include "beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/openat2.h>

int beneath_open(int root, const char *path, uint64_t flags, mode_t mode) {
    struct open_how how = {
        .flags = flags | O_CLOEXEC,
        .mode = flags & O_CREAT ? mode : 0,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

int beneath_directory(int root, const char *path, mode_t mode) {
    int at = fcntl(root, F_DUPFD_CLOEXEC, 3);
    while (at >= 0 && *path) {
        char name[NAME_MAX + 1];
        size_t length = strcspn(path, "/");
        if (length == 0) {
            path++;
            continue;
        }
        int next = -1;
        if (length > NAME_MAX) {
            errno = ENAMETOOLONG;
        } else {
            memcpy(name, path, length);
            name[length] = '\0';
            path += length;
            if (mkdirat(at, name, mode) == 0 || errno == EEXIST)
                next = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        }
        int saved = errno;
        (void)close(at);
        errno = saved;
        at = next;
    }
    return at;
}
