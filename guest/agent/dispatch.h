// Hands a request of the host to the part that serves it, and answers.
#ifndef BULKHEAD_DISPATCH_H
#define BULKHEAD_DISPATCH_H

#include "agent.pb.h"

void dispatch(bulkhead_agent_v1_HostMessage *message);

#endif
