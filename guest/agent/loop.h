// The event loop: one thread, one epoll instance, one event at a time, so that a handler may free any source.
#ifndef BULKHEAD_LOOP_H
#define BULKHEAD_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct source {
    int fd;          // -1 when closed
    uint32_t events; // what epoll watches; 0 when the source is not registered
    void (*ready)(struct source *source, uint32_t events);
};

int loop_open(void);

// Watches for these events; 0 stops watching (also for hang-ups, which epoll would report for ever).
int loop_watch(struct source *source, uint32_t events);

// Stops watching and closes the descriptor.
void loop_close(struct source *source);

// Waits for at most timeout_ms (-1: for ever) and handles what is ready then, up to a few events. Returns -1
// when epoll itself fails.
int loop_run(int timeout_ms);

#endif
