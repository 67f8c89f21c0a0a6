#include "jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../src/cleanup.h"
#include "../src/error.h"

// The root holds directories and mount points only; 64 KiB leave no room to hide anything.
#define ROOT_OPTIONS "size=64k,nr_inodes=128,mode=0755"
// Device nodes and their directories, apart from the root, which has none.
#define DEVICES "/dev"
#define DEVICES_OPTIONS "size=64k,nr_inodes=16,mode=0755"
// One inode for the directory, one for the socket, and not a byte of content.
#define AGENT_DIRECTORY_OPTIONS "size=4k,nr_inodes=2,mode=0700,uid=%" PRIu32 ",gid=%" PRIu32

int jail_join_cgroups(const struct string_list *cgroups, char *error, size_t error_size) {
    for (size_t i = 0; i < cgroups->count; i++) {
        char path[4096 + 16];
        (void)snprintf(path, sizeof path, "%s/cgroup.procs", cgroups->items[i]);
        CLEANUP_FD fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "0", 1) != 1)
            return bh_fail(error, error_size, errno, "cgroup %s", cgroups->items[i]);
    }
    return 0;
}

// What the file server needs to be root of its own user namespace: to be anybody there is not more than to be
// the VM's user, the only one that it has.
static const int server_capabilities[] = {CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FOWNER,  CAP_FSETID, CAP_SETGID,
                                          CAP_SETUID, CAP_SYS_CHROOT,   CAP_SETPCAP, CAP_MKNOD,  CAP_SETFCAP};

// Each name that the guest's kernel remembers is a descriptor of whoever serves it. What a guest can hold is
// bounded by its memory long before; the kernel's memory for them counts against the VM's cgroup.
#define SHARES_DESCRIPTORS 262144

// Makes the directories above `path` (absolute, inside the new root at `root`).
static int make_parents(int root, const char *path) {
    char part[4096];
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        size_t length = (size_t)(slash - path - 1);
        memcpy(part, path + 1, length);
        part[length] = '\0';
        if (mkdirat(root, part, 0755) != 0 && errno != EEXIST)
            return -errno;
    }
    return 0;
}

static int make_mount_point(int root, const char *path, bool directory) {
    int result = make_parents(root, path);
    if (result != 0)
        return result;
    if (directory)
        return mkdirat(root, path + 1, 0755) == 0 || errno == EEXIST ? 0 : -errno;
    CLEANUP_FD fd = openat(root, path + 1, O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0444);
    return fd >= 0 ? 0 : -errno;
}

// The VM's own directory as it was before the jail's root covered it: the way to sources inside of it.
struct covered {
    int fd;
    const char *path;
};

// A private view of a file or folder of the host that is not attached anywhere yet.
static int detached_mount(const struct covered *covered, const struct bind_mount *bind, int *out) {
    size_t length = strlen(covered->path);
    bool inside = strncmp(bind->source, covered->path, length) == 0 && bind->source[length] == '/';
    CLEANUP_FD fd =
        (int)syscall(SYS_open_tree, inside ? covered->fd : AT_FDCWD,
                     inside ? bind->source + length + 1 : bind->source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                                                (bind->writable ? 0 : MOUNT_ATTR_RDONLY) |
                                                (bind->executable ? 0 : MOUNT_ATTR_NOEXEC),
                                    .propagation = MS_PRIVATE};
    if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0)
        return -errno;
    *out = bh_take_fd(&fd);
    return 0;
}

static int attach(int root, const struct bind_mount *bind, int mount_fd) {
    struct stat status;
    if (fstat(mount_fd, &status) != 0)
        return -errno;
    if (bind->writable && !S_ISREG(status.st_mode))
        return -EINVAL;
    int result = make_mount_point(root, bind->target, S_ISDIR(status.st_mode));
    if (result != 0)
        return result;
    if (syscall(SYS_move_mount, mount_fd, "", root, bind->target + 1, MOVE_MOUNT_F_EMPTY_PATH) != 0)
        return -errno;
    return 0;
}

static int bind_into(int root, const struct covered *covered, const struct bind_mount *bind) {
    CLEANUP_FD mount_fd = -1;
    int result = detached_mount(covered, bind, &mount_fd);
    return result == 0 ? attach(root, bind, mount_fd) : result;
}

// A file system in memory at `target`, which is made.
static int mount_below(const struct launch_config *config, const char *target, unsigned long flags,
                       const char *options, int root) {
    char path[4096 + 64];
    if (mkdirat(root, target + 1, 0755) != 0)
        return -errno;
    (void)snprintf(path, sizeof path, "%s%s", config->directory, target);
    return mount("jail", path, "tmpfs", flags, options) == 0 ? 0 : -errno;
}

// A character device for everybody, or for the VM's user alone.
static int make_node(int root, const char *path, dev_t numbers, const struct launch_config *owner) {
    int result = make_parents(root, path);
    if (result != 0)
        return result;
    if (mknodat(root, path + 1, S_IFCHR | 0600, numbers) != 0 ||
        (owner ? fchownat(root, path + 1, owner->uid, owner->gid, AT_SYMLINK_NOFOLLOW)
               : fchmodat(root, path + 1, 0666, 0)) != 0)
        return -errno;
    return 0;
}

