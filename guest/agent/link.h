// The conversation with the host: frames in and out, hello, answers. Requests go to the dispatcher.
#ifndef BULKHEAD_LINK_H
#define BULKHEAD_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "agent.pb.h"
#include "err.h"

int link_open(struct err *err);

// Reads, handles and writes what can be without waiting. True when there is more to do at once.
bool link_pump(void);

// Nothing is sent before the first hello.
void link_send(const bulkhead_agent_v1_GuestMessage *message);
void link_done(uint64_t request_id);
void link_fail(uint64_t request_id, const struct err *err);

// Random until the host gives one with Personalize.
void link_set_boot_id(const char *boot_id);

#endif
