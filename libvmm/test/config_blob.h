// Builds launch configurations for tests and fuzzing.
#pragma once
#include <stdint.h>
#include <string.h>

struct blob {
    uint8_t bytes[8192];
    size_t size;
};

static inline void blob_begin(struct blob *blob) {
    memcpy(blob->bytes, "BHVM\1\0\0\0", 8);
    blob->size = 8;
}

static inline void blob_record(struct blob *blob, uint16_t tag, const void *value, uint32_t size) {
    uint8_t *at = blob->bytes + blob->size;
    uint32_t head = tag;
    memcpy(at, &head, 4);
    memcpy(at + 4, &size, 4);
    memcpy(at + 8, value, size);
    blob->size += 8 + size;
}

static inline void blob_text(struct blob *blob, uint16_t tag, const char *text) {
    blob_record(blob, tag, text, (uint32_t)strlen(text) + 1);
}

static inline void blob_number(struct blob *blob, uint16_t tag, uint64_t number) {
    blob_record(blob, tag, &number, sizeof number);
}
