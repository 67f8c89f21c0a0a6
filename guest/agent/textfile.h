// Small text files of the kernel.
#ifndef BULKHEAD_TEXTFILE_H
#define BULKHEAD_TEXTFILE_H

#include <stddef.h>
#include <stdint.h>

// Reads at most size - 1 bytes and ends them with NUL. Returns the length, 0 also for a file that cannot be
// read.
size_t textfile_read(const char *path, char *text, size_t size);

// The number the file begins with, 0 without one.
uint64_t textfile_number(const char *path);

// The number behind a word that begins a line ("MemTotal:", "oom_kill"), 0 without one.
uint64_t textfile_value(const char *path, const char *word);

#endif
