// Any bytes: the decoder answers or refuses, and never reads outside of them.
#include <stdlib.h>

#include "../include/libvmm.h"
#include "../launcher/config.h"
#include "config_blob.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1); // exact size, so that ASan sees the first byte beyond
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    struct launch_config config;
    char error[BH_ERROR_BYTES];
    (void)config_decode(copy, size, &config, error, sizeof error);
    free(copy);
    return 0;
}
