// The launch configuration, as src/vmm/launch-config.ts encodes it.
//
// Form: "BHVM", u32 version, then records of u16 tag, u16 zero, u32 length and that many bytes; all
// little-endian. Not protobuf: this is read by root before any jail exists, holds a flat list of strings and
// numbers, and a decoder that fits on one screen can be checked by eye. Unknown tags, wrong lengths, missing
// or repeated scalars and strings with NUL bytes are errors, never skipped.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_MAGIC "BHVM"
#define CONFIG_VERSION 1u

enum config_tag {
    TAG_ID = 1,
    TAG_DIRECTORY,
    TAG_KIND,
    TAG_UID,
    TAG_GID,
    TAG_ARGUMENT,
    TAG_BIND,
    TAG_VMM_CGROUP,
    TAG_SUPERVISOR_CGROUP,
    TAG_OOM_FILE,
    TAG_VMM_FDS,
    TAG_TAP_FD,
    TAG_TAP_ADDRESS,
    TAG_CONSOLE_FD,
    TAG_LOG_BYTES,
    TAG_ADDRESS_SPACE,
    TAG_ANNOTATIONS,
    TAG_LIMITATION,
    TAG_SHARE,
    TAG_SERVER_ARGUMENT,
    TAG_SERVER_BIND,
    TAG_SERVER_FD,
    TAG_LAST = TAG_SERVER_FD,
};

// In the jail of kind libkrun: a file system of its own in memory, with room for one socket, that belongs to
// the VM's user. The daemon reaches it through /proc/PID/root (bh_jail_connect).
#define AGENT_DIRECTORY "/agent"

// Name of the TAP in every VM's network namespace.
#define TAP_NAME "tap0"

// In the jail of whoever serves shares of the host's directories (the file server; libkrun by itself): a
// directory with one entry for each, by number.
#define SHARES_DIRECTORY "/shares"

// VMM_FILES is the file server beside a VMM of kind software; it has a jail of its own.
enum vmm_kind { VMM_SOFTWARE = 1, VMM_LIBKRUN, VMM_FILES };

// Far above what a launch needs; they bound the tables below.
enum { MAX_ARGUMENTS = 128, MAX_BINDS = 32, MAX_CGROUPS = 16, MAX_LIMITATIONS = 16, MAX_SHARES = 32 };

// What of the host the VMM finds in its jail. `source` on the host, `target` in the jail, both absolute.
struct bind_mount {
    const char *source;
    const char *target;
    bool executable;
    // One regular file that the VMM may write. It belongs to the VM's user before the launch.
    bool writable;
    // A character device below /dev: not the host's file but a new node of the same numbers that belongs to
    // the VM's user, so that the modes and groups of the host's /dev do not matter.
    bool device;
};

// A directory or file of the host that the guest gets, as an inherited descriptor.
struct share {
    int fd; // opened with O_PATH
    bool writable;
};

struct string_list {
    const char *items[MAX_CGROUPS];
    size_t count;
};

// Strings point into the blob.
struct launch_config {
    const char *id;
    const char *directory;
    enum vmm_kind kind;
    uint32_t uid, gid;
    const char
        *arguments[MAX_ARGUMENTS + 1]; // argv of the VMM; the first is its path in the jail; NULL at the end
    size_t argument_count;
    struct bind_mount binds[MAX_BINDS];
    size_t bind_count;
    struct share shares[MAX_SHARES]; // entry N appears as SHARES_DIRECTORY "/N"
    size_t share_count;
    // kind software with shares: argv and binds of the file server. It finds the socket to listen on as
    // descriptor BH_SPAWN_FIRST_FD; the VMM is connected to it by server_fd, which is -1 otherwise.
    const char *server_arguments[MAX_ARGUMENTS + 1];
    size_t server_argument_count;
    struct bind_mount server_binds[MAX_BINDS];
    size_t server_bind_count;
    int server_fd;
    struct string_list vmm_cgroups;        // directories whose cgroup.procs the VMM enters
    struct string_list supervisor_cgroups; // the same for the supervisor
    const char *oom_file;                  // file with a line "oom_kill N"; NULL for none
    uint32_t vmm_fds; // inherited descriptors, from BH_SPAWN_FIRST_FD, that the VMM keeps
    // Numbers in the VMM. kind software: tap_fd is -1 for a VM without network. kind libkrun: always -1, as
    // the VMM attaches to the TAP by its name; the console is a pipe's write end, which the VMM opens anew by
    // /proc/self/fd.
    int tap_fd, console_fd;
    // Host side of the TAP, network byte order; tap_prefix 0 for a VM without network.
    uint32_t tap_address;
    uint32_t tap_prefix;
    uint64_t log_bytes;      // bound of each log (console, VMM's stderr)
    uint64_t address_space;  // RLIMIT_AS, 0 for none
    const char *annotations; // text of the caller for the record
    struct string_list limitations;
};

// Decodes and validates. The blob must stay alive and be writable: it gets terminators in place.
// 0 or a negative errno with a sentence.
int config_decode(uint8_t *blob, size_t size, struct launch_config *config, char *error, size_t error_size);
