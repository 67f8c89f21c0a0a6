#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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

#define GROUP_PATH_MAX 64

static void group_path(char path[GROUP_PATH_MAX], uint32_t group, const char *file) {
    (void)snprintf(path, GROUP_PATH_MAX, WORK "/s-%u%s", group, file);
}

// Of the last group that was made.
static uint32_t last_group;
// A group that nobody has taken yet.
static bool has_spare;

// What a kernel lacks is left out: the limits are the guest's protection against itself, not the sandbox's
// border.
static void enable_controllers(const char *subtree) {
    // All at once costs a fifth, and is refused as a whole where one is lacking.
    if (put(subtree, "+cpu +memory +pids +io +cpuset") == 0)
        return;
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

// Five controllers make this the slowest step of a short command that can be done before it comes.
static int make_group(uint32_t group) {
    char path[GROUP_PATH_MAX];
    group_path(path, group, "");
    return mkdir(path, 0755) == 0 || errno == EEXIST ? 0 : -1;
}

int cgroup_take(uint32_t *group, struct err *err) {
    uint32_t next = has_spare ? last_group : last_group + 1;
    // Also where it is there: work may have taken it away.
    if (make_group(next) < 0)
        return err_errno(err, "cannot make the control group of the session");
    has_spare = false;
    *group = last_group = next;
    return 0;
}

void cgroup_prepare(void) {
    // Whoever takes it tells why it cannot be made.
    if (has_spare || make_group(last_group + 1) < 0)
        return;
    last_group++;
    has_spare = true;
}

pid_t cgroup_fork(uint32_t group) {
    char path[GROUP_PATH_MAX];
    group_path(path, group, "");
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    struct clone_args arguments = {
        .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)fd};
    // Past libc, which has no such call: there are no other threads here for it to care for.
    pid_t pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid == 0)
        return 0;
    int saved = errno;
    (void)close(fd);
    errno = saved;
    return pid;
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

void cgroup_remove(uint32_t group) {
    char path[GROUP_PATH_MAX];
    if (group == 0)
        return;
    group_path(path, group, "");
    if (rmdir(path) < 0)
        remove_tree(path, 0);
}

void cgroup_kill(uint32_t group) {
    char path[GROUP_PATH_MAX];
    if (group == 0)
        return;
    group_path(path, group, "/cgroup.kill");
    (void)put(path, "1");
}

void cgroup_kill_all(void) {
    (void)put(WORK "/cgroup.kill", "1");
}

bool cgroup_oom_killed(uint32_t group) {
    char path[GROUP_PATH_MAX];
    group_path(path, group, "/memory.events");
    return textfile_value(path, "oom_kill") > 0;
}

bool cgroup_populated(void) {
    return textfile_value(WORK "/cgroup.events", "populated") > 0;
}

uint32_t cgroup_task_count(void) {
    return (uint32_t)textfile_number(WORK "/pids.current");
}
