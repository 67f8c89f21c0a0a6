// Runs in the place of a VMM and tries what no VMM may. Writes "name errno" lines to its stderr; 0 means that
// it worked.
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static void report(const char *name, long result) {
    char line[128];
    int size = snprintf(line, sizeof line, "%s %d\n", name, result < 0 ? errno : 0);
    if (size < 0 || write(STDERR_FILENO, line, (size_t)size) != size)
        _exit(3);
}

#define TRY(name, call)                                                                                      \
    do {                                                                                                     \
        errno = 0;                                                                                           \
        report(name, (long)(call));                                                                          \
    } while (0)

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "crash") == 0) {
        if (write(STDERR_FILENO, "last words\n", 11) != 11)
            return 3;
        volatile char *volatile nowhere = NULL;
        *nowhere = 0;
    }
    char path[64];
    struct rlimit limit = {1 << 20, 1 << 20};
    union bpf_attr bpf = {0};
    struct perf_event_attr perf = {.size = sizeof perf};
    struct iovec vector = {path, sizeof path};

    // files of the host
    TRY("read-shadow", open("/etc/shadow", O_RDONLY));
    TRY("read-host-root", open("/root", O_RDONLY | O_DIRECTORY));
    TRY("read-state", open("/var/lib/bulkhead", O_RDONLY));
    TRY("read-sysfs", open("/sys/kernel", O_RDONLY));
    TRY("read-proc-sys", open("/proc/sys/kernel/hostname", O_RDONLY));
    TRY("read-kcore", open("/proc/kcore", O_RDONLY));
    TRY("climb", open("/../../../../etc/passwd", O_RDONLY));
    TRY("create-file", open("/x", O_RDWR | O_CREAT, 0600));
    TRY("create-in-lib", open("/usr/lib/x86_64-linux-gnu/x", O_RDWR | O_CREAT, 0600));
    TRY("mkdir", syscall(SYS_mkdir, "/d", 0700));
    TRY("mknod", syscall(SYS_mknod, "/n", S_IFCHR | 0600, 259));
    TRY("open-tun", open("/dev/net/tun", O_RDWR));
    TRY("open-kvm", open("/dev/kvm", O_RDWR));
    // privileges
    TRY("setuid-root", syscall(SYS_setuid, 0));
    TRY("setgroups", syscall(SYS_setgroups, 0, NULL));
    TRY("chroot", syscall(SYS_chroot, "/"));
    TRY("mount", syscall(SYS_mount, "none", "/proc", "tmpfs", 0, NULL));
    TRY("umount", syscall(SYS_umount2, "/proc", MNT_DETACH));
    TRY("pivot-root", syscall(SYS_pivot_root, "/", "/"));
    TRY("open-tree", syscall(SYS_open_tree, -100, "/", 1));
    TRY("unshare-user", syscall(SYS_unshare, CLONE_NEWUSER));
    TRY("unshare-net", syscall(SYS_unshare, CLONE_NEWNET));
    TRY("setns", syscall(SYS_setns, 0, 0));
    TRY("clone-process", syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    TRY("fork", syscall(SYS_fork));
    TRY("clone3", syscall(SYS_clone3, NULL, 0));
    TRY("raise-limit", syscall(SYS_setrlimit, RLIMIT_NOFILE, &limit));
    TRY("keep-alive", prctl(PR_SET_PDEATHSIG, 0));
    TRY("sethostname", syscall(SYS_sethostname, "x", 1));
    // kernel interfaces with a long record of holes
    TRY("ptrace", syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0));
    TRY("process-vm-readv", syscall(SYS_process_vm_readv, 1, &vector, 1, &vector, 1, 0));
    TRY("bpf", syscall(SYS_bpf, BPF_MAP_CREATE, &bpf, sizeof bpf));
    TRY("perf", syscall(SYS_perf_event_open, &perf, 0, -1, -1, 0));
    TRY("keyctl", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1));
    TRY("add-key", syscall(SYS_add_key, "user", "x", "y", 1, KEY_SPEC_PROCESS_KEYRING));
    TRY("io-uring", syscall(SYS_io_uring_setup, 1, NULL));
    TRY("userfaultfd", syscall(SYS_userfaultfd, 0));
    TRY("init-module", syscall(SYS_init_module, NULL, 0, ""));
    TRY("kexec", syscall(SYS_kexec_load, 0, 0, NULL, 0));
    TRY("reboot", syscall(SYS_reboot, 0, 0, 0, NULL));
    TRY("iopl", syscall(SYS_iopl, 3));
    TRY("settime", syscall(SYS_clock_settime, 0, NULL));
    TRY("swapon", syscall(SYS_swapon, "/x", 0));
    TRY("personality", syscall(SYS_personality, 0xffffffff));
    TRY("name-to-handle", syscall(SYS_open_by_handle_at, -100, NULL, 0));
    TRY("inject-input", ioctl(0, 0x5412 /* TIOCSTI */, "x"));
    TRY("unlock-directory", flock(9, LOCK_UN));
    // network
    TRY("socket-inet", socket(AF_INET, SOCK_STREAM, 0));
    TRY("socket-raw", socket(AF_INET, SOCK_RAW, 1));
    TRY("socket-packet", socket(AF_PACKET, SOCK_RAW, 0));
    TRY("socket-netlink", socket(AF_NETLINK, SOCK_RAW, 0));
    TRY("socket-vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
    TRY("socket-alg", socket(AF_ALG, SOCK_SEQPACKET, 0));
    // others
    TRY("kill-others", kill(2, SIGKILL));
    TRY("kill-all", kill(-1, SIGKILL));
    TRY("renice", syscall(SYS_setpriority, PRIO_PROCESS, 0, -10));
    TRY("scheduler", syscall(SYS_sched_setscheduler, 0, 1, path));

    // who it is
    char status[4096] = "";
    int fd = open("/proc/self/status", O_RDONLY);
    ssize_t size = fd < 0 ? 0 : read(fd, status, sizeof status - 1);
    if (size > 0 && write(STDERR_FILENO, status, (size_t)size) != size)
        return 3;
    return 42;
}
