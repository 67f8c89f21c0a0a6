#pragma once
#include <stdint.h>

// Reads state and start time out of the text of /proc/PID/stat; -EBADMSG when it has another form.
int bh_parse_stat(const char *text, char *state, uint64_t *start_time);
