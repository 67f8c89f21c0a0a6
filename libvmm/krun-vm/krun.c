#include "krun.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int krun_load(const char *path, struct krun *krun, char *error, size_t error_size) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        (void)snprintf(error, error_size, "%s", dlerror());
        return -1;
    }
    const struct {
        const char *name;
        void *call; // where the pointer goes
    } calls[] = {
#define KRUN_ENTRY(name, arguments) {"krun_" #name, &krun->name},
        KRUN_CALLS(KRUN_ENTRY)
#undef KRUN_ENTRY
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        void *found = dlsym(library, calls[i].name);
        if (!found) {
            (void)snprintf(error, error_size,
                           "libkrun 1.19 or later with blk and net is needed: %s has no %s", path,
                           calls[i].name);
            return -1;
        }
        memcpy(calls[i].call, &found, sizeof found); // POSIX promises that the sizes agree
    }
    if (krun->has_feature(KRUN_FEATURE_NET) != 1 || krun->has_feature(KRUN_FEATURE_BLK) != 1) {
        (void)snprintf(error, error_size, "%s was built without network or disks", path);
        return -1;
    }
    return 0;
}
