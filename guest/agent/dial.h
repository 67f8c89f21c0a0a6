// A TCP connection of the guest whose bytes are those of a session.
#ifndef BULKHEAD_DIAL_H
#define BULKHEAD_DIAL_H

#include "agent.pb.h"
#include "err.h"

// The child's whole work: connects, closes `status` and relays until the other side has sent its last byte.
// Returns -1 where it cannot connect, and never after that.
int dial_run(const bulkhead_agent_v1_Dial *request, int status, struct err *err);

#endif
