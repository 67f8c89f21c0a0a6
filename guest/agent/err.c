#include "err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void format_text(struct err *err, const char *format, va_list args) {
    if (vsnprintf(err->text, sizeof err->text, format, args) < 0)
        err->text[0] = '\0';
}

int err_set(struct err *err, bulkhead_agent_v1_FailureCode code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    format_text(err, format, args);
    va_end(args);
    err->code = code;
    return -1;
}

int err_errno(struct err *err, const char *format, ...) {
    int number = errno;
    va_list args;
    va_start(args, format);
    format_text(err, format, args);
    va_end(args);
    const char *description = strerrordesc_np(number);
    size_t used = strlen(err->text);
    if (snprintf(err->text + used, sizeof err->text - used, ": %s",
                 description ? description : "unknown error") < 0)
        err->text[used] = '\0';
    err->code = number == ENOMEM || number == EMFILE || number == ENFILE || number == EAGAIN ? FAIL_EXHAUSTED
                                                                                             : FAIL_IO;
    return -1;
}
