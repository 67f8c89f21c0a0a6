#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "textfile.h"

#define ROOT "/sys/fs/cgroup"
#define WORK ROOT "/sandbox"
// Processes that outlive their session: servers started in the background by an exec.
#define BACKGROUND "background"
// Kept from work for the agent, its rings and the kernel's own needs.
#define MEMORY_RESERVE (16ull * 1024 * 1024)
#define MEMORY_RESERVE_SHARE 16
#define TASK_RESERVE 64
#define DEPTH_MAX 32

static int put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t written = write(fd, text, strlen(text));
    int saved = errno;
    (void)close(fd);
    errno = saved;
    return written < 0 ? -1 : 0;
}

static void session_path(char path[300], const char *session_id, const char *file) {
    (void)snprintf(path, 300, WORK "/s-%s%s", session_id, file);
}

// What a kernel lacks is left out: the limits are the guest's protection against itself, not the sandbox's
// border.
static void enable_controllers(const char *subtree) {
    static const char *const controllers[] = {"+cpu", "+memory", "+pids", "+io", "+cpuset"};
    for (size_t i = 0; i < sizeof controllers / sizeof *controllers; i++)
        (void)put(subtree, controllers[i]);
}

static void bound_work(void) {
    char text[32];
    uint64_t total = textfile_value("/proc/meminfo", "MemTotal:") * 1024;
    uint64_t reserve =
        total / MEMORY_RESERVE_SHARE < MEMORY_RESERVE ? total / MEMORY_RESERVE_SHARE : MEMORY_RESERVE;
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)(total - reserve));
    (void)put(WORK "/memory.max", text);
    uint64_t threads = textfile_number("/proc/sys/kernel/threads-max");
    uint64_t pids = textfile_number("/proc/sys/kernel/pid_max");
    uint64_t most = threads < pids ? threads : pids;
    (void)snprintf(text, sizeof text, "%llu",
                   (unsigned long long)(most > 2 * TASK_RESERVE ? most - TASK_RESERVE : most));
    (void)put(WORK "/pids.max", text);
}

int cgroup_setup(struct err *err) {
    if (mount("cgroup2", ROOT, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return err_errno(err, "cannot mount cgroup2");
    enable_controllers(ROOT "/cgroup.subtree_control");
    if (mkdir(WORK, 0755) < 0 && errno != EEXIST)
        return err_errno(err, "cannot make the control group " WORK);
    enable_controllers(WORK "/cgroup.subtree_control");
    if (mkdir(WORK "/" BACKGROUND, 0755) < 0 && errno != EEXIST)
        return err_errno(err, "cannot make the control group for background processes");
    bound_work();
    return 0;
}

int cgroup_create(const char *session_id, struct err *err) {
    char path[300];
    session_path(path, session_id, "");
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return err_errno(err, "cannot make the control group of the session");
    return 0;
}

int cgroup_enter(const char *session_id) {
    char path[300];
    session_path(path, session_id, "/cgroup.procs");
    return put(path, "0");
}

void cgroup_add_background(pid_t pid) {
    char text[32];
    (void)snprintf(text, sizeof text, "%d", (int)pid);
    (void)put(WORK "/" BACKGROUND "/cgroup.procs", text); // one that ended meanwhile needs no group
}

static void move_processes(const char *from) {
    char path[600];
    (void)snprintf(path, sizeof path, "%s/cgroup.procs", from);
    FILE *procs = fopen(path, "re");
    if (!procs)
        return;
    char line[32];
    while (fgets(line, sizeof line, procs))
        (void)put(WORK "/" BACKGROUND "/cgroup.procs", line); // one that ended meanwhile needs no moving
    (void)fclose(procs);
}

// Groups inside are what work in the session made for itself.
static void remove_tree(const char *path, int depth) {
    DIR *directory = depth < DEPTH_MAX ? opendir(path) : NULL;
    if (!directory)
        return;
    struct dirent *entry;
    while ((entry = readdir(directory))) {
        char child[600];
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.' &&
            snprintf(child, sizeof child, "%s/%s", path, entry->d_name) < (int)sizeof child)
            remove_tree(child, depth + 1);
    }
    (void)closedir(directory);
    if (rmdir(path) < 0 && errno == EBUSY) {
        move_processes(path);
        (void)rmdir(
            path); // still busy only when processes are dying; the directory is then made use of again
    }
}

void cgroup_remove(const char *session_id) {
    char path[300];
    session_path(path, session_id, "");
    remove_tree(path, 0);
}

void cgroup_kill(const char *session_id) {
    char path[300];
    session_path(path, session_id, "/cgroup.kill");
    (void)put(path, "1");
}

void cgroup_kill_all(void) {
    (void)put(WORK "/cgroup.kill", "1");
}

bool cgroup_oom_killed(const char *session_id) {
    char path[300];
    session_path(path, session_id, "/memory.events");
    return textfile_value(path, "oom_kill") > 0;
}

bool cgroup_populated(void) {
    return textfile_value(WORK "/cgroup.events", "populated") > 0;
}

uint32_t cgroup_task_count(void) {
    return (uint32_t)textfile_number(WORK "/pids.current");
}
