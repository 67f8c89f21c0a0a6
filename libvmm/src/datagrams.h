#pragma once
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

enum { BH_NOTHING = -0x10000 }; // no errno

// Takes a datagram from a socket that tells destinations; IPv4 addresses are written in IPv6 form. Its
// length, BH_NOTHING, or -errno.
int bh_take(int fd, uint8_t *data, size_t size, struct sockaddr_in6 *source,
            struct sockaddr_in6 *destination);

// "ADDRESS PORT ADDRESS PORT", in BH_FLOW_BYTES; IPv4 as IPv4. -1 where it does not fit.
int bh_write_flow(char *flow, const struct sockaddr_in6 *source, const struct sockaddr_in6 *destination);
