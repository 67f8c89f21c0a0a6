// The allow-list. It holds what QEMU calls in the lives that test/e2e/vmm-*.test.ts lead it through
// (cold boots, template saves, restores, disk writes, shutdown) and what its sources call nearby; what is not
// on it fails with EPERM (clone3 with ENOSYS, so that libc falls back to clone, whose flags can be checked).
// QEMU's own -sandbox comes on top of it and takes execve away again.
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <errno.h>
#include <linux/if_tun.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "../src/error.h"
#include "jail.h"

// clang-format off
static const int allowed[] = {
    // memory
    SCMP_SYS(brk), SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(mprotect), SCMP_SYS(madvise),
    SCMP_SYS(membarrier), SCMP_SYS(memfd_create),
    // open descriptors
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(pread64), SCMP_SYS(pwrite64),
    SCMP_SYS(preadv), SCMP_SYS(pwritev), SCMP_SYS(lseek), SCMP_SYS(close), SCMP_SYS(dup), SCMP_SYS(dup2), SCMP_SYS(dup3),
    SCMP_SYS(fcntl), SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(fstatfs), SCMP_SYS(fsync),
    SCMP_SYS(fdatasync), SCMP_SYS(fallocate), SCMP_SYS(ftruncate), SCMP_SYS(fadvise64), SCMP_SYS(close_range),
    // paths; the root is empty and read-only
    SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(access), SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(stat),
    SCMP_SYS(lstat), SCMP_SYS(statfs), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(getdents64),
    // waiting
    SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait), SCMP_SYS(eventfd2), SCMP_SYS(pipe2), SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep),
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(gettimeofday), SCMP_SYS(futex), SCMP_SYS(restart_syscall),
    SCMP_SYS(signalfd4),
    // inherited sockets; none can be made but what socket() below allows
    SCMP_SYS(accept4), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg), SCMP_SYS(recvfrom), SCMP_SYS(sendto), SCMP_SYS(shutdown),
    SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(listen),
    // itself
    SCMP_SYS(execve), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getppid),
    SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid), SCMP_SYS(getrandom), SCMP_SYS(uname),
    SCMP_SYS(sysinfo), SCMP_SYS(getrusage), SCMP_SYS(arch_prctl), SCMP_SYS(rseq), SCMP_SYS(set_tid_address),
    SCMP_SYS(set_robust_list), SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity), SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigpending), SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(sigaltstack), SCMP_SYS(tgkill),
    SCMP_SYS(seccomp), // QEMU's -sandbox adds its filter; filters can only take away
};

// With conditions on arguments.
static const struct {
    int call;
    struct scmp_arg_cmp condition;
} conditional[] = {
    // Threads only: a new process or namespace would need other flags.
    {SCMP_SYS(clone), {.arg = 0, .op = SCMP_CMP_MASKED_EQ,
                       .datum_a = CLONE_THREAD | CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC |
                                  CLONE_NEWUTS | CLONE_NEWCGROUP, .datum_b = CLONE_THREAD}},
    // Reading limits, never setting them. (Argument 2 is the new limit.)
    {SCMP_SYS(prlimit64), {.arg = 2, .op = SCMP_CMP_EQ, .datum_a = 0}},
    // Thread names, the question whether it is dumpable, and what -sandbox sets (both are on already). Never
    // PR_SET_PDEATHSIG, which ties it to its supervisor.
    {SCMP_SYS(prctl), {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = PR_SET_NAME}},
    {SCMP_SYS(prctl), {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = PR_GET_NAME}},
    {SCMP_SYS(prctl), {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = PR_GET_DUMPABLE}},
    {SCMP_SYS(prctl), {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = PR_SET_NO_NEW_PRIVS}},
    {SCMP_SYS(prctl), {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = PR_SET_SECCOMP}},
    {SCMP_SYS(prctl), {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = PR_SET_TIMERSLACK}},
    // Local sockets for QEMU's own plumbing; nothing that reaches a network.
    {SCMP_SYS(socket), {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = AF_UNIX}},
    {SCMP_SYS(socketpair), {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = AF_UNIX}},
    {SCMP_SYS(kill), {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = 1}}, // itself
};

// Requests on the descriptors it holds: the TAP, and whether something is a terminal or has bytes to read.
static const unsigned long ioctls[] = {
    TCGETS, FIONBIO, FIONREAD, TUNGETFEATURES, TUNGETIFF, TUNSETOFFLOAD, TUNSETSNDBUF, TUNGETVNETHDRSZ, TUNSETVNETHDRSZ,
    TUNSETVNETLE, TUNSETVNETBE,
};
// clang-format on

int jail_seccomp(enum vmm_kind kind, char *error, size_t error_size) {
    if (kind != VMM_SOFTWARE)
        return bh_fail(error, error_size, ENOSYS, "no allow-list for this kind of VMM");
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!filter)
        return bh_fail(error, error_size, ENOMEM, "seccomp");
    int result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); // binary tree: fewer steps per call
    for (size_t i = 0; result == 0 && i < sizeof allowed / sizeof *allowed; i++)
        result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    for (size_t i = 0; result == 0 && i < sizeof conditional / sizeof *conditional; i++)
        result =
            seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, conditional[i].call, 1, &conditional[i].condition);
    for (size_t i = 0; result == 0 && i < sizeof ioctls / sizeof *ioctls; i++)
        result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                                  SCMP_A1_32(SCMP_CMP_EQ, (uint32_t)ioctls[i], 0));
    if (result == 0)
        result = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (result == 0)
        result = seccomp_load(filter);
    seccomp_release(filter);
    return result == 0 ? 0 : bh_fail(error, error_size, -result, "seccomp");
}
