#include "volumes.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "beneath.h"
#include "ext4.h"
#include "mounts.h"

#define FOLDER "/mnt/volumes"
// The one virtiofs of the VM, which has all shares of the host's directories by number.
#define SHARES "/mnt/shares"
// As many as a spec may name; the host sends no more.
enum { VOLUMES_MAX = 64, MOUNTS_MAX = 128 };
// Making the mount points takes milliseconds. A disk that never answers must not hold up the agent for ever.
#define TIME_LIMIT_S 60
// Two revisions of a ConfigMap or Secret of a MiB, each file rounded up to a page.
#define FILES_OPTIONS "mode=0755,size=16m,nr_inodes=16384"

enum kind { DISK, MEMORY, FILES, SHARE };

struct mounted {
    enum kind kind;
    bool read_only;
    char name[64], device[40], path[80];
};

static struct mounted volumes[VOLUMES_MAX];
static size_t volume_count, mount_count;

static struct mounted *find(const char *name) {
    for (size_t i = 0; i < volume_count; i++) {
        if (strcmp(volumes[i].name, name) == 0)
            return &volumes[i];
    }
    return NULL;
}

static bool valid_name(const char *name) {
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");
    return length > 0 && name[length] == '\0';
}

static bool valid_device(const char *name) {
    size_t length = 0;
    while (isalnum((unsigned char)name[length]))
        length++;
    return length > 0 && name[length] == '\0';
}

static int mount_shares(const char *tag, struct err *err) {
    static bool mounted;
    if (mounted)
        return 0;
    if (mkdir(SHARES, 0700) < 0 && errno != EEXIST)
        return err_errno(err, "cannot make %s", SHARES);
    // What set-user-ID means on the host it does not mean here, nor do device nodes.
    if (mount(tag, SHARES, "virtiofs", MS_NOSUID | MS_NODEV | MS_NOATIME, NULL) < 0)
        return err_errno(err, "cannot mount the directories of the host");
    mounted = true;
    return 0;
}

