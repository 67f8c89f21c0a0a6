// hostname, hosts, resolv.conf and machine-id in the container's /etc.
#ifndef BULKHEAD_ETCFILES_H
#define BULKHEAD_ETCFILES_H

#include "agent.pb.h"
#include "err.h"

// Writes in a child of limited time: what lies at these paths is the image's or an earlier run's choice.
int etcfiles_write(const bulkhead_agent_v1_Personalize *request, struct err *err);

#endif
