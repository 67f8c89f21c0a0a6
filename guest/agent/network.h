// eth0 and lo, through netlink.
#ifndef BULKHEAD_NETWORK_H
#define BULKHEAD_NETWORK_H

#include "agent.pb.h"
#include "err.h"

int network_loopback_up(struct err *err);

// Gives eth0 this address, and takes away what it had before.
int network_configure(const bulkhead_agent_v1_NetworkConfig *config, struct err *err);

#endif
