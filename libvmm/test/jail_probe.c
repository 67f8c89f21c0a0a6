// Runs in the place of a VMM, as one that a guest has taken over, and tries what no VMM may. Writes "name
// errno" lines to its stderr; 0 means that it worked. Which layer has to refuse each attempt:
// test/e2e/vmm-jail.test.ts.
//
//   jail-probe try software|libkrun    all attempts, then /proc/self/status; ends with 42
//   jail-probe wait                    nothing, until it is killed
//   jail-probe crash                   last words and a wild pointer
//   jail-probe x32 | i386              one harmless call through another ABI
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/keyctl.h>
#include <linux/kvm.h>
#include <linux/perf_event.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "../krun-vm/lockdown.h"

enum { EXIT_TRIED = 42, EXIT_BROKEN = 3 };

static void say(const char *text, size_t size) {
    if (write(STDERR_FILENO, text, size) != (ssize_t)size)
        _exit(EXIT_BROKEN);
}

static void report(const char *name, long result) {
    char line[128];
    int size = snprintf(line, sizeof line, "%s %d\n", name, result < 0 ? errno : 0);
    say(line, (size_t)size);
}

#define TRY(name, call)                                                                                      \
    do {                                                                                                     \
        errno = 0;                                                                                           \
        report(name, (long)(call));                                                                          \
    } while (0)

static void try_files(void) {
    TRY("read-shadow", open("/etc/shadow", O_RDONLY));
    TRY("read-host-root", open("/root", O_RDONLY | O_DIRECTORY));
    TRY("read-state", open("/var/lib/bulkhead", O_RDONLY));
    TRY("read-sysfs", open("/sys/kernel", O_RDONLY));
    TRY("read-cgroups", open("/sys/fs/cgroup", O_RDONLY));
    TRY("read-proc-sys", open("/proc/sys/kernel/hostname", O_RDONLY));
    TRY("read-kcore", open("/proc/kcore", O_RDONLY));
    TRY("read-kallsyms", open("/proc/kallsyms", O_RDONLY));
    TRY("read-supervisor", open("/proc/2/status", O_RDONLY));
    TRY("climb", open("/../../../../etc/passwd", O_RDONLY));
    TRY("climb-by-proc", open("/proc/self/root/../etc/passwd", O_RDONLY));
    TRY("climb-by-cwd", open("/proc/1/cwd/etc/passwd", O_RDONLY));
    TRY("docker-socket", open("/var/run/docker.sock", O_RDWR));
    TRY("open-mem", open("/dev/mem", O_RDWR));
    TRY("open-disk", open("/dev/sda", O_RDWR));
    TRY("open-vhost", open("/dev/vhost-net", O_RDWR));
    TRY("open-tty", open("/dev/tty", O_RDWR));
    TRY("open-ptmx", open("/dev/ptmx", O_RDWR));
    TRY("create-file", open("/x", O_RDWR | O_CREAT, 0600));
    TRY("create-device-file", open("/dev/x", O_RDWR | O_CREAT, 0600));
    TRY("write-image", open("/image", O_RDWR));
    TRY("truncate-image", open("/image", O_RDONLY | O_TRUNC));
    TRY("write-program", open("/probe", O_WRONLY));
    TRY("write-oom-score", open("/proc/self/oom_score_adj", O_WRONLY));
    TRY("write-uid-map", open("/proc/self/uid_map", O_WRONLY));
    // The lock of the VM's directory is inherited; its mode is its owner's alone.
    TRY("reopen-lock", open("/proc/self/fd/7", O_RDWR));
    TRY("mmap-image-shared",
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, open("/image", O_RDONLY), 0) == MAP_FAILED ? -1
                                                                                                        : 0);
}

struct call {
    const char *name;
    long number;
    long arguments[6];
};

