// The channel's listener, over a unix socket in place of vsock: one connection at a time, the newest wins.
#include "channel.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"
#include "loop.h"

static int closed_count;
static bool trust = true;
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static socklen_t address_size = sizeof address;

static void on_closed(void) {
    closed_count++;
}

static void unexpected(void) {
    CHECK(!"a socket has no hang-up that is not its end");
}

static const struct channel_events events = {.closed = on_closed, .away = unexpected, .back = unexpected};

static bool trusted(const struct sockaddr_storage *peer) {
    (void)peer;
    return trust;
}

static void open_listener(void) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    // Without a name the kernel gives one that no file has.
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &address_size) == 0);
    CHECK(channel_listen(fd, trusted, &events) == 0);
}

// A host that dials, and waits no longer than the test does.
static int dial(void) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, address_size) == 0);
    return fd;
}

// Everything that is ready now.
static void settle(void) {
    for (int i = 0; i < 8; i++)
        CHECK(loop_run(0) == 0);
}

static bool agent_reads(const char *text) {
    uint8_t buffer[64];
    size_t got = channel_read(buffer, sizeof buffer);
    return got == strlen(text) && memcmp(buffer, text, got) == 0;
}

static bool host_reads(int fd, const char *text) {
    char buffer[64];
    ssize_t got = read(fd, buffer, sizeof buffer);
    return got == (ssize_t)strlen(text) && memcmp(buffer, text, strlen(text)) == 0;
}

static void say(int fd, const char *text) {
    CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static void nobody_is_there_before_the_first_host(void) {
    uint8_t byte = 0;
    CHECK(channel_read(&byte, 1) == 0 && channel_write(&byte, 1) == 0);
    CHECK(closed_count == 0);
}

static void a_host_is_heard_also_when_it_spoke_before_it_was_accepted(void) {
    int host = dial();
    say(host, "hello");
    settle();
    CHECK(agent_reads("hello"));
    CHECK(channel_write((const uint8_t *)"answer", 6) == 6 && host_reads(host, "answer"));
    CHECK(closed_count == 0);
    CHECK(close(host) == 0);
    settle();
    CHECK(agent_reads("") && closed_count == 1);
}

static void a_new_host_takes_the_place_of_one_that_never_closed(void) {
    closed_count = 0;
    int former = dial();
    settle();
    say(former, "lost");
    int host = dial();
    say(host, "new");
    settle();
    CHECK(closed_count == 1);
    CHECK(agent_reads("new"));
    CHECK(channel_write((const uint8_t *)"to new", 6) == 6 && host_reads(host, "to new"));
    char byte;
    CHECK(read(former, &byte, 1) <= 0); // an end, or a reset for what was not read
    CHECK(close(former) == 0 && close(host) == 0);
    settle();
    CHECK(agent_reads("") && closed_count == 2);
}

static void of_many_that_dial_at_once_the_last_stays(void) {
    closed_count = 0;
    int hosts[4];
    for (int i = 0; i < 4; i++)
        hosts[i] = dial();
    say(hosts[3], "last");
    settle();
    CHECK(closed_count == 3 && agent_reads("last"));
    for (int i = 0; i < 4; i++)
        CHECK(close(hosts[i]) == 0);
    settle();
    CHECK(agent_reads("") && closed_count == 4);
}

static void whom_nobody_vouches_for_is_closed_and_disturbs_nobody(void) {
    closed_count = 0;
    int host = dial();
    settle();
    trust = false;
    int stranger = dial();
    settle();
    trust = true;
    CHECK(host_reads(stranger, ""));
    say(host, "still");
    settle();
    CHECK(agent_reads("still") && closed_count == 0);
    CHECK(close(host) == 0 && close(stranger) == 0);
    settle();
    CHECK(agent_reads("") && closed_count == 1);
}

static void one_write_is_bounded_and_a_full_channel_takes_nothing(void) {
    static uint8_t bytes[256 * 1024];
    int host = dial();
    settle();
    size_t put = channel_write(bytes, sizeof bytes);
    CHECK(put > 0 && put <= 64 * 1024);
    while (channel_write(bytes, sizeof bytes) > 0) {
        // until its buffer is full
    }
    CHECK(errno == EAGAIN);
    CHECK(close(host) == 0);
    settle();
}

int main(void) {
    CHECK(loop_open() == 0);
    open_listener();
    nobody_is_there_before_the_first_host();
    a_host_is_heard_also_when_it_spoke_before_it_was_accepted();
    a_new_host_takes_the_place_of_one_that_never_closed();
    of_many_that_dial_at_once_the_last_stays();
    whom_nobody_vouches_for_is_closed_and_disturbs_nobody();
    one_write_is_bounded_and_a_full_channel_takes_nothing();
    return check_result("guest agent channel tests");
}
