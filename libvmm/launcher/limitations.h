// What this host could not give. Child and supervisor share the list over a pipe, as lines.
#pragma once
#include <stddef.h>

enum { LIMITATIONS_BYTES = 4096 };

struct limitations {
    char text[LIMITATIONS_BYTES]; // sentences, each with a newline at its end
    size_t size;
};

__attribute__((format(printf, 2, 3))) void limitation_add(struct limitations *list, const char *format, ...);