// Each call is harmless where it is not refused: its arguments are wrong in a way that the kernel looks at
// late, or it changes this process alone.
static void try_calls(void) {
    static const struct rlimit limit = {1 << 20, 1 << 20};
    static union bpf_attr bpf;
    static struct perf_event_attr perf = {.size = sizeof perf};
    static char bytes[64];
    static struct iovec vector = {bytes, sizeof bytes};
    const long path = (long)"/agent", other = (long)"/agent/y", image = (long)"/image", at = AT_FDCWD;
    const struct call calls[] = {
        // names in file systems
        {"mkdir", SYS_mkdirat, {at, (long)"/d", 0700}},
        {"mknod", SYS_mknodat, {at, (long)"/n", S_IFCHR | 0600, 259}},
        {"fifo-in-agent", SYS_mknodat, {at, other, S_IFIFO | 0600, 0}},
        {"mkdir-in-agent", SYS_mkdirat, {at, other, 0700}},
        {"symlink-in-agent", SYS_symlinkat, {(long)"/", at, other}},
        {"link", SYS_linkat, {at, image, at, other, 0}},
        {"rename-agent", SYS_renameat2, {at, (long)"/agent/agent.sock", at, other, 0}},
        {"unlink-agent", SYS_unlinkat, {at, (long)"/agent/agent.sock", 0}},
        {"chmod", SYS_fchmodat, {at, path, 0777}},
        {"chown", SYS_fchownat, {at, path, 0, 0, 0}},
        {"touch", SYS_utimensat, {at, image, 0, 0}},
        {"truncate", SYS_truncate, {image, 0}},
        {"setxattr", SYS_setxattr, {path, (long)"user.x", (long)"x", 1, 0}},
        {"name-to-handle", SYS_name_to_handle_at, {at, path, (long)bytes, (long)bytes, 0}},
        {"open-by-handle", SYS_open_by_handle_at, {at, 0, 0}},
        {"openat2", SYS_openat2, {at, image, 0, 0}},
        {"inotify", SYS_inotify_init1, {0}},
        {"fanotify", SYS_fanotify_init, {0, 0}},
        {"unlock-directory", SYS_flock, {7, LOCK_UN}},
        // mounts and namespaces
        {"chroot", SYS_chroot, {(long)"/"}},
        {"pivot-root", SYS_pivot_root, {(long)"/", (long)"/"}},
        {"mount", SYS_mount, {(long)"none", (long)"/proc", (long)"tmpfs", 0, 0}},
        {"umount", SYS_umount2, {(long)"/proc", MNT_DETACH}},
        {"open-tree", SYS_open_tree, {at, (long)"/", 1}},
        {"move-mount", SYS_move_mount, {at, (long)"/proc", at, (long)"/dev", 0}},
        {"fsopen", SYS_fsopen, {(long)"tmpfs", 0}},
        {"mount-setattr", SYS_mount_setattr, {at, (long)"/", 0, (long)bytes, 32}},
        {"unshare-user", SYS_unshare, {CLONE_NEWUSER}},
        {"unshare-mount", SYS_unshare, {CLONE_NEWNS}},
        {"unshare-net", SYS_unshare, {CLONE_NEWNET}},
        {"unshare-pid", SYS_unshare, {CLONE_NEWPID}},
        {"setns", SYS_setns, {0, 0}},
        // processes
        {"clone-process", SYS_clone, {SIGCHLD}},
        {"clone-user-namespace", SYS_clone, {CLONE_NEWUSER | SIGCHLD}},
        {"clone-thread-in-namespace", SYS_clone, {CLONE_THREAD | CLONE_SIGHAND | CLONE_VM | CLONE_NEWNET}},
#ifdef SYS_fork
        {"fork", SYS_fork, {0}},
#endif
        {"execveat", SYS_execveat, {at, (long)"/probe", 0, 0, 0}},
        {"ptrace", SYS_ptrace, {PTRACE_TRACEME}},
        {"ptrace-attach", SYS_ptrace, {PTRACE_SEIZE, 2}},
        {"process-vm-readv", SYS_process_vm_readv, {1, (long)&vector, 1, (long)&vector, 1, 0}},
        {"process-vm-writev", SYS_process_vm_writev, {2, (long)&vector, 1, (long)&vector, 1, 0}},
        {"process-madvise", SYS_process_madvise, {0, (long)&vector, 1, 0, 0}},
        {"kcmp", SYS_kcmp, {1, 2, 0, 0, 0}},
        {"pidfd-open", SYS_pidfd_open, {1, 0}},
        {"pidfd-getfd", SYS_pidfd_getfd, {0, 0, 0}},
        {"pidfd-signal", SYS_pidfd_send_signal, {0, SIGKILL, 0, 0}},
        {"kill-others", SYS_kill, {2, SIGKILL}},
        {"kill-all", SYS_kill, {-1, SIGKILL}},
        {"kill-group", SYS_kill, {0, SIGCONT}},
        {"tkill", SYS_tkill, {2, SIGKILL}},
        {"queue-signal", SYS_rt_sigqueueinfo, {2, SIGKILL, (long)bytes}},
        {"setsid", SYS_setsid, {0}},
        // rights and limits
        {"setuid-root", SYS_setuid, {0}},
        {"setresuid", SYS_setresuid, {0, 0, 0}},
        {"setgid", SYS_setgid, {0}},
        {"setfsuid", SYS_setfsuid, {0}},
        {"setgroups", SYS_setgroups, {0, 0}},
        {"capset", SYS_capset, {0, 0}},
        {"raise-limit", SYS_setrlimit, {RLIMIT_NOFILE, (long)&limit}},
        {"raise-limit-new", SYS_prlimit64, {0, RLIMIT_NOFILE, (long)&limit, 0}},
        {"renice", SYS_setpriority, {PRIO_PROCESS, 0, -10}},
        {"io-priority", SYS_ioprio_set, {1, 0, 1 << 13}},
        {"scheduler", SYS_sched_setscheduler, {0, 1, (long)bytes}},
        {"affinity", SYS_sched_setaffinity, {0, sizeof bytes, (long)bytes}},
        {"lock-memory", SYS_mlockall, {1}},
        {"keep-alive", SYS_prctl, {PR_SET_PDEATHSIG, 0}},
        {"hide-from-proc", SYS_prctl, {PR_SET_DUMPABLE, 0}},
        {"allow-ptrace", SYS_prctl, {PR_SET_PTRACER, -1}},
        {"ambient-capability", SYS_prctl, {PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0}},
        {"rewrite-command-line", SYS_prctl, {PR_SET_MM, PR_SET_MM_ARG_START, 0, 0, 0}},
        {"personality", SYS_personality, {0xffffffff}},
        // kernel interfaces with a long record of holes, and the machine itself
        {"bpf", SYS_bpf, {BPF_MAP_CREATE, (long)&bpf, sizeof bpf}},
        {"perf", SYS_perf_event_open, {(long)&perf, 0, -1, -1, 0}},
        {"keyctl", SYS_keyctl, {KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1}},
        {"add-key", SYS_add_key, {(long)"user", (long)"x", (long)"y", 1, KEY_SPEC_PROCESS_KEYRING}},
        {"request-key", SYS_request_key, {(long)"user", (long)"x", 0, 0}},
        {"io-uring", SYS_io_uring_setup, {1, 0}},
        {"io-uring-enter", SYS_io_uring_enter, {0, 0, 0, 0, 0, 0}},
        {"aio", SYS_io_setup, {1, (long)bytes}},
        {"userfaultfd", SYS_userfaultfd, {0}},
        {"vmsplice", SYS_vmsplice, {0, 0, 0, 0}},
        {"splice", SYS_splice, {0, 0, 0, 0, 0, 0}},
        {"move-pages", SYS_move_pages, {0, 0, 0, 0, 0, 0}},
        {"mbind", SYS_mbind, {0, 0, 0, 0, 0, 0}},
        {"remap-file-pages", SYS_remap_file_pages, {0, 0, 0, 0, 0}},
        {"shared-memory", SYS_shmget, {0, 4096, 0600}},
        {"message-queue", SYS_msgget, {0, 0600}},
        {"posix-queue", SYS_mq_open, {(long)"x", O_CREAT, 0600, 0}},
        {"semaphore", SYS_semget, {0, 1, 0600}},
        {"init-module", SYS_init_module, {0, 0, (long)""}},
        {"finit-module", SYS_finit_module, {0, (long)"", 0}},
        {"delete-module", SYS_delete_module, {(long)"x", 0}},
        {"kexec", SYS_kexec_load, {0, 0, 0, 0}},
        {"reboot", SYS_reboot, {0, 0, 0, 0}},
        {"kernel-log", SYS_syslog, {3, (long)bytes, sizeof bytes}},
        {"swapon", SYS_swapon, {(long)"/x", 0}},
        {"process-accounting", SYS_acct, {0}},
        {"quotactl", SYS_quotactl, {0, 0, 0, 0}},
        {"settime", SYS_clock_settime, {0, 0}},
        {"adjtime", SYS_adjtimex, {0}},
        {"sethostname", SYS_sethostname, {(long)"x", 1}},
        {"hang-up", SYS_vhangup, {0}},
#ifdef __x86_64__
        {"iopl", SYS_iopl, {3}},
        {"ioperm", SYS_ioperm, {0x60, 1, 1}},
        {"modify-ldt", SYS_modify_ldt, {1, 0, 0}},
        {"uselib", SYS_uselib, {(long)"/probe"}},
#endif
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        const long *a = calls[i].arguments;
        TRY(calls[i].name, syscall(calls[i].number, a[0], a[1], a[2], a[3], a[4], a[5]));
    }
    TRY("clone3", syscall(SYS_clone3, NULL, 0));
}

