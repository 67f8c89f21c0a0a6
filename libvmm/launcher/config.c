#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../include/libvmm.h"
#include "../src/error.h"

// Room for every inherited descriptor, TAP and console; the launcher keeps its own above.
enum { MAX_VMM_FD = 62 };

enum { HEADER_BYTES = 8, RECORD_BYTES = 8 };

static uint32_t read_u32(const uint8_t *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static bool read_number(const uint8_t *value, size_t size, uint64_t maximum, uint64_t *out) {
    if (size != 8)
        return false;
    *out = (uint64_t)read_u32(value) | (uint64_t)read_u32(value + 4) << 32;
    return *out <= maximum;
}

static bool set_once(const char **slot, const char *value) {
    if (*slot)
        return false;
    *slot = value;
    return true;
}

static bool append(struct string_list *list, const char *value) {
    if (list->count == MAX_CGROUPS)
        return false;
    list->items[list->count++] = value;
    return true;
}

static bool valid_id(const char *id) {
    size_t length = strlen(id);
    return length >= 1 && length <= 63 &&
           strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == length;
}

static bool valid_path(const char *path) {
    if (path[0] != '/' || strlen(path) >= 4096)
        return false;
    for (const char *part = path; part; part = strchr(part + 1, '/'))
        if (strncmp(part, "/../", 4) == 0 || strcmp(part, "/..") == 0)
            return false;
    return true;
}

// "SOURCE TARGET FLAGS" with unit separators (0x1f) between, flags out of x (executable), w (writable) and
// d (device).
static bool decode_bind(char *text, struct bind_mount *binds, size_t *count) {
    if (*count == MAX_BINDS)
        return false;
    char *target = strchr(text, '\x1f');
    char *flags = target ? strchr(target + 1, '\x1f') : NULL;
    if (!flags)
        return false;
    *target++ = '\0';
    *flags++ = '\0';
    if (!valid_path(text) || !valid_path(target) || strcmp(target, "/") == 0 ||
        strspn(flags, "xwd") != strlen(flags))
        return false;
    struct bind_mount bind = {.source = text,
                              .target = target,
                              .executable = strchr(flags, 'x'),
                              .writable = strchr(flags, 'w'),
                              .device = strchr(flags, 'd')};
    // What can be written is never run, and a device is neither.
    if (bind.executable + bind.writable + bind.device > 1 ||
        (bind.device && (strncmp(target, "/dev/", 5) != 0 || strcmp(target, "/dev/null") == 0)))
        return false;
    binds[(*count)++] = bind;
    return true;
}

// "rw" or "ro". The descriptors of shares follow those of the VMM, in the order of their records.
static bool decode_share(const char *text, struct launch_config *config) {
    bool writable = strcmp(text, "rw") == 0;
    if (config->share_count == MAX_SHARES || (!writable && strcmp(text, "ro") != 0))
        return false;
    config->shares[config->share_count++] = (struct share){.fd = -1, .writable = writable};
    return true;
}

// "A.B.C.D/PREFIX"
static bool decode_address(char *text, struct launch_config *config) {
    char *slash = strchr(text, '/');
    if (!slash || config->tap_prefix)
        return false;
    *slash = '\0';
    char *end = NULL;
    unsigned long prefix = strtoul(slash + 1, &end, 10);
    if (end == slash + 1 || *end != '\0' || prefix < 1 || prefix > 32)
        return false;
    config->tap_prefix = (uint32_t)prefix;
    return inet_pton(AF_INET, text, &config->tap_address) == 1;
}

static bool decode_record(uint16_t tag, uint8_t *value, size_t size, struct launch_config *config) {
    char *text = (char *)value;
    uint64_t number = 0;
    switch ((enum config_tag)tag) {
    case TAG_ID:
        return valid_id(text) && set_once(&config->id, text);
    case TAG_DIRECTORY:
        return valid_path(text) && set_once(&config->directory, text);
    case TAG_KIND:
        if (config->kind)
            return false;
        config->kind = strcmp(text, "software") == 0  ? VMM_SOFTWARE
                       : strcmp(text, "libkrun") == 0 ? VMM_LIBKRUN
                                                      : 0;
        return config->kind != 0;
    case TAG_UID: // never root, never the "no change" value -1
        if (config->uid || !read_number(value, size, UINT32_MAX - 1, &number) || number == 0)
            return false;
        config->uid = (uint32_t)number;
        return true;
    case TAG_GID:
        if (config->gid || !read_number(value, size, UINT32_MAX - 1, &number) || number == 0)
            return false;
        config->gid = (uint32_t)number;
        return true;
    case TAG_ARGUMENT:
        if (config->argument_count == MAX_ARGUMENTS)
            return false;
        config->arguments[config->argument_count++] = text;
        return true;
    case TAG_BIND:
        return decode_bind(text, config->binds, &config->bind_count);
    case TAG_VMM_CGROUP:
        return valid_path(text) && append(&config->vmm_cgroups, text);
    case TAG_SUPERVISOR_CGROUP:
        return valid_path(text) && append(&config->supervisor_cgroups, text);
    case TAG_OOM_FILE:
        return valid_path(text) && set_once(&config->oom_file, text);
    case TAG_VMM_FDS:
        if (config->vmm_fds || !read_number(value, size, BH_SPAWN_MAX_FDS, &number))
            return false;
        config->vmm_fds = (uint32_t)number;
        return true;
    case TAG_TAP_FD:
        if (config->tap_fd >= 0 || !read_number(value, size, MAX_VMM_FD, &number))
            return false;
        config->tap_fd = (int)number;
        return true;
    case TAG_TAP_ADDRESS:
        return decode_address(text, config);
    case TAG_CONSOLE_FD:
        if (config->console_fd >= 0 || !read_number(value, size, MAX_VMM_FD, &number))
            return false;
        config->console_fd = (int)number;
        return true;
    case TAG_LOG_BYTES:
        return !config->log_bytes && read_number(value, size, 1u << 30, &config->log_bytes);
    case TAG_ADDRESS_SPACE:
        return !config->address_space && read_number(value, size, INT64_MAX, &config->address_space);
    case TAG_ANNOTATIONS:
        return size <= 4096 && set_once(&config->annotations, text);
    case TAG_LIMITATION:
        return append(&config->limitations, text);
    case TAG_SHARE:
        return decode_share(text, config);
    case TAG_SERVER_ARGUMENT:
        if (config->server_argument_count == MAX_ARGUMENTS)
            return false;
        config->server_arguments[config->server_argument_count++] = text;
        return true;
    case TAG_SERVER_BIND:
        return decode_bind(text, config->server_binds, &config->server_bind_count);
    case TAG_SERVER_FD:
        if (config->server_fd >= 0 || !read_number(value, size, MAX_VMM_FD, &number))
            return false;
        config->server_fd = (int)number;
        return true;
    }
    return false;
}

static bool is_number(uint16_t tag) {
    return tag == TAG_UID || tag == TAG_GID || tag == TAG_VMM_FDS || tag == TAG_TAP_FD ||
           tag == TAG_CONSOLE_FD || tag == TAG_LOG_BYTES || tag == TAG_ADDRESS_SPACE || tag == TAG_SERVER_FD;
}

static int check_complete(const struct launch_config *config, char *error, size_t error_size) {
    if (!config->id || !config->directory || !config->kind || !config->uid || !config->gid ||
        config->argument_count == 0 || !config->log_bytes || config->console_fd < 0)
        return bh_fail(error, error_size, EINVAL, "launch configuration: a required field is missing");
    int first_free = BH_SPAWN_FIRST_FD + (int)config->vmm_fds;
    if (config->console_fd < first_free || (config->tap_fd >= 0 && config->tap_fd < first_free) ||
        config->tap_fd == config->console_fd ||
        (config->server_fd >= 0 && (config->server_fd < first_free || config->server_fd == config->tap_fd ||
                                    config->server_fd == config->console_fd)))
        return bh_fail(error, error_size, EINVAL, "launch configuration: descriptor numbers collide");
    if (config->kind == VMM_LIBKRUN ? config->tap_fd >= 0 : (config->tap_fd >= 0) != (config->tap_prefix > 0))
        return bh_fail(error, error_size, EINVAL, "launch configuration: TAP of the wrong kind");
    bool served = config->kind == VMM_SOFTWARE && config->share_count > 0;
    if (config->vmm_fds + config->share_count > BH_SPAWN_MAX_FDS || served != (config->server_fd >= 0) ||
        served != (config->server_argument_count > 0) || (!served && config->server_bind_count > 0) ||
        (served && !valid_path(config->server_arguments[0])))
        return bh_fail(error, error_size, EINVAL, "launch configuration: shares and their server disagree");
    if (!valid_path(config->arguments[0]))
        return bh_fail(error, error_size, EINVAL, "launch configuration: argv[0] is no absolute path");
    return 0;
}

static void number_shares(struct launch_config *config) {
    for (size_t i = 0; i < config->share_count; i++)
        config->shares[i].fd = BH_SPAWN_FIRST_FD + (int)config->vmm_fds + (int)i;
}

int config_decode(uint8_t *blob, size_t size, struct launch_config *config, char *error, size_t error_size) {
    memset(config, 0, sizeof *config);
    config->tap_fd = config->console_fd = config->server_fd = -1;
    if (size < HEADER_BYTES || memcmp(blob, CONFIG_MAGIC, 4) != 0 || read_u32(blob + 4) != CONFIG_VERSION)
        return bh_fail(error, error_size, EINVAL, "launch configuration: not of version %u", CONFIG_VERSION);
    size_t offset = HEADER_BYTES;
    while (offset < size) {
        if (size - offset < RECORD_BYTES)
            return bh_fail(error, error_size, EINVAL, "launch configuration: cut off at byte %zu", offset);
        uint32_t head = read_u32(blob + offset);
        uint32_t length = read_u32(blob + offset + 4);
        uint16_t tag = (uint16_t)head;
        uint8_t *value = blob + offset + RECORD_BYTES;
        if (head > UINT16_MAX || tag == 0 || tag > TAG_LAST || length > size - offset - RECORD_BYTES)
            return bh_fail(error, error_size, EINVAL, "launch configuration: bad record at byte %zu", offset);
        // Strings carry their own terminator and no other NUL.
        if (!is_number(tag) && (length == 0 || memchr(value, '\0', length) != value + length - 1))
            return bh_fail(error, error_size, EINVAL, "launch configuration: bad text in record %u", tag);
        if (!decode_record(tag, value, length, config))
            return bh_fail(error, error_size, EINVAL, "launch configuration: bad value in record %u", tag);
        offset += RECORD_BYTES + length;
    }
    number_shares(config);
    return check_complete(config, error, error_size);
}
