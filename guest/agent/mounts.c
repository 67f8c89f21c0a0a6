#include "mounts.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "beneath.h"
#include "ext4.h"

#define IMAGE "/mnt/image"

static int namespace_fd = -1;

struct mount_entry {
    const char *type, *target;
    unsigned long flags;
    const char *options;
};

static int mount_all(const struct mount_entry *entries, size_t count, struct err *err) {
    for (size_t i = 0; i < count; i++) {
        const struct mount_entry *e = &entries[i];
        if (mkdir(e->target, 0755) < 0 && errno != EEXIST)
            return err_errno(err, "cannot make %s", e->target);
        if (mount(e->type, e->target, e->type, e->flags, e->options) < 0 && errno != EBUSY)
            return err_errno(err, "cannot mount %s on %s", e->type, e->target);
    }
    return 0;
}

int mounts_boot(struct err *err) {
    static const struct mount_entry entries[] = {
        {"proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
        {"sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
        {"devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755"},
        {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666"},
        {"tmpfs", "/mnt", MS_NOSUID | MS_NODEV, "mode=0700,size=1m"},
    };
    if (mount_all(entries, sizeof entries / sizeof *entries, err) < 0)
        return -1;
    if (mkdir(IMAGE, 0755) < 0 || mkdir(MOUNTS_UPPER, 0755) < 0 || mkdir(MOUNTS_ROOT, 0755) < 0)
        return err_errno(err, "cannot make the mount points");
    return 0;
}

static int check_device(const char *name, struct err *err) {
    size_t length = strlen(name);
    for (size_t i = 0; i < length; i++) {
        if (!isalnum((unsigned char)name[i]))
            length = 0;
    }
    return length ? 0 : err_set(err, FAIL_INVALID, "\"%s\" is no disk name", name);
}

// A fresh upper gets the directories of overlayfs, the upper one with mode and owner of the image's root:
// they are what the container sees at "/".
static int prepare_upper(struct err *err) {
    struct stat image;
    if (stat(IMAGE, &image) < 0)
        return err_errno(err, "cannot look at the image's root");
    if (mkdir(MOUNTS_UPPER "/work", 0700) < 0 && errno != EEXIST)
        return err_errno(err, "cannot make the work directory on the upper disk");
    if (mkdir(MOUNTS_UPPER "/root", 0755) < 0)
        return errno == EEXIST ? 0 : err_errno(err, "cannot make the upper directory on the upper disk");
    struct timespec times[2] = {image.st_atim, image.st_mtim};
    if (chown(MOUNTS_UPPER "/root", image.st_uid, image.st_gid) < 0 ||
        chmod(MOUNTS_UPPER "/root", image.st_mode & 07777) < 0 ||
        utimensat(AT_FDCWD, MOUNTS_UPPER "/root", times, 0) < 0)
        return err_errno(err, "cannot give the upper directory the owner and mode of the image's root");
    return 0;
}

// Mounts beneath the container's root without following what the image or an earlier run put there.
static int mount_beneath(int root, const char *source, const char *path, const char *type,
                         unsigned long flags, const char *options, struct err *err) {
    char target[64];
    int fd = beneath_directory(root, path, 0755);
    if (fd < 0)
        return err_errno(err, "/%s in the image is no directory that can be mounted on", path);
    (void)snprintf(target, sizeof target, "/proc/self/fd/%d", fd);
    int result = mount(source, target, type, flags, options);
    if (result < 0)
        (void)err_errno(err, "cannot mount %s on /%s", type ? type : source, path);
    (void)close(fd);
    return result;
}

static const struct {
    const char *path;
    unsigned int major, minor;
    mode_t mode;
} DEVICES[] = {
    {"dev/null", 1, 3, 0666},    {"dev/zero", 1, 5, 0666},
    {"dev/full", 1, 7, 0666},    {"dev/random", 1, 8, 0666},
    {"dev/urandom", 1, 9, 0666}, {"dev/tty", 5, 0, 0666},
    {"dev/fuse", 10, 229, 0666}, {"dev/net/tun", 10, 200, 0666},
    {"dev/kmsg", 1, 11, 0600},   {"dev/loop-control", 10, 237, 0600},
};

static const struct {
    const char *path, *target;
} DEVICE_LINKS[] = {
    {"dev/fd", "/proc/self/fd"},       {"dev/stdin", "/proc/self/fd/0"}, {"dev/stdout", "/proc/self/fd/1"},
    {"dev/stderr", "/proc/self/fd/2"}, {"dev/ptmx", "pts/ptmx"},
};

// A /dev of known nodes, not the kernel's: the disks below the overlay and the agent's port have no place in
// it.
static int populate_dev(int root, struct err *err) {
    if (mount_beneath(root, "tmpfs", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=4m", err) < 0)
        return -1;
    int net = beneath_directory(root, "dev/net", 0755);
    if (net < 0)
        return err_errno(err, "cannot make /dev/net");
    (void)close(net);
    for (size_t i = 0; i < sizeof DEVICES / sizeof *DEVICES; i++) {
        // The mode is set apart, for the umask.
        if (mknodat(root, DEVICES[i].path, S_IFCHR | DEVICES[i].mode,
                    makedev(DEVICES[i].major, DEVICES[i].minor)) < 0 ||
            fchmodat(root, DEVICES[i].path, DEVICES[i].mode, 0) < 0)
            return err_errno(err, "cannot make /%s", DEVICES[i].path);
    }
    for (size_t i = 0; i < sizeof DEVICE_LINKS / sizeof *DEVICE_LINKS; i++) {
        if (symlinkat(DEVICE_LINKS[i].target, root, DEVICE_LINKS[i].path) < 0)
            return err_errno(err, "cannot make /%s", DEVICE_LINKS[i].path);
    }
    return 0;
}

static bool is_empty(int root, const char *path) {
    int fd = openat(root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory) {
        if (fd >= 0)
            (void)close(fd);
        return false;
    }
    int entries = 0;
    while (entries < 3 && readdir(directory))
        entries++;
    (void)closedir(directory);
    return entries == 2;
}

// /run is memory unless the image brought files there; /tmp stays on the disk, whose size is what the user
// asked for.
static int populate_temporary(int root, struct err *err) {
    int run = beneath_directory(root, "run", 0755);
    if (run >= 0)
        (void)close(run);
    if (is_empty(root, "run") &&
        mount_beneath(root, "tmpfs", "run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=20%", err) < 0)
        return -1;
    struct stat present;
    if (fstatat(root, "tmp", &present, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    int tmp = beneath_directory(root, "tmp", 01777);
    if (tmp < 0)
        return err_errno(err, "cannot make /tmp");
    (void)close(tmp);
    if (fchmodat(root, "tmp", 01777, 0) < 0)
        return err_errno(err, "cannot make /tmp writable for all");
    return 0;
}

static int populate_root(struct err *err) {
    int root = open(MOUNTS_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_errno(err, "cannot open the container's root");
    int result = -1;
    if (populate_dev(root, err) < 0 || populate_temporary(root, err) < 0)
        goto out;
    if (mount_beneath(root, "proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, err) < 0 ||
        mount_beneath(root, "sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, err) < 0 ||
        mount_beneath(root, "/sys/fs/cgroup", "sys/fs/cgroup", NULL, MS_BIND, NULL, err) < 0 ||
        mount_beneath(root, "/dev/pts", "dev/pts", NULL, MS_BIND, NULL, err) < 0 ||
        mount_beneath(root, "tmpfs", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=50%", err) <
            0 ||
        mount_beneath(root, "mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, err) <
            0)
        goto out;
    result = 0;
out:
    (void)close(root);
    return result;
}

static int move_root(void) {
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        chdir(MOUNTS_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0)
        return -1;
    return 0;
}

// A child makes the namespace with the container's root as "/" and waits until its descriptor is taken.
static int make_namespace(struct err *err) {
    int ready[2];
    char byte = 0;
    if (pipe2(ready, O_CLOEXEC) < 0)
        return err_errno(err, "cannot make a pipe");
    pid_t child = fork();
    if (child == 0) {
        int result = move_root() < 0 ? errno : 0;
        byte = (char)result;
        if (write(ready[1], &byte, 1) != 1)
            _exit(1);
        for (;;)
            (void)pause();
    }
    (void)close(ready[1]);
    int result = -1;
    if (child < 0) {
        (void)err_errno(err, "cannot fork");
    } else if (read(ready[0], &byte, 1) != 1 || byte != 0) {
        errno = byte;
        (void)err_errno(err, "cannot make the container's root the root of its namespace");
    } else {
        char path[64];
        (void)snprintf(path, sizeof path, "/proc/%d/ns/mnt", (int)child);
        namespace_fd = open(path, O_RDONLY | O_CLOEXEC);
        result = namespace_fd < 0 ? err_errno(err, "cannot open the container's namespace") : 0;
    }
    (void)close(ready[0]);
    if (child > 0) {
        (void)kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
    }
    return result;
}

static void undo(void) {
    (void)umount2(MOUNTS_ROOT, MNT_DETACH);
    (void)umount2(MOUNTS_UPPER, MNT_DETACH);
    (void)umount2(IMAGE, MNT_DETACH);
}

int mounts_root(const bulkhead_agent_v1_MountRoot *request, struct err *err) {
    if (mounts_ready())
        return 0;
    char image[64], upper[64];
    if (check_device(request->image_device, err) < 0 || check_device(request->upper_device, err) < 0)
        return -1;
    (void)snprintf(image, sizeof image, "/dev/%s", request->image_device);
    (void)snprintf(upper, sizeof upper, "/dev/%s", request->upper_device);
    if (mount(image, IMAGE, "erofs", MS_RDONLY, NULL) < 0) {
        (void)err_errno(err, "cannot mount the image disk %s", image);
    } else if (mount(upper, MOUNTS_UPPER, "ext4", MS_NOATIME, NULL) < 0) {
        (void)err_errno(err, "cannot mount the upper disk %s", upper);
    } else if (ext4_fill(upper, MOUNTS_UPPER, err) == 0 && prepare_upper(err) == 0) {
        if (mount("overlay", MOUNTS_ROOT, "overlay", 0,
                  "lowerdir=" IMAGE ",upperdir=" MOUNTS_UPPER "/root,workdir=" MOUNTS_UPPER
                  "/work,redirect_dir=on") < 0)
            (void)err_errno(err, "cannot mount the overlay of image and upper");
        else if (populate_root(err) == 0 && make_namespace(err) == 0)
            return 0;
    }
    undo();
    return -1;
}

bool mounts_ready(void) {
    return namespace_fd >= 0;
}

int mounts_enter(void) {
    return setns(namespace_fd, CLONE_NEWNS);
}

void mounts_close(void) {
    sync();
    if (!mounts_ready())
        return;
    (void)close(namespace_fd);
    namespace_fd = -1;
    static const char *const inner[] = {"dev/mqueue", "dev/shm", "dev/pts", "sys/fs/cgroup",
                                        "sys",        "proc",    "run",     "dev"};
    for (size_t i = 0; i < sizeof inner / sizeof *inner; i++) {
        char path[64];
        (void)snprintf(path, sizeof path, MOUNTS_ROOT "/%s", inner[i]);
        (void)umount2(path, UMOUNT_NOFOLLOW);
    }
    (void)umount2(MOUNTS_ROOT, UMOUNT_NOFOLLOW);
    if (umount2(MOUNTS_UPPER, UMOUNT_NOFOLLOW) < 0)
        (void)mount(NULL, MOUNTS_UPPER, NULL, MS_REMOUNT | MS_RDONLY, NULL);
    sync();
}
