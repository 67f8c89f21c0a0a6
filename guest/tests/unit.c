// Unit tests of the parts that take foreign bytes, built with the address and undefined-behaviour sanitizers.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "crc32.h"
#include "frame.h"
#include "ring.h"
#include "users.h"

static void feed(struct frame_parser *parser, const uint8_t *data, size_t size) {
    while (size > 0) {
        size_t room;
        uint8_t *space = frame_parser_space(parser, &room);
        size_t part = size < room ? size : room;
        memcpy(space, data, part);
        frame_parser_filled(parser, part);
        data += part;
        size -= part;
    }
}

static size_t make_frame(uint8_t *frame, const char *payload) {
    memcpy(frame + FRAME_HEADER, payload, strlen(payload));
    frame_seal(frame, strlen(payload));
    return FRAME_HEADER + strlen(payload);
}

static void checksum_is_that_of_zlib(void) {
    CHECK(crc32_update(0, (const uint8_t *)"123456789", 9) == 0xCBF43926);
    uint32_t crc = crc32_update(0, (const uint8_t *)"1234", 4);
    CHECK(crc32_update(crc, (const uint8_t *)"56789", 5) == 0xCBF43926);
}

static void frames_come_whole_whatever_the_pieces(void) {
    struct frame_parser parser;
    uint8_t bytes[200];
    size_t size = make_frame(bytes, "first");
    size += make_frame(bytes + size, "second one");
    const uint8_t *payload;
    size_t length;
    for (size_t step = 1; step <= size; step++) {
        int seen = 0;
        CHECK(frame_parser_open(&parser) == 0);
        for (size_t at = 0; at < size; at += step) {
            feed(&parser, bytes + at, size - at < step ? size - at : step);
            while (frame_next(&parser, &payload, &length)) {
                CHECK(seen == 0 ? length == 5 && !memcmp(payload, "first", 5)
                                : length == 10 && !memcmp(payload, "second one", 10));
                seen++;
            }
        }
        CHECK(seen == 2);
        frame_parser_close(&parser);
    }
}

static void a_frame_is_found_behind_garbage_and_broken_frames(void) {
    struct frame_parser parser;
    uint8_t bytes[300] = "noise BHF and more BHF1";
    size_t size = 23;
    size_t broken = size;
    size += make_frame(bytes + size, "broken");
    bytes[broken + FRAME_HEADER] ^= 1;
    size += make_frame(bytes + size, "good");
    const uint8_t *payload;
    size_t length;
    CHECK(frame_parser_open(&parser) == 0);
    feed(&parser, bytes, size);
    CHECK(frame_next(&parser, &payload, &length) == 1 && length == 4 && !memcmp(payload, "good", 4));
    CHECK(frame_next(&parser, &payload, &length) == 0);
    frame_parser_close(&parser);
}

static void a_half_frame_of_a_dead_host_hides_nothing(void) {
    struct frame_parser parser;
    uint8_t half[FRAME_HEADER + 100] = {0}, whole[100];
    const uint8_t *payload;
    size_t length;
    memset(half + FRAME_HEADER, 'x', 100);
    frame_seal(half, 100);
    size_t size = make_frame(whole, "hello");
    CHECK(frame_parser_open(&parser) == 0);
    feed(&parser, half, 50);
    CHECK(frame_next(&parser, &payload, &length) == 0);
    feed(&parser, whole, size);
    CHECK(frame_next(&parser, &payload, &length) == 0);
    frame_parser_resync(&parser);
    CHECK(frame_next(&parser, &payload, &length) == 1 && length == 5);
    frame_parser_close(&parser);

    // The same without the news that the host has gone: filler ends the half frame.
    static uint8_t filler[FRAME_MAX_PAYLOAD];
    CHECK(frame_parser_open(&parser) == 0);
    feed(&parser, half, 50);
    for (size_t at = 0; at < sizeof filler; at += 4096) {
        feed(&parser, filler, 4096);
        CHECK(frame_next(&parser, &payload, &length) == 0);
    }
    feed(&parser, whole, size);
    CHECK(frame_next(&parser, &payload, &length) == 1 && length == 5);
    frame_parser_close(&parser);
}

