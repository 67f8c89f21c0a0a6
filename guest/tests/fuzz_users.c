// Fuzzes the parser of passwd and group: the input is a user, a NUL byte, and a text that serves as both
// files.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "users.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct user user;
    struct err err;
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    if (!end)
        return 0;
    const char *text = (const char *)end + 1;
    size_t length = size - (size_t)(end + 1 - data);
    (void)users_resolve((const char *)data, text, length, text, length, &user, &err);
    return 0;
}
