#include "beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
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

// Opens one missing part, just made, in the directory that the former parts name.
static int make_part(int at, const char *name, bool directory, mode_t mode) {
    if (directory) {
        if (mkdirat(at, name, mode) < 0)
            return -1;
    } else {
        int made = openat(at, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, mode);
        if (made < 0)
            return -1;
        (void)close(made);
    }
    return openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

int beneath_make(int root, const char *path, bool directory, mode_t mode) {
    char prefix[PATH_MAX];
    size_t used = 0;
    int at = fcntl(root, F_DUPFD_CLOEXEC, 3);
    while (at >= 0) {
        path += strspn(path, "/");
        size_t length = strcspn(path, "/");
        if (length == 0)
            break;
        char name[NAME_MAX + 1];
        int next = -1;
        if (length > NAME_MAX || used + length + 2 > sizeof prefix) {
            errno = ENAMETOOLONG;
        } else {
            memcpy(name, path, length);
            name[length] = '\0';
            used += (size_t)snprintf(prefix + used, sizeof prefix - used, "/%s", name);
            path += length;
            bool last = path[strspn(path, "/")] == '\0';
            if (strcmp(name, "..") == 0)
                errno = EINVAL;
            else
                next = beneath_open(root, prefix, O_PATH, 0);
            if (next < 0 && errno == ENOENT) {
                next = make_part(at, name, directory || !last, last && !directory ? mode & 0666 : mode);
                if (next < 0 && errno == EEXIST)
                    errno = ELOOP; // a link to nowhere
            }
        }
        int saved = errno;
        (void)close(at);
        errno = saved;
        at = next;
    }
    return at;
}
