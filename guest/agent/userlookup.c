#include "userlookup.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "beneath.h"

// A missing or odd file counts as empty: images without one are common.
static size_t load(int root, const char *path, char *text) {
    size_t size = 0;
    struct stat info;
    int fd = beneath_open(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0)
        return 0;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
        ssize_t got;
        while (size < USERS_FILE_MAX && (got = read(fd, text + size, USERS_FILE_MAX - size)) > 0)
            size += (size_t)got;
    }
    (void)close(fd);
    return size;
}

int userlookup(const char *spec, struct user *user, struct err *err) {
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_errno(err, "cannot open the container's root");
    int result = -1;
    char *passwd = malloc(USERS_FILE_MAX), *group = malloc(USERS_FILE_MAX);
    if (!passwd || !group) {
        (void)err_set(err, FAIL_EXHAUSTED, "no memory for /etc/passwd");
    } else {
        size_t passwd_size = load(root, "etc/passwd", passwd);
        size_t group_size = load(root, "etc/group", group);
        result = users_resolve(spec, passwd, passwd_size, group, group_size, user, err);
    }
    free(passwd);
    free(group);
    (void)close(root);
    return result;
}
