// The floor of the KVM benches: the least program that boots a kernel by libkrun. No jail, disks, network or
// agent. Usage: floor-launcher LIBKRUN KERNEL INITRAMFS MEMORY_MIB COMMAND_LINE [SOCKET]
//   SOCKET  a unix socket that leads to the guest's vsock port 1024
// The guest's console is standard output. Ends with status 0 when the guest resets itself.
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 64, EXIT_SETUP = 70 };
enum { KERNEL_FORMAT_ELF = 1, LOG_ERRORS = 1, GUEST_PORT = 1024 };

#define KRUN_CALLS(X)                                                                                        \
    X(set_log_level, (uint32_t))                                                                             \
    X(create_ctx, (void))                                                                                    \
    X(set_vm_config, (uint32_t, uint8_t, uint32_t))                                                          \
    X(disable_implicit_vsock, (uint32_t))                                                                    \
    X(add_vsock, (uint32_t, uint32_t))                                                                       \
    X(add_vsock_port2, (uint32_t, uint32_t, const char *, bool))                                             \
    X(set_console_output, (uint32_t, const char *))                                                          \
    X(set_kernel, (uint32_t, const char *, uint32_t, const char *, const char *))                            \
    X(start_enter, (uint32_t))

struct krun {
#define KRUN_MEMBER(name, arguments) int32_t(*name) arguments;
    KRUN_CALLS(KRUN_MEMBER)
#undef KRUN_MEMBER
};

static bool load(const char *path, struct krun *krun) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        (void)fprintf(stderr, "floor-launcher: %s\n", dlerror());
        return false;
    }
    const struct {
        const char *name;
        void *call;
    } calls[] = {
#define KRUN_ENTRY(name, arguments) {"krun_" #name, &krun->name},
        KRUN_CALLS(KRUN_ENTRY)
#undef KRUN_ENTRY
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        void *found = dlsym(library, calls[i].name);
        if (!found) {
            (void)fprintf(stderr, "floor-launcher: %s has no %s\n", path, calls[i].name);
            return false;
        }
        memcpy(calls[i].call, &found, sizeof found);
    }
    return true;
}

int main(int argc, char **argv) {
    if (argc < 6 || argc > 7) {
        (void)fprintf(stderr,
                      "usage: floor-launcher LIBKRUN KERNEL INITRAMFS MEMORY_MIB COMMAND_LINE [SOCKET]\n");
        return EXIT_USAGE;
    }
    struct krun krun;
    if (!load(argv[1], &krun))
        return EXIT_SETUP;
    unsigned long memory = strtoul(argv[4], NULL, 10);
    int32_t created = krun.set_log_level(LOG_ERRORS) < 0 ? -1 : krun.create_ctx();
    uint32_t context = (uint32_t)created;
    // The implicit vsock device would take the host's network into the guest.
    if (created < 0 || krun.set_vm_config(context, 1, (uint32_t)memory) < 0 ||
        krun.disable_implicit_vsock(context) < 0 || krun.add_vsock(context, 0) < 0 ||
        (argc == 7 && krun.add_vsock_port2(context, GUEST_PORT, argv[6], true) < 0) ||
        // Of libkrun's ways to a console the only one that does without a terminal.
        krun.set_console_output(context, "/proc/self/fd/1") < 0 ||
        krun.set_kernel(context, argv[2], KERNEL_FORMAT_ELF, argv[3], argv[5]) < 0 ||
        krun.start_enter(context) < 0) {
        (void)fprintf(stderr, "floor-launcher: libkrun refused the machine\n");
        return EXIT_SETUP;
    }
    return 0;
}
