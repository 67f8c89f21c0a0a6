#include "freeze.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "link.h"
#include "loop.h"
#include "mounts.h"

// A copy of a large disk takes so long at most; a guest that stands still for longer looks dead.
#define DEADLINE_MAX_MS 300000

// How the child ends: it was told to, or its time was over.
#define ENDED_AS_TOLD 0
#define ENDED_BY_TIME 3

// Freezing waits for the disk, so that a child does it. Closing `hold` tells it to thaw.
static pid_t child;
static int hold = -1;
static uint64_t starter, ender;
static struct source frozen = {.fd = -1};

static int open_disk(void) {
    return open(MOUNTS_UPPER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

// Does nothing to a disk that is not frozen.
static void thaw(void) {
    int disk = open_disk();
    if (disk < 0)
        return;
    (void)ioctl(disk, FITHAW, 0);
    (void)close(disk);
}

static _Noreturn void hold_still(int status, int until, int deadline_ms) {
    int disk = open_disk();
    int result = disk < 0 || ioctl(disk, FIFREEZE, 0) < 0 ? errno : 0;
    if (write(status, &result, sizeof result) != (ssize_t)sizeof result || result)
        deadline_ms = 0;
    struct pollfd told = {.fd = until, .events = POLLIN};
    int ready;
    do
        ready = poll(&told, 1, deadline_ms);
    while (ready < 0 && errno == EINTR);
    if (disk >= 0 && !result)
        (void)ioctl(disk, FITHAW, 0);
    _exit(ready > 0 ? ENDED_AS_TOLD : ENDED_BY_TIME);
}

static void status_ready(struct source *source, uint32_t events) {
    (void)events;
    int result = EIO;
    ssize_t got = read(source->fd, &result, sizeof result);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    loop_close(source);
    uint64_t id = starter;
    starter = 0;
    if (!id)
        return;
    struct err err = {.code = FAIL_INVALID};
    if (got == (ssize_t)sizeof result && !result) {
        link_done(id);
        return;
    }
    errno = got == (ssize_t)sizeof result ? result : EIO;
    (void)err_errno(&err, "cannot freeze the root's disk");
    link_fail(id, &err);
}

int freeze_start(uint64_t request_id, uint32_t deadline_ms, struct err *err) {
    if (child || !mounts_ready())
        return err_set(err, FAIL_INVALID, "the root's disk is frozen already, or not there");
    if (!deadline_ms || deadline_ms > DEADLINE_MAX_MS)
        return err_set(err, FAIL_INVALID, "the deadline is too long, or none");
    int status[2] = {-1, -1}, until[2] = {-1, -1};
    int result = -1;
    if (pipe2(status, O_CLOEXEC | O_NONBLOCK) < 0 || pipe2(until, O_CLOEXEC) < 0) {
        (void)err_errno(err, "cannot make pipes");
        goto out;
    }
    frozen = (struct source){.fd = status[0], .ready = status_ready};
    if (loop_watch(&frozen, EPOLLIN) < 0) {
        frozen.fd = -1;
        (void)err_errno(err, "cannot watch a pipe");
        goto out;
    }
    status[0] = -1;
    child = fork();
    if (child == 0) {
        (void)close(until[1]);
        hold_still(status[1], until[0], (int)deadline_ms);
    }
    if (child < 0) {
        child = 0;
        loop_close(&frozen);
        (void)err_errno(err, "cannot fork");
        goto out;
    }
    hold = until[1];
    until[1] = -1;
    starter = request_id;
    result = 0;
out:
    for (int i = 0; i < 2; i++) {
        if (status[i] >= 0)
            (void)close(status[i]);
        if (until[i] >= 0)
            (void)close(until[i]);
    }
    return result;
}

static void let_go(void) {
    if (hold >= 0)
        (void)close(hold);
    hold = -1;
}

int freeze_end(uint64_t request_id, struct err *err) {
    if (!child)
        return err_set(err, FAIL_INVALID, "the root's disk is not frozen any more");
    ender = request_id;
    let_go();
    return 0;
}

void freeze_give_up(void) {
    let_go();
    thaw();
}

bool freeze_reaped(pid_t pid, int status) {
    if (!child || pid != child)
        return false;
    child = 0;
    let_go();
    // Somebody may have killed it.
    if (WIFSIGNALED(status))
        thaw();
    uint64_t id = ender;
    ender = 0;
    if (!id)
        return true;
    if (WIFEXITED(status) && WEXITSTATUS(status) == ENDED_AS_TOLD) {
        link_done(id);
        return true;
    }
    struct err err = {.code = FAIL_INVALID};
    (void)err_set(&err, FAIL_INVALID, "the root's disk was frozen for too short a time");
    link_fail(id, &err);
    return true;
}
