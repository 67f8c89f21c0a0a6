// The calls of libkrun that are used, with their types as upstream's libkrun.h declares them. Each gives 0
// (or a number) or a negative errno.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KRUN_CALLS(CALL)                                                                                     \
    CALL(has_feature, (uint64_t feature))                                                                    \
    CALL(init_log, (int target, uint32_t level, uint32_t style, uint32_t options))                           \
    CALL(create_ctx, (void))                                                                                 \
    CALL(set_vm_config, (uint32_t context, uint8_t cpus, uint32_t memory_mib))                               \
    CALL(disable_implicit_vsock, (uint32_t context))                                                         \
    CALL(add_vsock, (uint32_t context, uint32_t tsi_features))                                               \
    CALL(add_vsock_port2, (uint32_t context, uint32_t port, const char *path, bool listen))                  \
    CALL(add_net_tap,                                                                                        \
         (uint32_t context, const char *name, const uint8_t *mac, uint32_t features, uint32_t flags))        \
    CALL(set_kernel, (uint32_t context, const char *kernel, uint32_t format, const char *initramfs,          \
                      const char *command_line))                                                             \
    CALL(add_disk3, (uint32_t context, const char *id, const char *path, uint32_t format, bool read_only,    \
                     bool direct_io, uint32_t sync_mode))                                                    \
    CALL(add_virtiofs4, (uint32_t context, const char *tag, const char *path, uint64_t shm_size,             \
                         bool read_only, uint32_t semantics))                                                \
    CALL(set_console_output, (uint32_t context, const char *path))                                           \
    CALL(start_enter, (uint32_t context))

struct krun {
#define KRUN_MEMBER(name, arguments) int32_t(*name) arguments;
    KRUN_CALLS(KRUN_MEMBER)
#undef KRUN_MEMBER
};

enum { KRUN_FEATURE_NET = 0, KRUN_FEATURE_BLK = 1 };
enum { KRUN_LOG_LEVEL_WARN = 2, KRUN_LOG_STYLE_NEVER = 2, KRUN_LOG_OPTION_NO_ENV = 1 };
enum { KRUN_KERNEL_FORMAT_ELF = 1 };
enum { KRUN_DISK_FORMAT_RAW = 0 };
// The guest's flushes reach the host's disk; nothing beyond them is synced.
enum { KRUN_SYNC_RELAXED = 1 };
// Whoever asks owns what is served, and nothing has extended attributes: the VMM has one user.
enum { KRUN_FS_SIMPLIFIED = 1 };
// Checksum and segmentation offloads in both directions that every TAP of Linux has.
enum {
    KRUN_NET_CSUM = 1 << 0,
    KRUN_NET_GUEST_CSUM = 1 << 1,
    KRUN_NET_GUEST_TSO4 = 1 << 7,
    KRUN_NET_GUEST_UFO = 1 << 10,
    KRUN_NET_HOST_TSO4 = 1 << 11,
    KRUN_NET_HOST_UFO = 1 << 14,
};

// Loads the library and finds every call. 0, or -1 with a sentence.
int krun_load(const char *path, struct krun *krun, char *error, size_t error_size);