static void try_sockets(void) {
    struct sockaddr_un host = {.sun_family = AF_UNIX, .sun_path = "\0/tmp/.X11-unix/X0"};
    TRY("socket-inet", socket(AF_INET, SOCK_STREAM, 0));
    TRY("socket-inet6", socket(AF_INET6, SOCK_DGRAM, 0));
    TRY("socket-raw", socket(AF_INET, SOCK_RAW, 1));
    TRY("socket-packet", socket(AF_PACKET, SOCK_RAW, 0));
    TRY("socket-netlink", socket(AF_NETLINK, SOCK_RAW, 0));
    TRY("socket-vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
    TRY("socket-alg", socket(AF_ALG, SOCK_SEQPACKET, 0));
    TRY("socket-bluetooth", socket(31, SOCK_RAW, 0));
    TRY("connect-anywhere", connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&host, sizeof host));
}

static void try_ioctls(void) {
    struct ifreq request = {.ifr_name = "lo"};
    char byte = 'x';
    int flags = 0;
    int image = open("/image", O_RDONLY);
    TRY("inject-input", ioctl(0, 0x5412 /* TIOCSTI */, &byte));
    TRY("interface-flags", ioctl(0, SIOCGIFFLAGS, &request));
    TRY("freeze-file-system", ioctl(image, FIFREEZE, 0));
    TRY("file-flags", ioctl(image, FS_IOC_SETFLAGS, &flags));
    TRY("clone-range", ioctl(image, FICLONE, image));
    TRY("tap-persist", ioctl(image, TUNSETPERSIST, 0));
    TRY("tap-owner", ioctl(image, TUNSETOWNER, 0));
    TRY("kvm-device", ioctl(image, KVM_CREATE_DEVICE, NULL));
    TRY("kvm-dirty-log", ioctl(image, KVM_GET_DIRTY_LOG, NULL));
    TRY("kvm-nested-state", ioctl(image, KVM_SET_NESTED_STATE, NULL));
}

