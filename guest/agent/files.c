#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "paths.h"
#include "unfinished.h"
#include "userlookup.h"

#define COPY_SIZE (64 * 1024)

static _Noreturn void fail_later(const char *what) {
    (void)dprintf(STDERR_FILENO, "%s: %s\n", what, strerrordesc_np(errno));
    _exit(1);
}

// At most `limit` bytes.
static int copy_bytes(int from, int to, uint64_t limit) {
    static char buffer[COPY_SIZE];
    ssize_t got = 0;
    while (limit > 0 &&
           (got = read(from, buffer, limit < sizeof buffer ? (size_t)limit : sizeof buffer)) > 0) {
        for (ssize_t done = 0; done < got;) {
            ssize_t put = write(to, buffer + done, (size_t)(got - done));
            if (put < 0)
                return -1;
            done += put;
        }
        limit -= (uint64_t)got;
    }
    return got < 0 ? -1 : 0;
}

int files_open_regular(const char *path, struct stat *info, struct err *err) {
    // Non-blocking: opening a pipe that nobody writes to must not wait.
    int fd = paths_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, err);
    if (fd < 0)
        return -1;
    if (fstat(fd, info) < 0 || !S_ISREG(info->st_mode)) {
        (void)close(fd);
        return err_set(err, FAIL_INVALID, "%.300s is no regular file", path);
    }
    return fd;
}

int files_read(const bulkhead_agent_v1_ReadFile *request, int status, struct err *err) {
    struct stat info;
    int fd = files_open_regular(request->path, &info, err);
    if (fd < 0)
        return -1;
    // Beyond the end is no failure: there is nothing to read.
    if (request->offset > INT64_MAX || lseek(fd, (off_t)request->offset, SEEK_SET) < 0) {
        (void)close(fd);
        return err_set(err, FAIL_INVALID, "%.300s has no byte %llu", request->path,
                       (unsigned long long)request->offset);
    }
    (void)close(status);
    if (copy_bytes(fd, STDOUT_FILENO, request->length ? request->length : UINT64_MAX) < 0)
        fail_later("cannot read");
    _exit(0);
}

// ---- files in the making, put in place by a rename

// For the handler of the signal that ends a transfer.
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

// Makes the file that will be `path`, and points `name` at its last part.
static int begin(const char *path, uid_t uid, gid_t gid, mode_t mode, const char **name, struct err *err) {
    unfinished_parent = paths_open_parent(path, name, err);
    if (unfinished_parent < 0)
        return -1;
    // Overlayfs of this kernel has no nameless files.
    unfinished_name(unfinished, getpid());
    (void)unlinkat(unfinished_parent, unfinished, 0);
    int fd =
        openat(unfinished_parent, unfinished, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0 || fchown(fd, uid, gid) < 0 || fchmod(fd, mode & 07777) < 0 ||
        signal(SIGTERM, give_up) == SIG_ERR) {
        (void)err_errno(err, "cannot make a file beside %.300s", path);
        if (fd >= 0)
            (void)unlinkat(unfinished_parent, unfinished, 0);
        return -1;
    }
    return fd;
}

static _Noreturn void fill(int from, int to, const char *name) {
    if (copy_bytes(from, to, UINT64_MAX) < 0)
        fail_unfinished("cannot write");
    if (fsync(to) < 0)
        fail_unfinished("cannot flush");
    if (renameat(unfinished_parent, unfinished, unfinished_parent, name) < 0)
        fail_unfinished("cannot put the file in place");
    _exit(0);
}

int files_write(const bulkhead_agent_v1_WriteFile *request, int status, struct err *err) {
    static struct user user;
    const char *name = NULL;
    if (userlookup(request->user, &user, err) < 0)
        return -1;
    int fd = begin(request->path, user.uid, user.gid, request->mode, &name, err);
    if (fd < 0)
        return -1;
    (void)close(status);
    fill(STDIN_FILENO, fd, name);
}

int files_copy(const char *from, const char *to, int status, struct err *err) {
    struct stat info;
    const char *name = NULL;
    int source = files_open_regular(from, &info, err);
    if (source < 0)
        return -1;
    int fd = begin(to, info.st_uid, info.st_gid, info.st_mode, &name, err);
    if (fd < 0) {
        (void)close(source);
        return -1;
    }
    (void)close(status);
    fill(source, fd, name);
}

// Returns -1 with errno.
static int write_all(int fd, const char *content, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t put = write(fd, content + done, size - done);
        if (put < 0)
            return -1;
        done += (size_t)put;
    }
    return 0;
}

int files_put(const char *path, const struct file_owner *owner, mode_t mode, const char *content, size_t size,
              struct err *err) {
    const char *name = NULL;
    int fd = begin(path, owner->uid, owner->gid, mode, &name, err);
    if (fd >= 0 && (write_all(fd, content, size) < 0 ||
                    renameat(unfinished_parent, unfinished, unfinished_parent, name) < 0)) {
        (void)paths_failure(path, err);
        (void)unlinkat(unfinished_parent, unfinished, 0);
        (void)close(fd);
        fd = -1;
    }
    if (unfinished_parent >= 0)
        (void)close(unfinished_parent);
    unfinished_parent = -1;
    return fd;
}

void files_remove_unfinished(const char *path, pid_t worker) {
    const char *name = NULL;
    struct err err;
    int parent = paths_open_parent(path, &name, &err);
    if (parent < 0)
        return; // the directory is gone, and the file with it
    unfinished_name(unfinished, worker);
    (void)unlinkat(parent, unfinished, 0);
    (void)close(parent);
}
