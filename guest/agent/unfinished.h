// Files that are being written beside their place, taken away when the worker that wrote them was killed.
#ifndef BULKHEAD_UNFINISHED_H
#define BULKHEAD_UNFINISHED_H

#include <sys/types.h>

#include "err.h"

// Longest name of an unfinished file, with its end.
#define UNFINISHED_NAME 32

// The name that a worker gives its file: unique among running processes.
void unfinished_name(char name[UNFINISHED_NAME], pid_t worker);

// Remembers what a worker writes until it was reaped. Fails without memory only.
int unfinished_watch(pid_t worker, const char *path, struct err *err);

// A child was reaped; `status` as from waitpid. Starts a process that removes its file where it could not do
// so itself.
void unfinished_reaped(pid_t pid, int status);

#endif
