#include "stream.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "clock.h"

// Per event, so that one busy stream lets the others have their turn.
#define READ_MAX (64u * 1024)

// A terminal whose program has ended is hung up by the kernel, so nobody writes to it any more. That shows
// here only once every process that has it open has closed it, and a process left behind may never do that.
// What was written before passes through a kernel thread: this is how long that thread may take to bring the
// next piece,
#define TERMINAL_QUIET_MS 1000
// and more than it can hold (640 KiB per terminal), for a program that gave its terminal up before it ended,
// which is then not hung up.
#define TERMINAL_LEFTOVER (1024u * 1024)

static size_t room(const struct stream *stream) {
    if (stream->ended)
        return READ_MAX; // thrown away: a background process must not be stopped by a stream that is over
    uint64_t kept = stream->ring.end - stream->acknowledged;
    size_t most = stream->keep_all ? (kept < stream->ring.size ? stream->ring.size - (size_t)kept : 0)
                                   : stream->ring.size / 2;
    return most < READ_MAX ? most : READ_MAX;
}

static void end(struct stream *stream) {
    stream->ended = true;
}

static void read_some(struct stream *stream) {
    static uint8_t waste[READ_MAX];
    struct iovec pieces[2] = {{.iov_base = waste, .iov_len = sizeof waste}};
    int count = 1;
    if (!stream->ended) {
        size_t want = room(stream);
        if (stream->ending && stream->leftover < want)
            want = stream->leftover;
        count = ring_write_space(&stream->ring, want, pieces);
    }
    ssize_t got = readv(stream->source.fd, pieces, count);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) { // a terminal reports its hang-up as EIO
        loop_close(&stream->source);
        end(stream);
    } else if (!stream->ended) {
        ring_wrote(&stream->ring, (size_t)got);
        if (stream->ending && (stream->leftover -= (size_t)got) == 0)
            end(stream);
    }
}

static void ready(struct source *source, uint32_t events) {
    (void)events;
    struct stream *stream = (struct stream *)source;
    if (room(stream) > 0)
        read_some(stream);
    stream_watch(stream);
}

int stream_open(struct stream *stream, int fd, size_t ring_size, bool terminal) {
    *stream = (struct stream){.source = {.fd = fd, .ready = ready}, .terminal = terminal};
    return ring_open(&stream->ring, ring_size);
}

void stream_close(struct stream *stream) {
    loop_close(&stream->source);
    ring_close(&stream->ring);
}

void stream_watch(struct stream *stream) {
    if (stream->source.fd < 0)
        return;
    if (loop_watch(&stream->source, room(stream) > 0 ? EPOLLIN : 0) < 0) {
        loop_close(&stream->source);
        end(stream);
    }
    // Silence is counted from the last byte, and from when there was room for one.
    stream->quiet_at = clock_now() + TERMINAL_QUIET_MS;
}

void stream_finish(struct stream *stream) {
    int waiting = 0;
    if (stream->ended || stream->ending)
        return;
    stream->ending = true;
    if (stream->terminal) {
        stream->leftover = TERMINAL_LEFTOVER;
        stream->quiet_at = clock_now() + TERMINAL_QUIET_MS;
        return;
    }
    if (stream->source.fd >= 0 && ioctl(stream->source.fd, FIONREAD, &waiting) < 0)
        waiting = 0;
    stream->leftover = waiting > 0 ? (size_t)waiting : 0;
    if (stream->leftover == 0)
        end(stream);
}

int64_t stream_tick(struct stream *stream, int64_t now) {
    if (!stream->terminal || !stream->ending || stream->ended || room(stream) == 0)
        return -1;
    if (now < stream->quiet_at)
        return stream->quiet_at;
    end(stream);
    return now; // there is an end to tell
}

bool stream_rewind(struct stream *stream, uint64_t offset, uint32_t credit) {
    if (offset > stream->ring.end)
        return false;
    stream->sent = offset > stream->ring.start ? offset : stream->ring.start;
    stream->acknowledged = stream->sent;
    stream->credit = credit;
    stream->end_sent = false;
    return true;
}

size_t stream_sendable(struct stream *stream, size_t most) {
    if (stream->sent < stream->ring.start)
        stream->sent = stream->ring.start;
    uint64_t waiting = stream->ring.end - stream->sent;
    size_t size = waiting < most ? (size_t)waiting : most;
    return size < stream->credit ? size : stream->credit;
}
