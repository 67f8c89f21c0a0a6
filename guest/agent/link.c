#include "link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>

#include <pb_decode.h>
#include <pb_encode.h>

#include "channel.h"
#include "dispatch.h"
#include "frame.h"
#include "mounts.h"
#include "personalize.h"
#include "session.h"
#include "walltime.h"

#define PROTOCOL_VERSION 1
#define AGENT_VERSION "0.1.0"
// Answers not yet sent. The host waits for answers, so more than this means that it floods without reading.
#define CONTROL_MAX (512u * 1024)
// Turns per call, so that a flood on the channel does not keep the loop from its other sources.
#define TURNS 16

static char *FEATURES[] = {"exec",    "tty",   "files", "stats",     "attach",
                           "volumes", "disks", "dial",  "many-files"};

struct queued {
    struct queued *next;
    size_t size;
    uint8_t frame[];
};

static struct frame_parser parser;
static struct queued *first, **last = &first;
static size_t queued_bytes;
// What is being written: raw bytes, sent up to out_sent. Frames go out together, for each write wakes the
// host and, under KVM, leaves the guest. None is added once OUT_FULL bytes are there.
#define OUT_FULL (64u * 1024)
static uint8_t out[OUT_FULL + FRAME_HEADER + FRAME_MAX_REPLY];
static size_t out_size, out_sent;
static bool established;
static char boot_id[37];

static void drop_output(void) {
    while (first) {
        struct queued *next = first->next;
        free(first);
        first = next;
    }
    last = &first;
    queued_bytes = 0;
    out_size = out_sent = 0;
}

static void link_closed(void) {
    established = false;
    drop_output();
    frame_parser_reset(&parser);
    sessions_detach_all();
}

static void link_away(void) {
    // Half a frame will not be completed; what follows it may be the next host's hello.
    frame_parser_resync(&parser);
    sessions_host_away(true);
}

static void link_back(void) {
    sessions_host_away(false);
}

static void make_boot_id(void) {
    uint8_t bytes[16] = {0};
    if (getrandom(bytes, sizeof bytes, GRND_NONBLOCK | GRND_INSECURE) < 0)
        bytes[0] = 0;
    int at = 0;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            boot_id[at++] = '-';
        at += snprintf(boot_id + at, sizeof boot_id - (size_t)at, "%02x", bytes[i]);
    }
}

void link_set_boot_id(const char *id) {
    if (id[0])
        (void)snprintf(boot_id, sizeof boot_id, "%s", id);
}

int link_open(struct err *err) {
    make_boot_id();
    if (frame_parser_open(&parser) < 0)
        return err_errno(err, "no memory for the frame parser");
    static const struct channel_events events = {.closed = link_closed, .away = link_away, .back = link_back};
    return channel_open(&events, err);
}

// Encodes behind the room for a header. 0 when the message does not fit, which the field bounds exclude.
static size_t encode(const bulkhead_agent_v1_GuestMessage *message, uint8_t *frame, size_t size) {
    pb_ostream_t stream = pb_ostream_from_buffer(frame + FRAME_HEADER, size - FRAME_HEADER);
    if (!pb_encode(&stream, bulkhead_agent_v1_GuestMessage_fields, message))
        return 0;
    frame_seal(frame, stream.bytes_written);
    return FRAME_HEADER + stream.bytes_written;
}

void link_send(const bulkhead_agent_v1_GuestMessage *message) {
    static uint8_t frame[FRAME_HEADER + FRAME_MAX_REPLY];
    if (!established)
        return;
    size_t size = encode(message, frame, sizeof frame);
    struct queued *item = size ? malloc(sizeof *item + size) : NULL;
    if (!item)
        return; // the host's request runs into its time limit
    item->next = NULL;
    item->size = size;
    memcpy(item->frame, frame, size);
    *last = item;
    last = &item->next;
    queued_bytes += size;
}

void link_done(uint64_t request_id) {
    bulkhead_agent_v1_GuestMessage message = bulkhead_agent_v1_GuestMessage_init_zero;
    message.request_id = request_id;
    message.which_body = bulkhead_agent_v1_GuestMessage_done_tag;
    link_send(&message);
}

