// The jail around the VMM. Called in this order in the VMM's process, which is root and number 1 of its pid
// namespace.
#pragma once
#include "config.h"
#include "limitations.h"

// Enters the cgroups, then own mount, ipc, uts and cgroup namespaces and an empty root with only the bind
// mounts and devices of the configuration, /dev/null, its own /proc, for libkrun AGENT_DIRECTORY, and
// SHARES_DIRECTORY for whoever serves it.
int jail_enter(const struct launch_config *config, struct limitations *limitations, char *error,
               size_t error_size);

// Limits, no capabilities, the VM's own user, no way back, and death with the supervisor.
int jail_drop_privileges(const struct launch_config *config, char *error, size_t error_size);

// The same for the file server, which keeps the rights of root over the one user of a user namespace of its
// own.
int jail_drop_server_privileges(const struct launch_config *config, char *error, size_t error_size);

// File access by path: reading and executing below the jail's root, writing the configuration's devices and
// writable files and shares, making libkrun's socket; nothing else. What is open already is not affected.
int jail_landlock(const struct launch_config *config, struct limitations *limitations, char *error,
                  size_t error_size);

// The allow-list of system calls for the kind of VMM, with what serving its shares takes. After it only
// execve of the VMM is left to do.
int jail_seccomp(const struct launch_config *config, char *error, size_t error_size);

// Puts this process into each cgroup directory.
int jail_join_cgroups(const struct string_list *cgroups, char *error, size_t error_size);
