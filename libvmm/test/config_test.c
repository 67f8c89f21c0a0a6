#include <errno.h>

#include "../include/libvmm.h"
#include "../launcher/config.h"
#include "check.h"
#include "config_blob.h"

static void complete(struct blob *blob) {
    blob_begin(blob);
    blob_text(blob, TAG_ID, "vm-1");
    blob_text(blob, TAG_DIRECTORY, "/state/vm-1");
    blob_text(blob, TAG_KIND, "software");
    blob_number(blob, TAG_UID, 1900000000);
    blob_number(blob, TAG_GID, 1900000000);
    blob_text(blob, TAG_ARGUMENT, "/usr/bin/vmm");
    blob_text(blob, TAG_BIND, "/lib64\x1f/lib64\x1fx");
    blob_number(blob, TAG_VMM_FDS, 2);
    blob_number(blob, TAG_TAP_FD, 7);
    blob_text(blob, TAG_TAP_ADDRESS, "10.77.0.1/24");
    blob_number(blob, TAG_CONSOLE_FD, 8);
    blob_number(blob, TAG_LOG_BYTES, 65536);
}

static int decode(struct blob *blob, struct launch_config *config) {
    char error[BH_ERROR_BYTES];
    return config_decode(blob->bytes, blob->size, config, error, sizeof error);
}

static void accepts_a_complete_configuration(void) {
    struct blob blob;
    struct launch_config config;
    complete(&blob);
    CHECK(decode(&blob, &config) == 0, "a complete configuration is accepted");
    CHECK(strcmp(config.id, "vm-1") == 0 && config.uid == 1900000000 && config.tap_fd == 7, "values arrive");
    CHECK(config.bind_count == 1 && config.binds[0].executable && !config.binds[0].device,
          "flags of a mount arrive");
    CHECK(config.tap_prefix == 24, "the prefix arrives");
}

static void refuses_every_truncation(void) {
    struct blob whole;
    complete(&whole);
    for (size_t size = 0; size < whole.size; size++) {
        struct blob blob = whole;
        struct launch_config config;
        blob.size = size;
        CHECK(decode(&blob, &config) == -EINVAL, "a cut configuration is refused");
    }
}

static void refuses(const char *promise, uint16_t tag, const void *value, uint32_t size) {
    struct blob blob;
    struct launch_config config;
    complete(&blob);
    blob_record(&blob, tag, value, size);
    CHECK(decode(&blob, &config) == -EINVAL, promise);
}

static void refuses_bad_records(void) {
    uint64_t zero = 0, huge = 1ull << 40;
    refuses("an unknown tag is refused", TAG_LAST + 1, "x", 2);
    refuses("a repeated scalar is refused", TAG_ID, "vm-2", 5);
    refuses("text without terminator is refused", TAG_ARGUMENT, "abc", 3);
    refuses("text with a NUL inside is refused", TAG_ARGUMENT, "a\0b", 4);
    refuses("empty text is refused", TAG_ARGUMENT, "", 0);
    refuses("a relative path is refused", TAG_VMM_CGROUP, "sys", 4);
    refuses("a climbing path is refused", TAG_VMM_CGROUP, "/sys/../etc", 12);
    refuses("a mount without target is refused", TAG_BIND, "/lib", 5);
    refuses("a mount over the root is refused", TAG_BIND, "/lib\x1f/\x1f", 8);
    refuses("an unknown mount flag is refused", TAG_BIND, "/lib\x1f/lib\x1fr", 12);
    refuses("a mount that is writable and executable is refused", TAG_BIND, "/lib\x1f/lib\x1fxw", 13);
    refuses("a device outside of /dev is refused", TAG_BIND,
            "/dev/kvm\x1f/kvm\x1f"
            "d",
            16);
    refuses("a device in place of /dev/null is refused", TAG_BIND,
            "/dev/kvm\x1f/dev/null\x1f"
            "d",
            21);
    refuses("a second address is refused", TAG_TAP_ADDRESS, "10.0.0.1/8", 11);
    refuses("a repeated number is refused", TAG_LOG_BYTES, &huge, 8);
    refuses("a short number is refused", TAG_ADDRESS_SPACE, &zero, 4);
}

