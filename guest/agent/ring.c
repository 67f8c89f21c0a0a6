#include "ring.h"

#include <string.h>
#include <sys/mman.h>

int ring_open(struct ring *ring, size_t size) {
    size_t rounded = RING_MIN;
    while (rounded < size && rounded < RING_MAX)
        rounded *= 2;
    void *bytes = mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED)
        return -1;
    *ring = (struct ring){.bytes = bytes, .size = rounded};
    return 0;
}

void ring_close(struct ring *ring) {
    if (ring->bytes)
        (void)munmap(ring->bytes, ring->size);
    *ring = (struct ring){0};
}

static int pieces_of(const struct ring *ring, uint64_t offset, size_t size, struct iovec pieces[2]) {
    if (size == 0)
        return 0;
    size_t at = offset & (ring->size - 1);
    size_t first = ring->size - at < size ? ring->size - at : size;
    pieces[0] = (struct iovec){.iov_base = ring->bytes + at, .iov_len = first};
    if (first == size)
        return 1;
    pieces[1] = (struct iovec){.iov_base = ring->bytes, .iov_len = size - first};
    return 2;
}

int ring_write_space(const struct ring *ring, size_t want, struct iovec pieces[2]) {
    return pieces_of(ring, ring->end, want < ring->size ? want : ring->size, pieces);
}

void ring_wrote(struct ring *ring, size_t size) {
    ring->end += size;
    if (ring->end - ring->start > ring->size)
        ring->start = ring->end - ring->size;
}

void ring_append(struct ring *ring, const uint8_t *data, size_t size) {
    while (size > 0) {
        struct iovec pieces[2];
        int count = ring_write_space(ring, size, pieces);
        for (int i = 0; i < count; i++) {
            memcpy(pieces[i].iov_base, data, pieces[i].iov_len);
            data += pieces[i].iov_len;
            size -= pieces[i].iov_len;
            ring_wrote(ring, pieces[i].iov_len);
        }
    }
}

int ring_pieces(const struct ring *ring, uint64_t offset, struct iovec pieces[2]) {
    return pieces_of(ring, offset, (size_t)(ring->end - offset), pieces);
}

size_t ring_copy(const struct ring *ring, uint64_t offset, uint8_t *to, size_t size) {
    struct iovec pieces[2];
    size_t copied = 0;
    int count = ring_pieces(ring, offset, pieces);
    for (int i = 0; i < count && copied < size; i++) {
        size_t part = pieces[i].iov_len < size - copied ? pieces[i].iov_len : size - copied;
        memcpy(to + copied, pieces[i].iov_base, part);
        copied += part;
    }
    return copied;
}

void ring_discard(struct ring *ring, uint64_t offset) {
    if (offset > ring->start)
        ring->start = offset < ring->end ? offset : ring->end;
}
