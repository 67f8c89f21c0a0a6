// Frames on the byte channel (see agent.proto): finds whole, intact frames in a stream that may begin
// anywhere.
#ifndef BULKHEAD_FRAME_H
#define BULKHEAD_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER 12
// From the host: one Exec with its arguments and environment is the largest (ARG_MAX of a default stack is 2
// MiB, of which a control message needs no more than half).
#define FRAME_MAX_PAYLOAD (1024 * 1024)
// To the host: hello with all sessions, or one data chunk and the words around it. The host refuses more.
#define FRAME_MAX_REPLY (64 * 1024)
#define FRAME_MAX_DATA (60 * 1024)

struct frame_parser {
    uint8_t *buffer; // FRAME_HEADER + FRAME_MAX_PAYLOAD bytes
    size_t start, end;
};

// Returns -1 without memory.
int frame_parser_open(struct frame_parser *parser);
void frame_parser_close(struct frame_parser *parser);

// Gives up on a frame that will not be completed, and looks for others in the bytes behind its beginning.
void frame_parser_resync(struct frame_parser *parser);

// Forgets all bytes.
void frame_parser_reset(struct frame_parser *parser);

// Where the next bytes from the channel go, and how many fit (never 0 after frame_next returned 0).
uint8_t *frame_parser_space(struct frame_parser *parser, size_t *size);
void frame_parser_filled(struct frame_parser *parser, size_t size);

// The next whole frame, skipping whatever is none: 1 with its payload (valid until the next call), or 0 for
// more bytes.
int frame_next(struct frame_parser *parser, const uint8_t **payload, size_t *size);

// Writes the header of a payload that lies behind it.
void frame_seal(uint8_t *frame, size_t payload_size);

#endif
