// Command line of bulkhead-krun. Each option at most once; unknown ones are refused.
//
//   bulkhead-krun --library PATH --kernel PATH --initramfs PATH --command-line TEXT
//                 --cpus N --memory-mib N --console-fd N --agent-socket PATH
//                 [--image PATH] [--upper PATH] [--volume-N MODE:PATH]... [--shares PATH]
//                 [--tap NAME --mac XX:XX:XX:XX:XX:XX]
//
//   --library       libkrun.so, 1.19 or later with its features blk and net
//   --kernel        uncompressed ELF kernel; --initramfs  initial file system of the guest
//   --command-line  kernel command line; libkrun appends where its virtio-mmio devices are
//   --cpus          1 to 255;  --memory-mib  64 to 1048576
//   --console-fd    write end of a pipe, opened anew through /proc/self/fd, that takes what the guest prints
//   to hvc0
//   --agent-socket  unix socket that libkrun makes: connections to it reach the guest's vsock port AGENT_PORT
//   --image         read-only disk (vda);  --upper  writable disk (vdb, or vda without --image)
//   --volume-N      more disks after these, N from 0 without gaps; MODE is ro or rw
//   --shares        a directory that the guest finds as the virtiofs SHARES_TAG
//   --tap           TAP in this network namespace that this user owns;  --mac  the guest's address on it
//
// All paths are inside the jail. Nothing here is secret.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The vsock port that the guest's agent listens on.
enum { AGENT_PORT = 1024 };

enum { MAX_VOLUMES = 3 };

#define SHARES_TAG "bulkhead"

struct volume {
    const char *path; // NULL for none
    bool read_only;
};

struct machine {
    const char *library, *kernel, *initramfs, *command_line, *agent_socket;
    const char *image, *upper, *shares, *tap; // NULL for none
    struct volume volumes[MAX_VOLUMES];
    uint8_t mac[6];
    uint8_t cpus;
    uint32_t memory_mib;
    int console_fd;
};

// 0, or -1 with a sentence in `error`. Strings point into argv.
int options_parse(int argc, char *const *argv, struct machine *machine, char *error, size_t error_size);