// Files are mounted on a file.
static int mount_share(const bulkhead_agent_v1_ShareVolume *from, struct mounted *to, struct err *err) {
    char path[sizeof SHARES + 16];
    struct stat info;
    to->kind = SHARE;
    to->read_only = from->read_only;
    if (mount_shares(from->tag, err) < 0)
        return -1;
    (void)snprintf(path, sizeof path, SHARES "/%u", (unsigned)from->entry);
    if (stat(path, &info) < 0)
        return err_errno(err, "the host gave nothing for volume %s", to->name);
    if (!S_ISDIR(info.st_mode)) {
        int file = rmdir(to->path) < 0 ? -1 : open(to->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        if (file < 0)
            return err_errno(err, "cannot make the place of volume %s", to->name);
        (void)close(file);
    }
    if (mount(path, to->path, NULL, MS_BIND, NULL) < 0)
        return err_errno(err, "cannot mount volume %s", to->name);
    return 0;
}

static int mount_source(const bulkhead_agent_v1_Volume *from, struct mounted *to, struct err *err) {
    char options[64] = FILES_OPTIONS;
    switch (from->which_source) {
    case bulkhead_agent_v1_Volume_disk_tag:
        if (!valid_device(from->source.disk.device))
            return err_set(err, FAIL_INVALID, "\"%s\" is no disk name", from->source.disk.device);
        to->kind = DISK;
        to->read_only = from->source.disk.read_only;
        (void)snprintf(to->device, sizeof to->device, "/dev/%s", from->source.disk.device);
        // Device nodes on a disk that others wrote would be a way around this guest's own rights.
        if (mount(to->device, to->path, "ext4", MS_NODEV | MS_NOATIME | (to->read_only ? MS_RDONLY : 0),
                  NULL) < 0)
            return err_errno(err, "cannot mount the disk of volume %s", to->name);
        return 0;
    case bulkhead_agent_v1_Volume_memory_tag:
        to->kind = MEMORY;
        (void)snprintf(options, sizeof options, "mode=1777,size=%llu",
                       (unsigned long long)from->source.memory.size_bytes);
        break;
    case bulkhead_agent_v1_Volume_files_tag:
        to->kind = FILES;
        break;
    case bulkhead_agent_v1_Volume_share_tag:
        return mount_share(&from->source.share, to, err);
    default:
        return err_set(err, FAIL_INVALID, "volume %s has no source that this agent knows", to->name);
    }
    if (mount("tmpfs", to->path, "tmpfs", MS_NOSUID | MS_NODEV, options) < 0)
        return err_errno(err, "cannot make volume %s", to->name);
    return 0;
}

static int mount_volume(const bulkhead_agent_v1_Volume *from, struct err *err) {
    if (!valid_name(from->name))
        return err_set(err, FAIL_INVALID, "\"%s\" is no name of a volume", from->name);
    struct mounted *known = find(from->name);
    if (!known) {
        if (volume_count == VOLUMES_MAX)
            return err_set(err, FAIL_EXHAUSTED, "there are %d volumes already", VOLUMES_MAX);
        struct mounted *fresh = &volumes[volume_count];
        memset(fresh, 0, sizeof *fresh);
        (void)strcpy(fresh->name, from->name);
        (void)snprintf(fresh->path, sizeof fresh->path, FOLDER "/%s", from->name);
        if (mkdir(fresh->path, 0700) < 0 && errno != EEXIST)
            return err_errno(err, "cannot make the folder of volume %s", fresh->name);
        if (mount_source(from, fresh, err) < 0)
            return -1;
        volume_count++;
        known = fresh;
    }
    return known->kind == DISK && !known->read_only ? ext4_fill(known->device, known->path, err) : 0;
}

// A view of the volume, or of a part of it, that is not in anybody's tree yet.
static int make_view(const bulkhead_agent_v1_VolumeMount *request, struct err *err) {
    struct mounted *volume = find(request->volume);
    if (!volume)
        return err_set(err, FAIL_INVALID, "a mount names the volume \"%s\", which there is none of",
                       request->volume);
    bool read_only = request->read_only || volume->read_only || volume->kind == FILES;
    const char *part = request->sub_path ? request->sub_path : "";
    struct stat info;
    int root = open(volume->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (root < 0 || fstat(root, &info) < 0)
        return err_errno(err, "cannot open volume %s", volume->name);
    int from = !*part && !S_ISDIR(info.st_mode) ? fcntl(root, F_DUPFD_CLOEXEC, 3) // a file of the host
               : read_only                      ? beneath_open(root, *part ? part : ".", O_PATH, 0)
                                                : beneath_make(root, part, true, 0755);
    if (from < 0)
        (void)err_errno(err, "volume %s has no \"%.200s\"", volume->name, part);
    int view = from < 0 ? -1 : open_tree(from, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_NODEV | (read_only ? MOUNT_ATTR_RDONLY : 0u)};
    if (from >= 0 &&
        (view < 0 || mount_setattr(view, "", AT_EMPTY_PATH, &attributes, sizeof attributes) < 0)) {
        (void)err_errno(err, "cannot make a view of volume %s", volume->name);
        if (view >= 0)
            (void)close(view);
        view = -1;
    }
    if (from >= 0)
        (void)close(from);
    (void)close(root);
    return view;
}

static int put_view(int view, const char *path, struct err *err) {
    struct stat info;
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || fstat(view, &info) < 0)
        return err_errno(err, "cannot open the container's root");
    int target = beneath_make(root, path, S_ISDIR(info.st_mode), 0755);
    if (target < 0)
        return err_set(err, FAIL_INVALID, "cannot make the mount point %.300s: %s", path,
                       strerrordesc_np(errno));
    if (move_mount(view, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return errno == ENOTDIR || errno == EINVAL
                   ? err_set(err, FAIL_INVALID, "cannot mount on %.300s: %s", path, strerrordesc_np(errno))
                   : err_errno(err, "cannot mount on %.300s", path);
    (void)close(target);
    (void)close(root);
    return 0;
}

// In a child, which alone can enter the container's namespace. It ends as soon as one view is in place.
static int place(int view, const char *path, struct err *err) {
    int report[2], status = 0;
    if (pipe2(report, O_CLOEXEC) < 0)
        return err_errno(err, "cannot make a pipe");
    pid_t child = fork();
    if (child == 0) {
        struct err mine = {.code = FAIL_IO};
        (void)alarm(TIME_LIMIT_S);
        int result = mounts_enter() < 0 ? err_errno(&mine, "cannot enter the container's root")
                                        : put_view(view, path, &mine);
        if (result < 0 && write(report[1], &mine, sizeof mine) != (ssize_t)sizeof mine)
            _exit(2);
        _exit(result < 0);
    }
    (void)close(report[1]);
    int result = -1;
    if (child < 0) {
        (void)err_errno(err, "cannot fork");
    } else {
        ssize_t got = read(report[0], err, sizeof *err);
        (void)waitpid(child, &status, 0);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            result = 0;
        else if (got != (ssize_t)sizeof *err)
            (void)err_set(err, FAIL_IO, "mounting on %.300s took longer than %d s", path, TIME_LIMIT_S);
    }
    (void)close(report[0]);
    return result;
}

int volumes_mount(const bulkhead_agent_v1_MountVolumes *request, struct err *err) {
    if (!mounts_ready())
        return err_set(err, FAIL_PRECONDITION, "the root is not mounted yet");
    if (mkdir(FOLDER, 0700) < 0 && errno != EEXIST)
        return err_errno(err, "cannot make %s", FOLDER);
    for (size_t i = 0; i < request->volumes_count; i++) {
        if (mount_volume(&request->volumes[i], err) < 0)
            return -1;
    }
    if (request->mounts_count > MOUNTS_MAX)
        return err_set(err, FAIL_EXHAUSTED, "%zu mounts are more than %d", (size_t)request->mounts_count,
                       MOUNTS_MAX);
    for (; mount_count < request->mounts_count; mount_count++) {
        const bulkhead_agent_v1_VolumeMount *each = &request->mounts[mount_count];
        int view = make_view(each, err);
        if (view < 0)
            return -1;
        int result = place(view, each->mount_path ? each->mount_path : "", err);
        (void)close(view);
        if (result < 0)
            return -1;
    }
    return 0;
}

void volumes_each_disk(void (*told)(const char *name, const char *path, void *context), void *context) {
    for (size_t i = 0; i < volume_count; i++) {
        if (volumes[i].kind == DISK && !volumes[i].read_only)
            told(volumes[i].name, volumes[i].path, context);
    }
}

const char *volumes_files_path(const char *name) {
    const struct mounted *volume = find(name);
    return volume && volume->kind == FILES ? volume->path : NULL;
}

void volumes_close(void) {
    for (size_t i = 0; i < volume_count; i++) {
        if (volumes[i].kind != DISK)
            continue;
        // Views of it may outlive their processes for a moment: read-only, the file system is in order
        // whatever becomes of them.
        if (!volumes[i].read_only)
            (void)mount(NULL, volumes[i].path, NULL, MS_REMOUNT | MS_RDONLY, NULL);
        (void)umount2(volumes[i].path, UMOUNT_NOFOLLOW);
    }
}
