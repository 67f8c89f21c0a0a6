#include "network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../src/cleanup.h"
#include "../src/error.h"
#include "closed.h"

static int set_up(int control, const char *name) {
    struct ifreq request = {0};
    (void)strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
    if (ioctl(control, SIOCGIFFLAGS, &request) != 0)
        return -errno;
    request.ifr_flags |= IFF_UP;
    return ioctl(control, SIOCSIFFLAGS, &request) == 0 ? 0 : -errno;
}

static int set_address(int control, unsigned long call, uint32_t address) {
    struct ifreq request = {0};
    (void)strncpy(request.ifr_name, TAP_NAME, sizeof request.ifr_name - 1);
    struct sockaddr_in socket_address = {.sin_family = AF_INET, .sin_addr.s_addr = address};
    memcpy(&request.ifr_addr, &socket_address, sizeof socket_address);
    return ioctl(control, call, &request) == 0 ? 0 : -errno;
}

// New interfaces of this namespace get no IPv6 address until a gateway wants one, so the guest has no
// neighbour there.
static int disable_ipv6(void) {
    CLEANUP_FD fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno; // a host without IPv6
    return write(fd, "1", 1) == 1 ? 0 : -errno;
}

int network_create(const struct launch_config *config, int *out, char *error, size_t error_size) {
    if (unshare(CLONE_NEWNET) != 0)
        return bh_fail(error, error_size, errno, "network namespace");
    CLEANUP_FD control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (control < 0)
        return bh_fail(error, error_size, errno, "socket");
    int result = disable_ipv6();
    if (result == 0)
        result = set_up(control, "lo");
    if (result != 0)
        return bh_fail(error, error_size, -result, "network namespace");
    if (config->tap_prefix == 0)
        return 0;

    CLEANUP_FD tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (tap < 0)
        return bh_fail(error, error_size, errno, "/dev/net/tun");
    struct ifreq request = {.ifr_name = TAP_NAME, .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    if (ioctl(tap, TUNSETIFF, &request) != 0)
        return bh_fail(error, error_size, errno, "TAP");
    result = network_close(TAP_NAME);
    if (result != 0)
        return bh_fail(error, error_size, -result, "nftables rule that drops the guest's frames");
    uint32_t mask = htonl((uint32_t)(~0ull << (32 - config->tap_prefix)));
    result = set_address(control, SIOCSIFADDR, config->tap_address);
    if (result == 0)
        result = set_address(control, SIOCSIFNETMASK, mask);
    if (result == 0)
        result = set_up(control, TAP_NAME);
    if (result != 0)
        return bh_fail(error, error_size, -result, "address of the TAP");
    if (config->kind == VMM_LIBKRUN) {
        if (ioctl(tap, TUNSETOWNER, (unsigned long)config->uid) != 0 || ioctl(tap, TUNSETPERSIST, 1UL) != 0)
            return bh_fail(error, error_size, errno, "owner of the TAP");
        return 0;
    }
    *out = bh_take_fd(&tap);
    return 0;
}
