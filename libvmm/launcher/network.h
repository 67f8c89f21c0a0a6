#pragma once
#include "config.h"

// Moves this process into a new network namespace without an uplink: lo and, when asked for, a TAP that
// carries the gateway's address. Nothing is forwarded, nothing listens. Gives the TAP's descriptor for QEMU;
// for libkrun, which attaches by name, the TAP belongs to the VM's user and stays with the namespace, and
// there is -1.
int network_create(const struct launch_config *config, int *tap, char *error, size_t error_size);
