#include "dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE (32 * 1024)

// What is there to read at one side, written to the other. Returns 0 at the end, -1 where either side is
// gone.
static int pass(int from, int to) {
    static char buffer[PIECE];
    ssize_t got = read(from, buffer, sizeof buffer);
    if (got < 0)
        return errno == EINTR ? 1 : -1;
    for (ssize_t done = 0; done < got;) {
        ssize_t put = write(to, buffer + done, (size_t)(got - done));
        if (put < 0)
            return -1;
        done += put;
    }
    return got > 0;
}

// One piece at a time: a side that does not read what it is sent stops both ways, until the host gives up.
static _Noreturn void relay(int connection) {
    struct pollfd watched[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = connection, .events = POLLIN}};
    for (;;) {
        if (poll(watched, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            _exit(1);
        }
        if (watched[1].revents) {
            int result = pass(connection, STDOUT_FILENO);
            if (result <= 0)
                _exit(result < 0);
        }
        if (watched[0].revents && pass(STDIN_FILENO, connection) <= 0) {
            (void)shutdown(connection, SHUT_WR);
            watched[0].fd = -1;
        }
    }
}

int dial_run(const bulkhead_agent_v1_Dial *request, int status, struct err *err) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)request->port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)request->port)};
    bool is_v6 = request->ip.size == sizeof v6.sin6_addr;
    if ((!is_v6 && request->ip.size != sizeof v4.sin_addr) || request->port == 0 || request->port > 65535)
        return err_set(err, FAIL_INVALID, "that is no address and port");
    memcpy(is_v6 ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr, request->ip.bytes, request->ip.size);
    int connection = socket(is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection < 0)
        return err_errno(err, "cannot make a socket");
    // A side that takes no more may still have sent something.
    (void)signal(SIGPIPE, SIG_IGN);
    // Waits for as long as the host does, whose release ends this process.
    const struct sockaddr *address = is_v6 ? (const struct sockaddr *)&v6 : (const struct sockaddr *)&v4;
    if (connect(connection, address, is_v6 ? sizeof v6 : sizeof v4) < 0) {
        int result = err_errno(err, "port %u", request->port);
        (void)close(connection);
        return result;
    }
    (void)close(status);
    relay(connection);
}
