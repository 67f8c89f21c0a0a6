#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int bh_fail(char *error, size_t error_size, int code, const char *format, ...) {
    if (error && error_size > 0) {
        va_list arguments;
        va_start(arguments, format);
        int written = vsnprintf(error, error_size, format, arguments);
        va_end(arguments);
        if (written >= 0 && (size_t)written < error_size && code != 0) {
            char reason[128];
            // The GNU variant: may return a static string, never writes beyond the buffer.
            const char *text = strerror_r(code, reason, sizeof reason);
            (void)snprintf(error + written, error_size - (size_t)written, ": %s", text);
        }
    }
    return -code;
}
