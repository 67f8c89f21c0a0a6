// One output stream of a session: a pipe or terminal on one side, a ring with the host's progress on the
// other.
#ifndef BULKHEAD_STREAM_H
#define BULKHEAD_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"
#include "ring.h"

struct stream {
    struct source source; // first: the loop hands it back; fd is -1 once nobody can write to it any more
    struct ring ring;
    uint64_t acknowledged; // the host has everything before this
    uint64_t sent;
    uint32_t credit;  // bytes that may be sent now
    size_t leftover;  // bytes that were still to be read when the program ended; of a terminal at most
    bool ending;      // the program ended; only `leftover` bytes still count
    int64_t quiet_at; // of a terminal that is ending: when it counts as read to the end; clock_now()
    bool ended;       // the length is final
    bool end_sent;
    bool keep_all; // do not overwrite what is not acknowledged
    bool terminal; // ends by a hang-up or by silence: what is left in one cannot be asked for
};

// Takes over the descriptor. Returns -1 without memory; the descriptor is then still the caller's.
int stream_open(struct stream *stream, int fd, size_t ring_size, bool terminal);
void stream_close(struct stream *stream);

// Watches the descriptor exactly while there is room for what it brings.
void stream_watch(struct stream *stream);

// The program has ended: what other processes write from now on no longer belongs to the stream.
void stream_finish(struct stream *stream);

// Ends a terminal that has fallen silent after its program. Returns when it wants to be called again; -1:
// never.
int64_t stream_tick(struct stream *stream, int64_t now);

// Goes on from an offset with new credit. False when the stream never came so far.
bool stream_rewind(struct stream *stream, uint64_t offset, uint32_t credit);

// Bytes that may be sent now, at most `most`; skips what was dropped.
size_t stream_sendable(struct stream *stream, size_t most);

#endif
