// Makes this guest one sandbox and no other: clock, entropy, names, network, and the files in /etc that tell
// of them.
#ifndef BULKHEAD_PERSONALIZE_H
#define BULKHEAD_PERSONALIZE_H

#include <stdbool.h>

#include "agent.pb.h"
#include "err.h"

int personalize(const bulkhead_agent_v1_Personalize *request, struct err *err);
bool personalize_done(void);

#endif