static void *sleep_for_ever(void *nothing) {
    (void)poll(NULL, 0, -1);
    return nothing;
}

// Last, as they use things up. The names end in what stops them.
static void try_floods(void) {
    int opened = 0, fd;
    while ((fd = open("/dev/null", O_RDONLY)) >= 0)
        opened++;
    report("flood-of-descriptors", -1);
    for (fd = 255; fd > 16 && opened > 0; fd--, opened--)
        (void)close(fd);
    pthread_attr_t small;
    pthread_t thread;
    int result = pthread_attr_init(&small);
    if (result == 0)
        result = pthread_attr_setstacksize(&small, 64 * 1024);
    for (int i = 0; result == 0 && i < 4096; i++)
        result = pthread_create(&thread, &small, sleep_for_ever, NULL);
    errno = result;
    report("flood-of-threads", -1);
}

static void try_as_software(void) {
    TRY("open-kvm", open("/dev/kvm", O_RDWR));
    TRY("open-tun", open("/dev/net/tun", O_RDWR));
    TRY("open-agent-directory", open("/agent", O_RDONLY | O_DIRECTORY));
}

static int bind_at(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return fd < 0 ? -1 : bind(fd, (struct sockaddr *)&address, sizeof address);
}

static void try_as_libkrun(void) {
    struct ifreq own = {.ifr_name = "tap0", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    struct ifreq other = {.ifr_name = "tap1", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int tun = open("/dev/net/tun", O_RDWR), upper = open("/upper", O_RDWR);
    // what it may
    TRY("allowed-open-tun", tun);
    TRY("allowed-open-kvm", open("/dev/kvm", O_RDWR));
    TRY("allowed-open-upper", upper);
    TRY("allowed-write-upper", pwrite(upper, "x", 1, 0));
    TRY("allowed-agent-socket", bind_at("/agent/agent.sock"));
    TRY("make-tap", ioctl(tun, TUNSETIFF, &other));
    TRY("allowed-own-tap", ioctl(tun, TUNSETIFF, &own));
    TRY("second-socket", bind_at("/agent/second.sock"));
    TRY("file-beside-socket", open("/agent/x", O_RDWR | O_CREAT, 0600));
    TRY("socket-elsewhere", bind_at("/second.sock"));
    TRY("socket-pair", socketpair(AF_UNIX, SOCK_STREAM, 0, (int[2]){0}));
    TRY("socket-datagram", socket(AF_UNIX, SOCK_DGRAM, 0));
    TRY("memory-file", syscall(SYS_memfd_create, "x", 0));
    TRY("pass-descriptors", sendmsg(0, &(struct msghdr){0}, 0));
    TRY("list-directory", syscall(SYS_getdents64, 0, NULL, 0));
    // The upper disk keeps its size; otherwise it could fill the host's file system.
    TRY("shrink-upper", ftruncate(upper, 0));
    (void)signal(SIGXFSZ, SIG_IGN);
    TRY("grow-upper", pwrite(upper, "x", 1, lseek(upper, 0, SEEK_END)));
    TRY("grow-upper-far", fallocate(upper, 0, 0, 1ll << 40));
    // New code: memory first, then a program.
    TRY("map-upper-executable",
        mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, upper, 0) == MAP_FAILED ? -1 : 0);
    if (lockdown() != 0)
        _exit(EXIT_BROKEN);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TRY("allowed-memory", page == MAP_FAILED ? -1 : 0);
    TRY("make-memory-executable", mprotect(page, 4096, PROT_READ | PROT_EXEC));
    TRY("map-executable",
        mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0);
    TRY("exec", execve("/probe", (char *[]){"/probe", NULL}, NULL));
}

static void tell_status(void) {
    char status[4096];
    int fd = open("/proc/self/status", O_RDONLY);
    ssize_t size = fd < 0 ? 0 : read(fd, status, sizeof status);
    if (size > 0)
        say(status, (size_t)size);
    (void)close(fd);
}

int main(int argc, char **argv) {
    const char *task = argc > 1 ? argv[1] : "";
    if (strcmp(task, "wait") == 0)
        return poll(NULL, 0, -1);
    if (strcmp(task, "crash") == 0) {
        say("last words\n", 11);
        volatile char *volatile nowhere = NULL;
        *nowhere = 0;
    }
#ifdef __x86_64__
    if (strcmp(task, "x32") == 0)
        return (int)syscall(0x40000000 | SYS_getpid);
    if (strcmp(task, "i386") == 0) {
        long number = 20; // getpid
        __asm__ volatile("int $0x80" : "+a"(number) : : "memory");
        return (int)number;
    }
#endif
    try_files();
    try_calls();
    try_sockets();
    try_ioctls();
    if (argc > 2 && strcmp(argv[2], "libkrun") == 0)
        try_as_libkrun();
    else
        try_as_software();
    tell_status();
    try_floods();
    return EXIT_TRIED;
}