static void an_impossible_length_is_no_frame(void) {
    struct frame_parser parser;
    uint8_t bytes[100] = {'B', 'H', 'F', '1', 0xff, 0xff, 0xff, 0xff};
    const uint8_t *payload;
    size_t length;
    size_t size = FRAME_HEADER + make_frame(bytes + FRAME_HEADER, "x");
    CHECK(frame_parser_open(&parser) == 0);
    feed(&parser, bytes, size);
    CHECK(frame_next(&parser, &payload, &length) == 1 && length == 1);
    frame_parser_close(&parser);
}

static void a_ring_keeps_the_newest_bytes_by_offset(void) {
    struct ring ring;
    static uint8_t data[3 * RING_MIN], back[RING_MIN];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    CHECK(ring_open(&ring, 1) == 0 && ring.size == RING_MIN);
    for (size_t at = 0; at < sizeof data; at += 1000)
        ring_append(&ring, data + at, sizeof data - at < 1000 ? sizeof data - at : 1000);
    CHECK(ring.end == sizeof data && ring.start == sizeof data - RING_MIN);
    CHECK(ring_copy(&ring, ring.start, back, sizeof back) == RING_MIN);
    CHECK(memcmp(back, data + ring.start, RING_MIN) == 0);
    CHECK(ring_copy(&ring, ring.end - 5, back, sizeof back) == 5 &&
          memcmp(back, data + sizeof data - 5, 5) == 0);
    ring_discard(&ring, ring.end + 10);
    CHECK(ring.start == ring.end && ring_copy(&ring, ring.end, back, 1) == 0);
    ring_close(&ring);
    CHECK(ring_open(&ring, 100u << 20) == 0 && ring.size == RING_MAX);
    ring_close(&ring);
}

static const char PASSWD[] =
    "root:x:0:0:root:/root:/bin/sh\n\n:\nodd\nbad:x:1x:2::/:\nbig:x:99999999999:1::/:\n"
    "max:x:4294967295:1::/:\ndev:x:1000:100:Dev:/home/dev:/bin/sh\nnohome:x:7:7::relative:/bin/"
    "sh\nlast:x:9:9";
static const char GROUP[] = "root:x:0:\nwheel:x:10:root,dev\nusers:x:100:\nnear:x:11:devs,de\nvideo:x:44:dev";

static int resolve(const char *spec, struct user *user) {
    struct err err;
    return users_resolve(spec, PASSWD, sizeof PASSWD - 1, GROUP, sizeof GROUP - 1, user, &err);
}

static void users_resolve_as_container_engines_do(void) {
    struct user user;
    CHECK(resolve("", &user) == 0 && user.uid == 0 && user.gid == 0 && !strcmp(user.home, "/root"));
    CHECK(resolve("dev", &user) == 0 && user.uid == 1000 && user.gid == 100 && user.group_count == 2);
    CHECK(user.groups[0] == 10 && user.groups[1] == 44 && !strcmp(user.home, "/home/dev"));
    CHECK(resolve("1000", &user) == 0 && user.gid == 100 && user.group_count == 2);
    CHECK(resolve("dev:video", &user) == 0 && user.gid == 44 && user.group_count == 0);
    CHECK(resolve("77:88", &user) == 0 && user.uid == 77 && user.gid == 88 && !strcmp(user.home, "/"));
    CHECK(resolve("nohome", &user) == 0 && !strcmp(user.home, "/"));
    CHECK(resolve("last", &user) == 0 && user.uid == 9);
    for (const char *const *bad =
             (const char *const[]){"nobody", "bad", "big", "max", "4294967295", "dev:none", "-1", NULL};
         *bad; bad++)
        CHECK(resolve(*bad, &user) == -1);
}

int main(void) {
    crc32_init();
    checksum_is_that_of_zlib();
    frames_come_whole_whatever_the_pieces();
    a_frame_is_found_behind_garbage_and_broken_frames();
    a_half_frame_of_a_dead_host_hides_nothing();
    an_impossible_length_is_no_frame();
    a_ring_keeps_the_newest_bytes_by_offset();
    users_resolve_as_container_engines_do();
    return check_result("guest agent unit tests");
}
