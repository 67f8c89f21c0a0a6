// What the guest says of itself.
#ifndef BULKHEAD_STATS_H
#define BULKHEAD_STATS_H

#include "agent.pb.h"

void stats_collect(bulkhead_agent_v1_Stats *stats);

#endif
