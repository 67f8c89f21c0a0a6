// Error results inside libvmm and the launcher: a negative errno and one sentence.
#pragma once
#include <stddef.h>

// Writes "<formatted text>: <strerror>" (the second part when `code` is not 0) and returns -code.
__attribute__((format(printf, 4, 5))) int bh_fail(char *error, size_t error_size, int code,
                                                  const char *format, ...);