// The host's file is only looked at: opening some devices has effects.
static int copy_device(int root, const struct bind_mount *bind, const struct launch_config *config) {
    struct stat status;
    if (stat(bind->source, &status) != 0)
        return -errno;
    return S_ISCHR(status.st_mode) ? make_node(root, bind->target, status.st_rdev, config) : -ENODEV;
}

static int attach_shares(int root, const struct launch_config *config) {
    if (mkdirat(root, SHARES_DIRECTORY + 1, 0755) != 0)
        return -errno;
    for (size_t i = 0; i < config->share_count; i++) {
        char target[64];
        struct stat status;
        (void)snprintf(target, sizeof target, SHARES_DIRECTORY "/%zu", i);
        if (fstat(config->shares[i].fd, &status) != 0)
            return -errno;
        int result = make_mount_point(root, target, S_ISDIR(status.st_mode));
        if (result != 0)
            return result;
        if (syscall(SYS_move_mount, config->shares[i].fd, "", root, target + 1, MOVE_MOUNT_F_EMPTY_PATH) != 0)
            return -errno;
    }
    return 0;
}

static int build_root(const struct launch_config *config, char *error, size_t error_size) {
    (void)umask(0022); // the VM's user must be able to walk through what is made here
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return bh_fail(error, error_size, errno, "private mounts");
    CLEANUP_FD directory = open(config->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return bh_fail(error, error_size, errno, "directory of the VM");
    const struct covered covered = {.fd = directory, .path = config->directory};
    // The VM's own directory is the mount point: it exists, is ours, and only this namespace sees it covered.
    if (mount("jail", config->directory, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, ROOT_OPTIONS) != 0)
        return bh_fail(error, error_size, errno, "root of the jail");
    CLEANUP_FD root = open(config->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return bh_fail(error, error_size, errno, "root of the jail");
    int result = mount_below(config, DEVICES, MS_NOSUID | MS_NOEXEC, DEVICES_OPTIONS, root);
    if (result == 0)
        result = make_node(root, "/dev/null", makedev(1, 3), NULL);
    if (result != 0)
        return bh_fail(error, error_size, -result, "devices of the jail");
    for (size_t i = 0; i < config->bind_count; i++) {
        const struct bind_mount *bind = &config->binds[i];
        result = bind->device ? copy_device(root, bind, config) : bind_into(root, &covered, bind);
        if (result != 0)
            return bh_fail(error, error_size, -result, "%s in the jail", bind->source);
    }
    if (config->kind == VMM_LIBKRUN) {
        char options[128];
        (void)snprintf(options, sizeof options, AGENT_DIRECTORY_OPTIONS, config->uid, config->gid);
        result = mount_below(config, AGENT_DIRECTORY, MS_NOSUID | MS_NODEV | MS_NOEXEC, options, root);
        if (result != 0)
            return bh_fail(error, error_size, -result, "%s in the jail", AGENT_DIRECTORY);
    }
    if (config->kind != VMM_SOFTWARE && config->share_count > 0 &&
        (result = attach_shares(root, config)) != 0)
        return bh_fail(error, error_size, -result, "shared directories in the jail");
    if (mkdirat(root, "proc", 0555) != 0)
        return bh_fail(error, error_size, errno, "/proc in the jail");
    if (fchdir(root) != 0 || syscall(SYS_pivot_root, ".", ".") != 0 || umount2(".", MNT_DETACH) != 0 ||
        chdir("/") != 0)
        return bh_fail(error, error_size, errno, "pivot_root");
    // Own processes only, and nothing beside them (subset=pid has no /proc/sys, no /proc/kcore). The file
    // server does not start without /proc/sys/fs/file-max; of what comes with it, it can read what any user
    // can.
    if (mount("proc", "/proc", "proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
              config->kind == VMM_FILES ? "hidepid=2" : "hidepid=2,subset=pid") != 0)
        return bh_fail(error, error_size, errno, "/proc in the jail");
    if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) !=
            0 ||
        mount(NULL, DEVICES, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL) != 0)
        return bh_fail(error, error_size, errno, "read-only root");
    return 0;
}

int jail_enter(const struct launch_config *config, struct limitations *limitations, char *error,
               size_t error_size) {
    int result = jail_join_cgroups(&config->vmm_cgroups, error, error_size);
    if (result != 0)
        return result;
    // The file server has no network; it shares nothing with the VM but the socket to it.
    int network = config->kind == VMM_FILES ? CLONE_NEWNET : 0;
    if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | network) != 0)
        return bh_fail(error, error_size, errno, "namespaces");
    if (unshare(CLONE_NEWCGROUP) != 0)
        limitation_add(limitations,
                       "The kernel has no cgroup namespaces, so the VMM could read its cgroup's path.");
    if (sethostname("vm", 2) != 0)
        return bh_fail(error, error_size, errno, "host name");
    return build_root(config, error, error_size);
}

