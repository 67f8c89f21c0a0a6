// A log of bounded size and bounded rate: NAME and, before it, NAME.1. The writer is hostile.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bounded_log {
    int directory;
    const char *name;
    int source;      // non-blocking read end; -1 after its end
    int file;        // -1 after a write error: the log stops, the VM goes on
    uint64_t limit;  // bytes of both files together
    uint64_t size;   // of the present file
    uint64_t budget; // bytes that may be read now
    int64_t refilled_ms;
};

// Opens a fresh log. A file that is there becomes NAME.1.
int log_open(struct bounded_log *log, int directory, const char *name, int source, uint64_t limit,
             char *error, size_t error_size);
// Milliseconds until it may read again; 0 when it may now.
int log_wait_ms(struct bounded_log *log, int64_t now_ms);
// Moves what is readable, within the budget. With `all` regardless of the budget, up to the limit: the last
// words.
void log_pump(struct bounded_log *log, bool all);
void log_close(struct bounded_log *log);
