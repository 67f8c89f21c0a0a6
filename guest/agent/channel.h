// The byte channel to the host: a virtio-serial port where there is one (QEMU), else vsock (libkrun).
#ifndef BULKHEAD_CHANNEL_H
#define BULKHEAD_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"

#define CHANNEL_PORT_NAME "bulkhead.agent"
#define CHANNEL_VSOCK_PORT 1024

// `changed` is called when there may be something to read or room to write; `down` when the host has gone.
int channel_open(void (*changed)(void), void (*down)(void), struct err *err);

// Never block. Bytes moved, or 0 when nothing can be moved now.
size_t channel_read(uint8_t *buffer, size_t size);
size_t channel_write(const uint8_t *data, size_t size);

// False from the moment the host was seen to go until bytes arrive again.
bool channel_up(void);

#endif
