// bulkhead-krun: the VMM of kind libkrun. bulkhead-vmm starts it inside the jail; it describes the machine to
// libkrun and becomes it. Usage: options.h.
//
// Exits with EXIT_USAGE or EXIT_SETUP and a sentence on stderr when no machine came to be. Afterwards libkrun
// ends the process: 0 when the guest resets itself (also after a panic of its kernel), SIGABRT with a
// sentence when libkrun fails.
#include <stdio.h>
#include <string.h>

#include "krun.h"
#include "lockdown.h"
#include "options.h"

enum { EXIT_USAGE = 64, EXIT_SETUP = 70 };

static const uint32_t net_features = KRUN_NET_CSUM | KRUN_NET_GUEST_CSUM | KRUN_NET_GUEST_TSO4 |
                                     KRUN_NET_GUEST_UFO | KRUN_NET_HOST_TSO4 | KRUN_NET_HOST_UFO;

static int fail(const char *what, int32_t result) {
    (void)fprintf(stderr, "bulkhead-krun: %s: %s\n", what, strerror(-result));
    return EXIT_SETUP;
}

static int32_t add_disk(const struct krun *krun, uint32_t context, const char *name, const char *path,
                        bool read_only) {
    return krun->add_disk3(context, name, path, KRUN_DISK_FORMAT_RAW, read_only, false, KRUN_SYNC_RELAXED);
}

// Returns only on failure.
static int run(const struct krun *krun, const struct machine *machine) {
    char console[64];
    (void)snprintf(console, sizeof console, "/proc/self/fd/%d", machine->console_fd);
    int32_t result = krun->init_log(2, KRUN_LOG_LEVEL_WARN, KRUN_LOG_STYLE_NEVER, KRUN_LOG_OPTION_NO_ENV);
    if (result < 0)
        return fail("log", result);
    int32_t created = krun->create_ctx();
    if (created < 0)
        return fail("context", created);
    uint32_t context = (uint32_t)created;
    if ((result = krun->set_vm_config(context, machine->cpus, machine->memory_mib)) < 0)
        return fail("CPUs and memory", result);
    // The implicit device would hand the host's network to the guest (TSI).
    if ((result = krun->disable_implicit_vsock(context)) < 0 || (result = krun->add_vsock(context, 0)) < 0 ||
        (result = krun->add_vsock_port2(context, AGENT_PORT, machine->agent_socket, true)) < 0)
        return fail("agent socket", result);
    if (machine->tap &&
        (result = krun->add_net_tap(context, machine->tap, machine->mac, net_features, 0)) < 0)
        return fail("network", result);
    if ((result = krun->set_kernel(context, machine->kernel, KRUN_KERNEL_FORMAT_ELF, machine->initramfs,
                                   machine->command_line)) < 0)
        return fail("kernel", result);
    if ((machine->image && (result = add_disk(krun, context, "image", machine->image, true)) < 0) ||
        (machine->upper && (result = add_disk(krun, context, "upper", machine->upper, false)) < 0))
        return fail("disks", result);
    static const char *const names[MAX_VOLUMES] = {"volume0", "volume1", "volume2"};
    for (size_t i = 0; i < MAX_VOLUMES && machine->volumes[i].path; i++) {
        const struct volume *volume = &machine->volumes[i];
        if ((result = add_disk(krun, context, names[i], volume->path, volume->read_only)) < 0)
            return fail("disks of volumes", result);
    }
    if (machine->shares && (result = krun->add_virtiofs4(context, SHARES_TAG, machine->shares, 0, false,
                                                         KRUN_FS_SIMPLIFIED)) < 0)
        return fail("shared directories", result);
    // The implicit console, with output to the launcher's pipe and no input: of libkrun's ways it is the only
    // one that makes hvc0 without a terminal.
    if ((result = krun->set_console_output(context, console)) < 0)
        return fail("console", result);
    if ((result = lockdown()) < 0)
        return fail("seccomp", result);
    return fail("start of the machine", krun->start_enter(context));
}

int main(int argc, char **argv) {
    struct machine machine;
    struct krun krun;
    char error[512];
    if (options_parse(argc, argv, &machine, error, sizeof error) != 0) {
        (void)fprintf(stderr, "bulkhead-krun: %s\n", error);
        return EXIT_USAGE;
    }
    if (krun_load(machine.library, &krun, error, sizeof error) != 0) {
        (void)fprintf(stderr, "bulkhead-krun: %s\n", error);
        return EXIT_SETUP;
    }
    return run(&krun, &machine);
}
