#include "personalize.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/random.h>

#include "etcfiles.h"
#include "link.h"
#include "mounts.h"
#include "network.h"
#include "walltime.h"

static bool done;

// Guests restored from one template begin with one and the same random state.
static int add_entropy(const void *bytes, size_t size, struct err *err) {
    struct {
        struct rand_pool_info info;
        uint8_t bytes[64];
    } pool = {.info = {.entropy_count = (int)size * 8, .buf_size = (int)size}};
    if (size == 0)
        return 0;
    memcpy(pool.bytes, bytes, size);
    int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "cannot open /dev/urandom");
    int result = ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0
                     ? err_errno(err, "cannot reseed the random generator")
                     : 0;
    (void)close(fd);
    return result;
}

int personalize(const bulkhead_agent_v1_Personalize *request, struct err *err) {
    if ((request->time_ms > 0 && walltime_set(request->time_ms, err) < 0) ||
        add_entropy(request->entropy.bytes, request->entropy.size, err) < 0)
        return -1;
    if (request->hostname[0] && sethostname(request->hostname, strlen(request->hostname)) < 0)
        return err_errno(err, "cannot set the host name");
    if (network_loopback_up(err) < 0)
        return -1;
    if (request->has_network && network_configure(&request->network, err) < 0)
        return -1;
    if (mounts_ready() && etcfiles_write(request, err) < 0)
        return -1;
    link_set_boot_id(request->boot_id);
    done = true;
    return 0;
}

bool personalize_done(void) {
    return done;
}