void link_fail(uint64_t request_id, const struct err *err) {
    bulkhead_agent_v1_GuestMessage message = bulkhead_agent_v1_GuestMessage_init_zero;
    message.request_id = request_id;
    message.which_body = bulkhead_agent_v1_GuestMessage_failure_tag;
    message.body.failure.code = err->code;
    (void)snprintf(message.body.failure.message, sizeof message.body.failure.message, "%s", err->text);
    link_send(&message);
}

static void say_hello(uint64_t request_id, const bulkhead_agent_v1_HostHello *host) {
    // A new host: what was on its way to the former one is void, and its sessions wait to be taken up again.
    sessions_detach_all();
    drop_output();
    established = true;
    memcpy(out, host->nonce, sizeof host->nonce);
    out_size = sizeof host->nonce;

    struct utsname kernel;
    bulkhead_agent_v1_SessionState states[SESSIONS_MAX];
    bulkhead_agent_v1_GuestMessage message = bulkhead_agent_v1_GuestMessage_init_zero;
    message.request_id = request_id;
    message.which_body = bulkhead_agent_v1_GuestMessage_hello_tag;
    bulkhead_agent_v1_GuestHello *hello = &message.body.hello;
    hello->protocol_version = PROTOCOL_VERSION;
    hello->agent_version = (char *)AGENT_VERSION;
    hello->features = FEATURES;
    hello->features_count = sizeof FEATURES / sizeof *FEATURES;
    hello->kernel_release = uname(&kernel) == 0 ? kernel.release : (char *)"";
    memcpy(hello->boot_id, boot_id, sizeof boot_id);
    hello->root_mounted = mounts_ready();
    hello->personalized = personalize_done();
    hello->sessions = states;
    hello->sessions_count = (pb_size_t)sessions_describe(states);
    hello->time_ms = walltime_now();
    link_send(&message);
}

static void handle(const uint8_t *payload, size_t size) {
    static bulkhead_agent_v1_HostMessage message; // too large for comfort on the stack
    message = (bulkhead_agent_v1_HostMessage)bulkhead_agent_v1_HostMessage_init_zero;
    pb_istream_t stream = pb_istream_from_buffer(payload, size);
    bool decoded = pb_decode(&stream, bulkhead_agent_v1_HostMessage_fields, &message);
    if (!decoded && established) {
        struct err err;
        (void)err_set(&err, FAIL_INVALID, "the request cannot be decoded: %s", PB_GET_ERROR(&stream));
        if (message.request_id)
            link_fail(message.request_id, &err);
    } else if (decoded && message.which_body == bulkhead_agent_v1_HostMessage_hello_tag) {
        say_hello(message.request_id, &message.body.hello);
    } else if (decoded && established) {
        dispatch(&message);
    }
    pb_release(bulkhead_agent_v1_HostMessage_fields, &message);
}

static bool read_some(void) {
    const uint8_t *payload;
    size_t size;
    if (frame_next(&parser, &payload, &size)) {
        handle(payload, size);
        return true;
    }
    uint8_t *space = frame_parser_space(&parser, &size);
    size_t got = channel_read(space, size);
    frame_parser_filled(&parser, got);
    return got > 0;
}

static bool add_answer(void) {
    struct queued *item = first;
    if (!item)
        return false;
    memcpy(out + out_size, item->frame, item->size);
    out_size += item->size;
    queued_bytes -= item->size;
    first = item->next;
    if (!first)
        last = &first;
    free(item);
    return true;
}

static bool add_output(void) {
    bulkhead_agent_v1_GuestMessage message;
    if (!sessions_next_output(&message))
        return false;
    size_t size = encode(&message, out + out_size, sizeof out - out_size);
    out_size += size;
    return size > 0;
}

// Answers pass data; data is encoded only when it can go out, one chunk per session in turn.
static void fill_out(void) {
    if (out_sent == out_size)
        out_size = out_sent = 0;
    if (out_sent > 0)
        return;
    while (out_size < OUT_FULL && (add_answer() || add_output())) {
    }
}

static bool write_some(void) {
    if (!established)
        return false;
    fill_out();
    if (out_sent == out_size)
        return false;
    size_t put = channel_write(out + out_sent, out_size - out_sent);
    out_sent += put;
    return put > 0;
}

bool link_pump(void) {
    bool more = true;
    for (int turn = 0; turn < TURNS && more; turn++) {
        more = write_some();
        if (queued_bytes < CONTROL_MAX)
            more = read_some() || more;
    }
    return more;
}
