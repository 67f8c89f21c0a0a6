#include "frame.h"

#include <stdlib.h>
#include <string.h>

#include "crc32.h"

static const uint8_t MAGIC[4] = {'B', 'H', 'F', '1'};

static uint32_t load_u32(const uint8_t *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void store_u32(uint8_t *bytes, uint32_t value) {
    for (int i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t checksum(const uint8_t *frame, size_t payload_size) {
    uint32_t crc = crc32_update(0, frame + 4, 4);
    return crc32_update(crc, frame + FRAME_HEADER, payload_size);
}

int frame_parser_open(struct frame_parser *parser) {
    *parser = (struct frame_parser){.buffer = malloc(FRAME_HEADER + FRAME_MAX_PAYLOAD)};
    return parser->buffer ? 0 : -1;
}

void frame_parser_close(struct frame_parser *parser) {
    free(parser->buffer);
    parser->buffer = NULL;
}

void frame_parser_resync(struct frame_parser *parser) {
    if (parser->start < parser->end)
        parser->start++;
}

void frame_parser_reset(struct frame_parser *parser) {
    parser->start = parser->end = 0;
}

uint8_t *frame_parser_space(struct frame_parser *parser, size_t *size) {
    if (parser->start > 0) {
        memmove(parser->buffer, parser->buffer + parser->start, parser->end - parser->start);
        parser->end -= parser->start;
        parser->start = 0;
    }
    *size = FRAME_HEADER + FRAME_MAX_PAYLOAD - parser->end;
    return parser->buffer + parser->end;
}

void frame_parser_filled(struct frame_parser *parser, size_t size) {
    parser->end += size;
}

// Moves to the next place where a frame may begin. A cut magic at the very end is kept.
static void skip_to_magic(struct frame_parser *parser) {
    while (parser->start < parser->end) {
        const uint8_t *at = memchr(parser->buffer + parser->start, MAGIC[0], parser->end - parser->start);
        if (!at) {
            parser->start = parser->end;
            return;
        }
        parser->start = (size_t)(at - parser->buffer);
        size_t have = parser->end - parser->start;
        if (memcmp(at, MAGIC, have < sizeof MAGIC ? have : sizeof MAGIC) == 0)
            return;
        parser->start++;
    }
}

int frame_next(struct frame_parser *parser, const uint8_t **payload, size_t *size) {
    for (;;) {
        skip_to_magic(parser);
        size_t have = parser->end - parser->start;
        if (have < FRAME_HEADER)
            return 0;
        const uint8_t *frame = parser->buffer + parser->start;
        size_t length = load_u32(frame + 4);
        if (length <= FRAME_MAX_PAYLOAD) {
            if (have < FRAME_HEADER + length)
                return 0;
            if (load_u32(frame + 8) == checksum(frame, length)) {
                *payload = frame + FRAME_HEADER;
                *size = length;
                parser->start += FRAME_HEADER + length;
                return 1;
            }
        }
        parser->start++; // no frame begins here: a host that died left half of one, or this was data
    }
}

void frame_seal(uint8_t *frame, size_t payload_size) {
    memcpy(frame, MAGIC, sizeof MAGIC);
    store_u32(frame + 4, (uint32_t)payload_size);
    store_u32(frame + 8, checksum(frame, payload_size));
}
