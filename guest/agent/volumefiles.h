// Files of ConfigMaps and Secrets, replaced all at once while programs read them, as in a Pod.
#ifndef BULKHEAD_VOLUMEFILES_H
#define BULKHEAD_VOLUMEFILES_H

#include "agent.pb.h"
#include "err.h"

int volumefiles_write(const bulkhead_agent_v1_WriteVolumeFiles *request, struct err *err);

#endif
