#include "ends.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void close_all(int *fds, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (fds[i] >= 0)
            (void)close(fds[i]);
        fds[i] = -1;
    }
}

static int open_pipe(int *reader, int *writer, int *agents_end) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -1;
    *reader = fds[0];
    *writer = fds[1];
    // Only the agent's end: the flag on a pipe belongs to the end, and programs expect theirs to wait.
    return fcntl(*agents_end, F_SETFL, O_NONBLOCK);
}

static int open_terminal(struct ends *ends, const bulkhead_agent_v1_Terminal *size) {
    int unlock = 0;
    struct winsize window = {.ws_col = (unsigned short)size->columns, .ws_row = (unsigned short)size->rows};
    int master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    ends->agent[1] = master;
    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0 || ioctl(master, TIOCSWINSZ, &window) < 0)
        return -1;
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    ends->child[1] = slave;
    ends->child[0] = fcntl(slave, F_DUPFD_CLOEXEC, 3);
    ends->child[2] = fcntl(slave, F_DUPFD_CLOEXEC, 3);
    ends->agent[0] = fcntl(master, F_DUPFD_CLOEXEC, 3);
    return slave < 0 || ends->child[0] < 0 || ends->child[2] < 0 || ends->agent[0] < 0 ? -1 : 0;
}

int ends_open(struct ends *ends, const bulkhead_agent_v1_Terminal *terminal, bool with_stdin) {
    *ends = (struct ends){{-1, -1, -1}, {-1, -1, -1}, {-1, -1}};
    if (open_pipe(&ends->status[0], &ends->status[1], &ends->status[0]) < 0)
        return -1;
    if (terminal)
        return open_terminal(ends, terminal);
    if (with_stdin && open_pipe(&ends->child[0], &ends->agent[0], &ends->agent[0]) < 0)
        return -1;
    if (open_pipe(&ends->agent[1], &ends->child[1], &ends->agent[1]) < 0)
        return -1;
    return open_pipe(&ends->agent[2], &ends->child[2], &ends->agent[2]);
}

void ends_close(struct ends *ends) {
    close_all(ends->child, 3);
    close_all(ends->agent, 3);
    close_all(ends->status, 2);
}
