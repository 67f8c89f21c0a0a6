// The byte channel to the host: a virtio-serial port where there is one (QEMU), else vsock (libkrun).
#ifndef BULKHEAD_CHANNEL_H
#define BULKHEAD_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "err.h"

#define CHANNEL_PORT_NAME "bulkhead.agent"
#define CHANNEL_VSOCK_PORT 1024
// The host waits for this line of a guest that boots: src/vmm/libkrun/listening.ts.
#define CHANNEL_LISTENING "bulkhead agent: listening"

// What the channel tells the link.
struct channel_events {
    // The connection is over; another will be a new one. Only vsock knows this.
    void (*closed)(void);
    // The port's other end was closed, or opened and closed and opened. Bytes and this news travel apart, so
    // bytes of the next connection may have been read before it: nothing may be dropped for it.
    void (*away)(void);
    // The first bytes after `away`.
    void (*back)(void);
};

int channel_open(const struct channel_events *events, struct err *err);

// Takes connections on a bound socket, one at a time: a new one ends the one before. Whom `trusted` refuses
// is closed at once. Takes the descriptor over; returns -1 with errno, and the descriptor is then the
// caller's.
int channel_listen(int fd, bool (*trusted)(const struct sockaddr_storage *peer),
                   const struct channel_events *events);

// Never block. Bytes moved, or 0 when nothing can be moved now.
size_t channel_read(uint8_t *buffer, size_t size);
size_t channel_write(const uint8_t *data, size_t size);

#endif
