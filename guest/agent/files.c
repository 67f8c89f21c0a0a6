#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "beneath.h"
#include "unfinished.h"
#include "userlookup.h"

#define COPY_SIZE (64 * 1024)

static int open_failure(const char *path, struct err *err) {
    if (errno == ENOENT || errno == ENOTDIR)
        return err_set(err, FAIL_NOT_FOUND, "%.300s: %s", path, strerrordesc_np(errno));
    return err_errno(err, "%.300s", path);
}

static _Noreturn void fail_later(const char *what) {
    (void)dprintf(STDERR_FILENO, "%s: %s\n", what, strerrordesc_np(errno));
    _exit(1);
}

static int copy_all(int from, int to) {
    static char buffer[COPY_SIZE];
    ssize_t got;
    while ((got = read(from, buffer, sizeof buffer)) > 0) {
        for (ssize_t done = 0; done < got;) {
            ssize_t put = write(to, buffer + done, (size_t)(got - done));
            if (put < 0)
                return -1;
            done += put;
        }
    }
    return got < 0 ? -1 : 0;
}

int files_read(const char *path, int status, struct err *err) {
    struct stat info;
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_errno(err, "cannot open the container's root");
    // Non-blocking: opening a pipe that nobody writes to must not wait.
    int fd = beneath_open(root, path ? path : "", O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    (void)close(root);
    if (fd < 0)
        return open_failure(path ? path : "", err);
    if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode)) {
        (void)close(fd);
        return err_set(err, FAIL_INVALID, "%.300s is no regular file", path);
    }
    (void)close(status);
    if (copy_all(fd, STDOUT_FILENO) < 0)
        fail_later("cannot read");
    _exit(0);
}

// Opens the directory that will hold the file, and points `name` at the last part of the path.
static int open_parent(const char *path, char *copy, const char **name, struct err *err) {
    if (!path || strlen(path) >= PATH_MAX)
        return err_set(err, FAIL_INVALID, "the path is missing or too long");
    (void)strcpy(copy, path);
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    if (**name == '\0' || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0)
        return err_set(err, FAIL_INVALID, "%.300s does not name a file", path);
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_errno(err, "cannot open the container's root");
    int parent = beneath_open(root, dirname(copy), O_PATH | O_DIRECTORY, 0);
    (void)close(root);
    return parent < 0 ? open_failure(path, err) : parent;
}

// The unfinished file, for the handler of the signal that ends a transfer.
static int unfinished_parent = -1;
static char unfinished[UNFINISHED_NAME];

static void give_up(int number) {
    (void)number;
    (void)unlinkat(unfinished_parent, unfinished, 0);
    _exit(1);
}

static _Noreturn void fail_unfinished(const char *what) {
    int saved = errno;
    (void)unlinkat(unfinished_parent, unfinished, 0);
    errno = saved;
    fail_later(what);
}

int files_write(const bulkhead_agent_v1_WriteFile *request, int status, struct err *err) {
    static char copy[PATH_MAX];
    static struct user user;
    const char *name = NULL;
    if (userlookup(request->user, &user, err) < 0)
        return -1;
    unfinished_parent = open_parent(request->path, copy, &name, err);
    if (unfinished_parent < 0)
        return -1;
    // Overlayfs of this kernel has no nameless files.
    unfinished_name(unfinished, getpid());
    (void)unlinkat(unfinished_parent, unfinished, 0);
    int fd =
        openat(unfinished_parent, unfinished, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0 || fchown(fd, user.uid, user.gid) < 0 || fchmod(fd, request->mode & 07777) < 0 ||
        signal(SIGTERM, give_up) == SIG_ERR) {
        (void)err_errno(err, "cannot make a file beside %.300s", request->path);
        if (fd >= 0)
            (void)unlinkat(unfinished_parent, unfinished, 0);
        return -1;
    }
    (void)close(status);
    if (copy_all(STDIN_FILENO, fd) < 0)
        fail_unfinished("cannot write");
    if (fsync(fd) < 0)
        fail_unfinished("cannot flush");
    if (renameat(unfinished_parent, unfinished, unfinished_parent, name) < 0)
        fail_unfinished("cannot put the file in place");
    _exit(0);
}

void files_remove_unfinished(const char *path, pid_t worker) {
    static char copy[PATH_MAX];
    const char *name = NULL;
    struct err err;
    int parent = open_parent(path, copy, &name, &err);
    if (parent < 0)
        return; // the directory is gone, and the file with it
    unfinished_name(unfinished, worker);
    (void)unlinkat(parent, unfinished, 0);
    (void)close(parent);
}
