// The last bytes of a stream by their absolute offsets. Memory is touched only as far as bytes have come.
#ifndef BULKHEAD_RING_H
#define BULKHEAD_RING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define RING_MIN (64u * 1024)
#define RING_MAX (4u * 1024 * 1024)

struct ring {
    uint8_t *bytes;
    size_t size;    // power of two
    uint64_t start; // oldest byte kept
    uint64_t end;   // one past the newest
};

// Rounds the size up to a power of two between RING_MIN and RING_MAX. Returns -1 without memory.
int ring_open(struct ring *ring, size_t size);
void ring_close(struct ring *ring);

// Up to two pieces where the next `want` bytes go (at most the ring's size); ring_wrote then takes them in,
// dropping the oldest where there is no room.
int ring_write_space(const struct ring *ring, size_t want, struct iovec pieces[2]);
void ring_wrote(struct ring *ring, size_t size);

// Appends a copy.
void ring_append(struct ring *ring, const uint8_t *data, size_t size);

// Copies from an offset at or after start; returns the number of bytes.
size_t ring_copy(const struct ring *ring, uint64_t offset, uint8_t *to, size_t size);

// Up to two pieces of what is kept from an offset on.
int ring_pieces(const struct ring *ring, uint64_t offset, struct iovec pieces[2]);

// Forgets what is before the offset.
void ring_discard(struct ring *ring, uint64_t offset);

#endif
