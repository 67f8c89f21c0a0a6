#include "paths.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "beneath.h"

int paths_failure(const char *path, struct err *err) {
    switch (errno) {
    case ENOENT:
    case ENOTDIR:
        return err_set(err, FAIL_NOT_FOUND, "%.300s: %s", path, strerrordesc_np(errno));
    case EEXIST:
        return err_set(err, FAIL_EXISTS, "%.300s: %s", path, strerrordesc_np(errno));
    // What another request may do and this one cannot.
    case ENOTEMPTY:
    case EISDIR:
    case EINVAL:
    case ELOOP:
    case ENAMETOOLONG:
    case EXDEV:
    case EBUSY:
        return err_set(err, FAIL_INVALID, "%.300s: %s", path, strerrordesc_np(errno));
    default:
        return err_errno(err, "%.300s", path);
    }
}

int paths_open(const char *path, uint64_t flags, struct err *err) {
    if (!path || *path == '\0')
        return err_set(err, FAIL_INVALID, "the path is missing");
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_errno(err, "cannot open the container's root");
    int fd = beneath_open(root, path, flags, 0);
    int result = fd < 0 ? paths_failure(path, err) : fd;
    (void)close(root);
    return result;
}

int paths_open_parent(const char *path, const char **name, struct err *err) {
    static char copy[PATH_MAX];
    if (!path || strlen(path) >= PATH_MAX)
        return err_set(err, FAIL_INVALID, "the path is missing or too long");
    (void)strcpy(copy, path);
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    if (**name == '\0' || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0)
        return err_set(err, FAIL_INVALID, "%.300s does not name a file", path);
    return paths_open(dirname(copy), O_PATH | O_DIRECTORY, err);
}
