// stdin of a session: what the host sends is kept in a ring until the program takes it.
#ifndef BULKHEAD_INPUT_H
#define BULKHEAD_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"
#include "ring.h"

struct input {
    struct source source; // first: the loop hands it back; fd is -1 without a program that reads
    struct ring ring;
    uint64_t written; // the program has everything before this
    uint64_t granted; // the host may send up to this offset
    bool wanted;      // the session has a stdin
    bool terminal;    // its end is a character, not a hang-up
    bool ended;       // the host has said the end
    bool hung_up;     // nothing will be read any more
};

// Takes over the descriptor, -1 for none. Returns -1 without memory; the descriptor is the input's even then.
int input_open(struct input *input, int fd, bool wanted, bool terminal);
void input_close(struct input *input);

// The program reads no more: what it will never read is taken as read, so that the host is not left waiting.
void input_hang_up(struct input *input);

// Bytes from this offset on. -1 when they leave a gap or go beyond what was granted; bytes known already are
// skipped.
int input_take(struct input *input, uint64_t offset, const uint8_t *bytes, size_t size);
// Nothing follows. -1 when the offset is not where the stream stands.
int input_end(struct input *input, uint64_t offset);

// Grants anew all the room there is: bytes the host may send from the end of what arrived.
uint32_t input_grant_all(struct input *input);
// Grants room that came free, when it is worth telling; else 0.
uint32_t input_grant_more(struct input *input);

#endif
