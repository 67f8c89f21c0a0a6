// Fuzzes the frame parser with the message decoder behind it.
#include <stdint.h>
#include <string.h>

#include <pb_decode.h>

#include "agent.pb.h"
#include "crc32.h"
#include "frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(const uint8_t *payload, size_t size) {
    static bulkhead_agent_v1_HostMessage message;
    message = (bulkhead_agent_v1_HostMessage)bulkhead_agent_v1_HostMessage_init_zero;
    pb_istream_t stream = pb_istream_from_buffer(payload, size);
    (void)pb_decode(&stream, bulkhead_agent_v1_HostMessage_fields, &message);
    pb_release(bulkhead_agent_v1_HostMessage_fields, &message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct frame_parser parser;
    const uint8_t *payload;
    size_t length, room;
    crc32_init();
    decode(data, size);
    if (frame_parser_open(&parser) < 0)
        return 0;
    for (size_t at = 0; at < size;) {
        size_t part = data[at] % 64 + 1u < size - at ? data[at] % 64 + 1u : size - at;
        uint8_t *space = frame_parser_space(&parser, &room);
        if (part > room)
            part = room;
        memcpy(space, data + at, part);
        frame_parser_filled(&parser, part);
        at += part;
        while (frame_next(&parser, &payload, &length))
            decode(payload, length);
    }
    frame_parser_close(&parser);
    return 0;
}
