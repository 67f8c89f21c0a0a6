#pragma once
#include <stdint.h>

// In this thread's network namespace: a raw socket for the echo requests that come in, whatever address they
// are for; the kernel answers them no longer. -errno.
int bh_echo_open(int family, int32_t *out);

// Writes a file of /proc/sys. -errno.
int bh_write_setting(const char *path, const char *value);
