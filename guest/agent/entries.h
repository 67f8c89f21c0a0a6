// What a name of the container stands for, as the host is told.
#ifndef BULKHEAD_ENTRIES_H
#define BULKHEAD_ENTRIES_H

#include <stdio.h>

#include "agent.pb.h"

// Of `name` in the directory, or of the descriptor itself where it is empty; without its name. Returns -1
// with errno.
int entries_describe(int fd, const char *name, bulkhead_agent_v1_FileEntry *entry);
void entries_name(bulkhead_agent_v1_FileEntry *entry, const char *name);
// Behind its length as a varint. Returns -1 with errno.
int entries_put(FILE *out, const bulkhead_agent_v1_FileEntry *entry);

#endif
