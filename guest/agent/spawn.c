#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "beneath.h"
#include "cgroup.h"
#include "dial.h"
#include "fileaction.h"
#include "files.h"
#include "manyfiles.h"
#include "mounts.h"
#include "userlookup.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
// Where the status pipe is put; everything above it is closed.
#define STATUS_FD 3

static _Noreturn void fail(const struct err *err) {
    // A struct below PIPE_BUF arrives whole or not at all.
    ssize_t written = write(STATUS_FD, err, sizeof *err);
    (void)written; // without a reader the exit code has to do, in a shell's way
    _exit(err->code == FAIL_COMMAND_NOT_FOUND ? 127 : err->code == FAIL_COMMAND_NOT_EXECUTABLE ? 126 : 125);
}

static int reset_signals(struct err *err) {
    sigset_t none;
    // The agent ignores one and blocks some; a program expects neither.
    if (signal(SIGPIPE, SIG_DFL) == SIG_ERR || sigemptyset(&none) < 0 ||
        sigprocmask(SIG_SETMASK, &none, NULL) < 0)
        return err_errno(err, "cannot reset the signal mask");
    return 0;
}

static int take_descriptors(const struct spawn *s, struct err *err) {
    int in = s->in;
    if (in < 0 && (in = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0)
        return err_errno(err, "cannot open /dev/null");
    if (s->terminal && ioctl(s->out, TIOCSCTTY, 0) < 0)
        return err_errno(err, "cannot take the terminal");
    if (dup2(in, STDIN_FILENO) < 0 || dup2(s->out, STDOUT_FILENO) < 0 || dup2(s->err, STDERR_FILENO) < 0)
        return err_errno(err, "cannot take the standard streams");
    return 0;
}

static int parse_limit(const char *name) {
    static const struct {
        const char *name;
        int resource;
    } limits[] = {
        {"CPU", RLIMIT_CPU},           {"FSIZE", RLIMIT_FSIZE},
        {"DATA", RLIMIT_DATA},         {"STACK", RLIMIT_STACK},
        {"CORE", RLIMIT_CORE},         {"RSS", RLIMIT_RSS},
        {"NPROC", RLIMIT_NPROC},       {"NOFILE", RLIMIT_NOFILE},
        {"MEMLOCK", RLIMIT_MEMLOCK},   {"AS", RLIMIT_AS},
        {"LOCKS", RLIMIT_LOCKS},       {"SIGPENDING", RLIMIT_SIGPENDING},
        {"MSGQUEUE", RLIMIT_MSGQUEUE}, {"NICE", RLIMIT_NICE},
        {"RTPRIO", RLIMIT_RTPRIO},     {"RTTIME", RLIMIT_RTTIME},
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        if (strcmp(limits[i].name, name) == 0)
            return limits[i].resource;
    }
    return -1;
}

static int set_limits(const bulkhead_agent_v1_Exec *exec, struct err *err) {
    for (size_t i = 0; i < exec->rlimits_count; i++) {
        const bulkhead_agent_v1_Rlimit *limit = &exec->rlimits[i];
        struct rlimit value = {.rlim_cur = limit->soft, .rlim_max = limit->hard};
        int resource = parse_limit(limit->name);
        if (resource < 0)
            return err_set(err, FAIL_INVALID, "there is no resource limit \"%s\"", limit->name);
        if (setrlimit((__rlimit_resource_t)resource, &value) < 0)
            return err_errno(err, "cannot set the resource limit %s", limit->name);
    }
    return 0;
}

static int become(const struct user *user, bool terminal, struct err *err) {
    // Group 5 is "tty" wherever there is one; the owner matters for programs that reopen their terminal.
    if (terminal && (fchown(STDIN_FILENO, user->uid, 5) < 0 || fchmod(STDIN_FILENO, 0620) < 0))
        return err_errno(err, "cannot give the terminal to the user");
    if (setgroups(user->group_count, user->groups) < 0 || setresgid(user->gid, user->gid, user->gid) < 0 ||
        setresuid(user->uid, user->uid, user->uid) < 0)
        return err_errno(err, "cannot become user %u", user->uid);
    return 0;
}

static int enter_directory(const bulkhead_agent_v1_Exec *exec, struct err *err) {
    const char *cwd = exec->cwd && exec->cwd[0] ? exec->cwd : "/";
    if (chdir(cwd) == 0)
        return 0;
    if (errno == ENOENT || errno == ENOTDIR)
        return err_set(err, FAIL_INVALID, "the working directory %.300s: %s", cwd, strerrordesc_np(errno));
    return err_errno(err, "cannot enter the working directory %.300s", cwd);
}

static void make_directory(const char *path) {
    int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int made = root < 0 ? -1 : beneath_directory(root, path, 0755);
    // Failing to make it is told by entering it.
    if (made >= 0)
        (void)close(made);
    if (root >= 0)
        (void)close(root);
}

static bool same_variable(const char *a, const char *b) {
    size_t length = strcspn(a, "=");
    return length == strcspn(b, "=") && strncmp(a, b, length) == 0;
}

// The request's variables, of several with one name the last, over the basic ones.
static char **build_environment(const bulkhead_agent_v1_Exec *exec, const struct user *user) {
    static char home[sizeof user->home + 8];
    char *basic[] = {(char *)"PATH=" DEFAULT_PATH, home, exec->has_terminal ? (char *)"TERM=xterm" : NULL};
    (void)snprintf(home, sizeof home, "HOME=%s", user->home);
    char **env = calloc((size_t)exec->env_count + 4, sizeof *env);
    if (!env)
        return NULL;
    size_t count = 0;
    for (size_t i = 0; i < exec->env_count; i++) {
        size_t at = 0;
        while (at < count && !same_variable(env[at], exec->env[i]))
            at++;
        env[at] = exec->env[i];
        if (at == count)
            count++;
    }
    for (size_t i = 0; i < sizeof basic / sizeof *basic; i++) {
        size_t at = 0;
        while (basic[i] && at < count && !same_variable(env[at], basic[i]))
            at++;
        if (basic[i] && at == count)
            env[count++] = basic[i];
    }
    return env;
}

static const char *search_path(char **env) {
    for (; *env; env++) {
        if (strncmp(*env, "PATH=", 5) == 0)
            return *env + 5;
    }
    return DEFAULT_PATH;
}

static int exec_failure(int number, const char *command, bool exists, struct err *err) {
    errno = number;
    switch (number) {
    case ENOENT:
    case ENOTDIR:
        if (exists)
            return err_set(err, FAIL_COMMAND_NOT_EXECUTABLE, "%.300s: its interpreter is missing", command);
        return err_set(err, FAIL_COMMAND_NOT_FOUND, "%.300s: no such command", command);
    case E2BIG:
        return err_set(err, FAIL_INVALID, "arguments and environment are too large for the guest's kernel");
    case ENOMEM:
    case EAGAIN:
        return err_errno(err, "cannot execute %.300s", command);
    default:
        return err_set(err, FAIL_COMMAND_NOT_EXECUTABLE, "%.300s: %s", command, strerrordesc_np(number));
    }
}

// Returns only on failure.
static int execute(const bulkhead_agent_v1_Exec *exec, char **env, struct err *err) {
    const char *command = exec->argv[0];
    if (strchr(command, '/')) {
        (void)execve(command, exec->argv, env);
        int number = errno;
        return exec_failure(number, command, access(command, F_OK) == 0, err);
    }
    int denied = 0;
    for (const char *at = search_path(env); command[0] && *at;) {
        char path[PATH_MAX];
        size_t length = strcspn(at, ":");
        int size = snprintf(path, sizeof path, "%.*s/%s", (int)length, length ? at : ".", command);
        if (size > 0 && size < (int)sizeof path) {
            (void)execve(path, exec->argv, env);
            int number = errno;
            if (number != ENOENT && number != ENOTDIR && number != EACCES)
                return exec_failure(number, path, true, err);
            if (number == EACCES)
                denied = EACCES;
            else if (access(path, F_OK) == 0)
                return exec_failure(number, path, true, err);
        }
        at += length + (at[length] == ':');
    }
    return exec_failure(denied ? denied : ENOENT, command, false, err);
}

static int run_exec(const struct spawn *s, struct err *err) {
    static struct user user; // large
    const bulkhead_agent_v1_Exec *exec = s->exec;
    if (userlookup(exec->user, &user, err) < 0 || set_limits(exec, err) < 0)
        return -1;
    char **env = build_environment(exec, &user);
    // argv from the decoder has no NULL behind it.
    char **argv = calloc((size_t)exec->argv_count + 1, sizeof *argv);
    if (!env || !argv)
        return err_set(err, FAIL_EXHAUSTED, "no memory for arguments and environment");
    memcpy(argv, exec->argv, exec->argv_count * sizeof *argv);
    bulkhead_agent_v1_Exec with_end = *exec;
    with_end.argv = argv;
    if (exec->create_cwd && exec->cwd)
        make_directory(exec->cwd);
    if (become(&user, s->terminal, err) < 0 || enter_directory(exec, err) < 0)
        return -1;
    (void)umask(022);
    return execute(&with_end, env, err);
}

_Noreturn void spawn_child(const struct spawn *s) {
    struct err err = {.code = FAIL_IO};
    // From here on the pipe has a fixed place, so that all else can be closed at once.
    if (s->status != STATUS_FD && dup3(s->status, STATUS_FD, O_CLOEXEC) < 0)
        _exit(125);
    if (reset_signals(&err) < 0)
        fail(&err);
    if (setsid() < 0) {
        (void)err_errno(&err, "cannot begin a session");
        fail(&err);
    }
    int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (score < 0 || write(score, "0", 1) != 1) {
        (void)err_errno(&err, "cannot reset the out-of-memory score");
        fail(&err);
    }
    if (take_descriptors(s, &err) < 0)
        fail(&err);
    if (mounts_enter() < 0) {
        (void)err_errno(&err, "cannot enter the container's root");
        fail(&err);
    }
    if (close_range(STATUS_FD + 1, ~0u, 0) < 0) {
        (void)err_errno(&err, "cannot close the agent's descriptors");
        fail(&err);
    }
    int result = s->exec          ? run_exec(s, &err)
                 : s->read_file   ? files_read(s->read_file, STATUS_FD, &err)
                 : s->write_file  ? files_write(s->write_file, STATUS_FD, &err)
                 : s->write_files ? manyfiles_write(s->write_files, STATUS_FD, &err)
                 : s->read_files  ? manyfiles_read(s->read_files, STATUS_FD, &err)
                 : s->dial        ? dial_run(s->dial, STATUS_FD, &err)
                                  : fileaction_run(s->file_action, STATUS_FD, &err);
    if (result < 0)
        fail(&err);
    _exit(0);
}

void spawn_cleaner(const char *path, pid_t worker) {
    struct err err;
    pid_t pid = fork();
    if (pid == 0) {
        // The agent's own work: it keeps the agent's protection from the out-of-memory killer.
        if (reset_signals(&err) == 0 && setsid() >= 0 && mounts_enter() == 0)
            files_remove_unfinished(path, worker);
        _exit(0);
    }
    // Among the work, so that a shutdown waits for it. Where it cannot be forked, the file stays.
    if (pid > 0)
        cgroup_add_background(pid);
}
