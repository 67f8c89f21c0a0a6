#include "loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

// A process that ends is four events: both of its streams, its status pipe, and the signal.
#define TURN_EVENTS 8

static int epoll_fd = -1;

int loop_open(void) {
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return epoll_fd < 0 ? -1 : 0;
}

int loop_watch(struct source *source, uint32_t events) {
    if (events == source->events)
        return 0;
    int operation = events == 0 ? EPOLL_CTL_DEL : source->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(epoll_fd, operation, source->fd, &event) < 0)
        return -1;
    source->events = events;
    return 0;
}

void loop_close(struct source *source) {
    if (source->fd < 0)
        return;
    // A descriptor that a child still shares would stay in the epoll set after close, so it is taken out
    // first.
    (void)loop_watch(source, 0);
    (void)close(source->fd);
    source->fd = -1;
    source->events = 0;
}

// How many events were handled.
static int run_one(int timeout_ms) {
    struct epoll_event event;
    int count = epoll_wait(epoll_fd, &event, 1, timeout_ms);
    if (count < 0)
        return errno == EINTR ? 0 : -1;
    if (count == 1) {
        struct source *source = event.data.ptr;
        source->ready(source, event.events);
    }
    return count;
}

int loop_run(int timeout_ms) {
    int count = run_one(timeout_ms);
    // One at a time: what one event does may end the source of the next.
    for (int more = 1; count > 0 && more < TURN_EVENTS; more++)
        count = run_one(0);
    return count < 0 ? -1 : 0;
}
