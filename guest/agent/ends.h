// Both ends of what connects the agent to a program: pipes or a terminal, and the pipe on which the start is
// told.
#ifndef BULKHEAD_ENDS_H
#define BULKHEAD_ENDS_H

#include <stdbool.h>

#include "agent.pb.h"

// -1 where there is none. Whoever takes a descriptor over puts -1 in its place.
struct ends {
    int child[3], agent[3]; // stdin, stdout, stderr
    int status[2];          // the agent's and the child's end
};

// With a terminal, which has no stderr of its own on the agent's side, or without. Close it also when this
// fails (-1, errno).
int ends_open(struct ends *ends, const bulkhead_agent_v1_Terminal *terminal, bool with_stdin);
void ends_close(struct ends *ends);

#endif
