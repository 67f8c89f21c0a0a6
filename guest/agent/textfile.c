#include "textfile.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

size_t textfile_read(const char *path, char *text, size_t size) {
    size_t length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t got;
        while (length < size - 1 && (got = read(fd, text + length, size - 1 - length)) > 0)
            length += (size_t)got;
        (void)close(fd);
    }
    text[length] = '\0';
    return length;
}

uint64_t textfile_number(const char *path) {
    char text[64];
    (void)textfile_read(path, text, sizeof text);
    return strtoull(text, NULL, 10);
}

uint64_t textfile_value(const char *path, const char *word) {
    char text[4096];
    (void)textfile_read(path, text, sizeof text);
    size_t length = strlen(word);
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, word, length) == 0 && line[length] == ' ')
            return strtoull(line + length, NULL, 10);
    }
    return 0;
}
