// Exit notification: a thread sleeps in epoll over pidfds and writes tokens into a pipe that the event loop
// reads.
#include "libvmm.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "error.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

struct watched {
    int pidfd;
    uint64_t token;
    struct watched *next;
    struct watched **link;
};

struct bh_watcher {
    int epoll_fd;
    int stop_fd;
    int notify_write;
    pthread_t thread;
    pthread_mutex_t lock; // guards the list; the thread and callers of add both change it
    struct watched *list;
};

static void forget(struct bh_watcher *watcher, struct watched *entry) {
    (void)epoll_ctl(watcher->epoll_fd, EPOLL_CTL_DEL, entry->pidfd, NULL);
    (void)close(entry->pidfd);
    (void)pthread_mutex_lock(&watcher->lock);
    *entry->link = entry->next;
    if (entry->next)
        entry->next->link = entry->link;
    (void)pthread_mutex_unlock(&watcher->lock);
    free(entry);
}

static void *watch(void *opaque) {
    struct bh_watcher *watcher = opaque;
    for (;;) {
        struct epoll_event event;
        int ready = epoll_wait(watcher->epoll_fd, &event, 1, -1);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready < 0)
            return NULL;
        struct watched *entry = event.data.ptr;
        if (!entry)
            return NULL; // the stop event
        siginfo_t info;
        // ECHILD for processes that are not ours: their parent reaps them.
        while (waitid(P_PIDFD, (id_t)entry->pidfd, &info, WEXITED | WNOHANG) != 0 && errno == EINTR)
            ;
        uint64_t token = entry->token;
        forget(watcher, entry);
        ssize_t written;
        do // below PIPE_BUF, so the token is written whole; a full pipe (8192 unread ends) makes this thread
           // wait
            written = write(watcher->notify_write, &token, sizeof token);
        while (written < 0 && errno == EINTR);
        if (written < 0)
            return NULL; // the reader is gone
    }
}

static void destroy(struct bh_watcher *watcher) {
    while (watcher->list)
        forget(watcher, watcher->list);
    (void)pthread_mutex_destroy(&watcher->lock);
    bh_close_fd(&watcher->epoll_fd);
    bh_close_fd(&watcher->stop_fd);
    bh_close_fd(&watcher->notify_write);
    free(watcher);
}

int bh_watcher_open(struct bh_watcher **out, int32_t *notify_fd, char *error, size_t error_size) {
    if (!out || !notify_fd)
        return bh_fail(error, error_size, EINVAL, "watcher");
    struct bh_watcher *watcher = calloc(1, sizeof *watcher);
    if (!watcher)
        return bh_fail(error, error_size, ENOMEM, "watcher");
    watcher->notify_write = -1;
    CLEANUP_FD notify_read = -1;
    int result = -pthread_mutex_init(&watcher->lock, NULL);
    watcher->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    watcher->stop_fd = eventfd(0, EFD_CLOEXEC);
    int pipe_fds[2];
    struct epoll_event stop = {.events = EPOLLIN, .data.ptr = NULL};
    if (result == 0 && (watcher->epoll_fd < 0 || watcher->stop_fd < 0))
        result = -errno;
    if (result == 0 && pipe2(pipe_fds, O_CLOEXEC) != 0)
        result = -errno;
    if (result == 0) {
        notify_read = pipe_fds[0];
        watcher->notify_write = pipe_fds[1];
        if (epoll_ctl(watcher->epoll_fd, EPOLL_CTL_ADD, watcher->stop_fd, &stop) != 0)
            result = -errno;
    }
    if (result == 0) {
        // Signals stay with the threads of Node.
        sigset_t all, before;
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &before);
        result = -pthread_create(&watcher->thread, NULL, watch, watcher);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (result != 0) {
        destroy(watcher);
        return bh_fail(error, error_size, -result, "watcher");
    }
    *out = watcher;
    *notify_fd = bh_take_fd(&notify_read);
    return 0;
}

int bh_watcher_add(struct bh_watcher *watcher, int32_t pidfd, uint64_t token, char *error,
                   size_t error_size) {
    if (!watcher || pidfd < 0)
        return bh_fail(error, error_size, EINVAL, "watch");
    struct watched *entry = calloc(1, sizeof *entry);
    if (!entry)
        return bh_fail(error, error_size, ENOMEM, "watch");
    entry->token = token;
    entry->pidfd = fcntl(pidfd, F_DUPFD_CLOEXEC, 0);
    if (entry->pidfd < 0) {
        int code = errno;
        free(entry);
        return bh_fail(error, error_size, code, "watch");
    }
    (void)pthread_mutex_lock(&watcher->lock);
    entry->next = watcher->list;
    entry->link = &watcher->list;
    if (entry->next)
        entry->next->link = &entry->next;
    watcher->list = entry;
    (void)pthread_mutex_unlock(&watcher->lock);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = entry};
    if (epoll_ctl(watcher->epoll_fd, EPOLL_CTL_ADD, entry->pidfd, &event) != 0) {
        int code = errno;
        forget(watcher, entry);
        return bh_fail(error, error_size, code, "watch");
    }
    return 0; // `entry` may be freed already: the process may have ended
}

int bh_watcher_close(struct bh_watcher *watcher, char *error, size_t error_size) {
    if (!watcher)
        return bh_fail(error, error_size, EINVAL, "watcher");
    uint64_t one = 1;
    if (write(watcher->stop_fd, &one, sizeof one) != (ssize_t)sizeof one)
        return bh_fail(error, error_size, errno, "watcher");
    int result = pthread_join(watcher->thread, NULL);
    if (result != 0)
        return bh_fail(error, error_size, result, "watcher");
    destroy(watcher);
    return 0;
}