static void refuses_root(void) {
    struct blob blob;
    struct launch_config config;
    blob_begin(&blob);
    blob_number(&blob, TAG_UID, 0);
    CHECK(decode(&blob, &config) == -EINVAL, "a VM never runs as root");
    blob_begin(&blob);
    blob_number(&blob, TAG_UID, UINT32_MAX);
    CHECK(decode(&blob, &config) == -EINVAL, "a VM never keeps the launcher's user");
}

static void bounds_lists(void) {
    struct blob blob;
    struct launch_config config;
    complete(&blob);
    for (int i = 0; i < MAX_ARGUMENTS; i++)
        blob_text(&blob, TAG_ARGUMENT, "x");
    CHECK(decode(&blob, &config) == -EINVAL, "arguments beyond the table are refused");
}

static void decodes_each_mount_flag(void) {
    struct blob blob;
    struct launch_config config;
    complete(&blob);
    blob_text(&blob, TAG_BIND, "/state/upper\x1f/upper\x1fw");
    blob_text(&blob, TAG_BIND,
              "/dev/kvm\x1f/dev/kvm\x1f"
              "d");
    CHECK(decode(&blob, &config) == 0 && config.bind_count == 3, "mounts are accepted");
    CHECK(config.binds[1].writable && !config.binds[1].executable && !config.binds[1].device,
          "writable arrives");
    CHECK(config.binds[2].device && !config.binds[2].writable, "device arrives");
}

static void libkrun_names_its_tap(void) {
    struct blob blob;
    struct launch_config config;
    blob_begin(&blob);
    blob_text(&blob, TAG_ID, "vm-1");
    blob_text(&blob, TAG_DIRECTORY, "/state/vm-1");
    blob_text(&blob, TAG_KIND, "libkrun");
    blob_number(&blob, TAG_UID, 1900000000);
    blob_number(&blob, TAG_GID, 1900000000);
    blob_text(&blob, TAG_ARGUMENT, "/bulkhead-krun");
    blob_text(&blob, TAG_TAP_ADDRESS, "10.77.0.1/24");
    blob_number(&blob, TAG_CONSOLE_FD, 5);
    blob_number(&blob, TAG_LOG_BYTES, 65536);
    struct blob with_descriptor = blob;
    CHECK(decode(&blob, &config) == 0 && config.tap_fd < 0 && config.tap_prefix == 24,
          "a TAP by name is accepted");
    blob_number(&with_descriptor, TAG_TAP_FD, 6);
    CHECK(decode(&with_descriptor, &config) == -EINVAL, "a TAP by descriptor is refused for libkrun");
}

static void shares_come_with_their_server(void) {
    struct blob blob;
    struct launch_config config;
    complete(&blob);
    blob_text(&blob, TAG_SHARE, "rw");
    blob_text(&blob, TAG_SHARE, "ro");
    struct blob alone = blob;
    CHECK(decode(&alone, &config) == -EINVAL, "shares without a file server are refused");
    blob_text(&blob, TAG_SERVER_ARGUMENT, "/server");
    struct blob unreachable = blob;
    CHECK(decode(&unreachable, &config) == -EINVAL, "a file server without a descriptor is refused");
    blob_text(&blob, TAG_SERVER_BIND, "/usr/lib/server\x1f/server\x1fx");
    struct blob colliding = blob;
    blob_number(&colliding, TAG_SERVER_FD, 8);
    CHECK(decode(&colliding, &config) == -EINVAL, "a file server on the console's descriptor is refused");
    blob_number(&blob, TAG_SERVER_FD, 9);
    CHECK(decode(&blob, &config) == 0 && config.share_count == 2, "shares are accepted");
    CHECK(config.shares[0].fd == BH_SPAWN_FIRST_FD + 2 && config.shares[1].fd == BH_SPAWN_FIRST_FD + 3,
          "their descriptors follow those of the VMM");
    CHECK(config.shares[0].writable && !config.shares[1].writable, "their modes arrive");
    CHECK(config.server_bind_count == 1 && config.bind_count == 1, "the jails have files of their own");
    refuses("a share of another mode is refused", TAG_SHARE, "w", 2);
    refuses("a file server without shares is refused", TAG_SERVER_ARGUMENT, "/server", 8);
}

int main(void) {
    shares_come_with_their_server();
    decodes_each_mount_flag();
    libkrun_names_its_tap();
    accepts_a_complete_configuration();
    refuses_every_truncation();
    refuses_bad_records();
    refuses_root();
    bounds_lists();
    (void)puts("config: ok");
    return 0;
}