// Inside the jail. Size of the largest file that may be written.
static rlim_t largest_writable(const struct launch_config *config) {
    rlim_t largest = 0;
    for (size_t i = 0; i < config->bind_count; i++) {
        struct stat status;
        if (config->binds[i].writable && stat(config->binds[i].target, &status) == 0 &&
            (rlim_t)status.st_size > largest)
            largest = (rlim_t)status.st_size;
    }
    return largest;
}

// Whatever this process may have at most, up to SHARES_DESCRIPTORS.
static rlim_t descriptors_of_server(void) {
    struct rlimit now = {0}, wanted = {SHARES_DESCRIPTORS, SHARES_DESCRIPTORS};
    if (setrlimit(RLIMIT_NOFILE, &wanted) == 0 || getrlimit(RLIMIT_NOFILE, &now) != 0 ||
        now.rlim_max > SHARES_DESCRIPTORS)
        return SHARES_DESCRIPTORS;
    return now.rlim_max;
}

static int set_limits(const struct launch_config *config) {
    bool serves = config->kind != VMM_SOFTWARE && config->share_count > 0;
    const struct {
        int resource;
        rlim_t value;
    } limits[] = {
        {RLIMIT_CORE, 0},                                        // a core file would hold the guest's memory
        {RLIMIT_NOFILE, serves ? descriptors_of_server() : 256}, // QEMU uses about 30
        {RLIMIT_NPROC, 128}, // threads; its user is the VM's own. QEMU uses vCPUs + about 6, at most 64 for
                             // its pool
        {RLIMIT_MEMLOCK, 0},
        {RLIMIT_MSGQUEUE, 0},
        {RLIMIT_RTPRIO, 0},
        // A disk that is opened by path can be grown by the VMM, so the host's file system needs this bound.
        // QEMU has its disks as descriptors, and grows them when it is told to. Files of the host's
        // directories may be of any size.
        {RLIMIT_FSIZE, config->kind == VMM_LIBKRUN && !serves ? largest_writable(config) : RLIM_INFINITY},
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct rlimit limit = {limits[i].value, limits[i].value};
        if (setrlimit(limits[i].resource, &limit) != 0)
            return -errno;
    }
    if (config->address_space) {
        struct rlimit limit = {config->address_space, config->address_space};
        if (setrlimit(RLIMIT_AS, &limit) != 0)
            return -errno;
    }
    return 0;
}

// The VM's user, and with it root of a user namespace that has no other; the supervisor says so in its maps.
static int enter_server_namespace(const struct launch_config *config) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    // Kept over the change of the user for kernels that let only this one make user namespaces.
    struct __user_cap_data_struct admin[2] = {
        {.effective = 1u << CAP_SYS_ADMIN, .permitted = 1u << CAP_SYS_ADMIN}};
    struct __user_cap_data_struct kept[2] = {{0}};
    if (prctl(PR_SET_KEEPCAPS, 1) != 0 || setgroups(0, NULL) != 0 ||
        setresgid(config->gid, config->gid, config->gid) != 0 ||
        setresuid(config->uid, config->uid, config->uid) != 0 || syscall(SYS_capset, &header, admin) != 0 ||
        unshare(CLONE_NEWUSER) != 0)
        return -errno;
    for (size_t i = 0; i < sizeof server_capabilities / sizeof *server_capabilities; i++) {
        uint32_t bit = 1u << (server_capabilities[i] % 32);
        kept[server_capabilities[i] / 32].effective |= bit;
        kept[server_capabilities[i] / 32].permitted |= bit;
    }
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
        if (!(kept[capability / 32].permitted & 1u << (capability % 32)) &&
            prctl(PR_CAPBSET_DROP, capability) != 0)
            return -errno;
    return syscall(SYS_capset, &header, kept) == 0 ? 0 : -errno;
}

int jail_drop_server_privileges(const struct launch_config *config, char *error, size_t error_size) {
    int result = set_limits(config);
    if (result != 0)
        return bh_fail(error, error_size, -result, "resource limits");
    result = enter_server_namespace(config);
    if (result != 0)
        return bh_fail(error, error_size, -result, "user namespace of the file server");
    // Only now: changing the user clears it.
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return bh_fail(error, error_size, errno, "prctl");
    return 0;
}

int jail_drop_privileges(const struct launch_config *config, char *error, size_t error_size) {
    int result = set_limits(config);
    if (result != 0)
        return bh_fail(error, error_size, -result, "resource limits");
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
        if (prctl(PR_CAPBSET_DROP, capability) != 0)
            return bh_fail(error, error_size, errno, "capability %d", capability);
    if (setgroups(0, NULL) != 0 || setresgid(config->gid, config->gid, config->gid) != 0 ||
        setresuid(config->uid, config->uid, config->uid) != 0)
        return bh_fail(error, error_size, errno, "user of the VM");
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};
    if (syscall(SYS_capset, &header, none) != 0)
        return bh_fail(error, error_size, errno, "capabilities");
    // Only now: changing the user clears it.
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return bh_fail(error, error_size, errno, "prctl");
    return 0;
}
