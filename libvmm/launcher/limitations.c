#include "limitations.h"

#include <stdarg.h>
#include <stdio.h>

void limitation_add(struct limitations *list, const char *format, ...) {
    size_t room = sizeof list->text - list->size;
    va_list arguments;
    va_start(arguments, format);
    int written = vsnprintf(list->text + list->size, room, format, arguments);
    va_end(arguments);
    // A sentence that does not fit is dropped whole; 4 KiB hold every one this program knows at once.
    if (written < 0 || (size_t)written + 1 >= room) {
        list->text[list->size] = '\0';
        return;
    }
    list->size += (size_t)written;
    list->text[list->size++] = '\n';
    list->text[list->size] = '\0';
}
