#include "input.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <termios.h>
#include <unistd.h>

#define STDIN_RING (256u * 1024)
// How much free room is worth telling the host about: two chunks.
#define CREDIT_STEP (64u * 1024)

static void watch(struct input *input) {
    if (input->source.fd < 0)
        return;
    bool waiting = input->written < input->ring.end;
    if (!waiting && input->ended && input->terminal) {
        // Closing our end of a terminal would hang it up: the end of input is a character there.
        char end_of_file = 4;
        struct termios settings;
        if (tcgetattr(input->source.fd, &settings) == 0 && (settings.c_lflag & ICANON))
            end_of_file = (char)settings.c_cc[VEOF];
        (void)!write(input->source.fd, &end_of_file, 1);
        input_hang_up(input);
    } else if (!waiting && input->ended) {
        input_hang_up(input);
    } else if (loop_watch(&input->source, waiting ? EPOLLOUT : 0) < 0) {
        input_hang_up(input);
    }
}

static void ready(struct source *source, uint32_t events) {
    (void)events;
    struct input *input = (struct input *)source;
    struct iovec pieces[2];
    int count = ring_pieces(&input->ring, input->written, pieces);
    ssize_t put = writev(source->fd, pieces, count);
    if (put < 0 && errno != EAGAIN && errno != EINTR) {
        input_hang_up(input); // the program closed its stdin or ended
        return;
    }
    if (put > 0) {
        input->written += (uint64_t)put;
        ring_discard(&input->ring, input->written);
    }
    watch(input);
}

int input_open(struct input *input, int fd, bool wanted, bool terminal) {
    *input = (struct input){.source = {.fd = fd, .ready = ready}, .wanted = wanted, .terminal = terminal};
    return wanted ? ring_open(&input->ring, STDIN_RING) : 0;
}

void input_close(struct input *input) {
    loop_close(&input->source);
    ring_close(&input->ring);
}

void input_hang_up(struct input *input) {
    loop_close(&input->source);
    input->hung_up = true;
    ring_discard(&input->ring, input->ring.end);
    input->written = input->ring.end;
}

int input_take(struct input *input, uint64_t offset, const uint8_t *bytes, size_t size) {
    // A host that came back may send again what had arrived; what lies beyond the grant cannot be kept.
    if (!input->wanted || offset > input->ring.end || offset + size > input->granted)
        return -1;
    uint64_t known = input->ring.end - offset;
    if (known >= size)
        return 0;
    ring_append(&input->ring, bytes + known, size - (size_t)known);
    if (input->hung_up)
        input_hang_up(input);
    else
        watch(input);
    return 0;
}

int input_end(struct input *input, uint64_t offset) {
    if (!input->wanted || offset != input->ring.end)
        return -1;
    input->ended = true;
    watch(input);
    return 0;
}

uint32_t input_grant_all(struct input *input) {
    if (!input->wanted)
        return 0;
    input->granted = input->written + input->ring.size;
    return (uint32_t)(input->granted - input->ring.end);
}

uint32_t input_grant_more(struct input *input) {
    uint64_t most = input->written + input->ring.size;
    if (!input->wanted || most < input->granted + CREDIT_STEP)
        return 0;
    uint32_t more = (uint32_t)(most - input->granted);
    input->granted = most;
    return more;
}
