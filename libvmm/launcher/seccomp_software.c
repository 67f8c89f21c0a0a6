// What QEMU calls in the lives that test/e2e/vmm-*.test.ts lead it through (cold boots, template saves,
// restores, disk writes, shutdown) and what its sources call nearby. QEMU's own -sandbox comes on top of it
// and takes execve away again.
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <linux/if_tun.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "seccomp.h"

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

static const struct conditional_call conditional[] = {
    THREADS_ONLY,
    // Reading limits, never setting them. (Argument 2 is the new limit.)
    {SCMP_SYS(prlimit64), 1, {{.arg = 2, .op = SCMP_CMP_EQ, .datum_a = 0}}},
    // Thread names, the question whether it is dumpable, and what -sandbox sets (both are on already). Never
    // PR_SET_PDEATHSIG, which ties it to its supervisor.
    {SCMP_SYS(prctl), 1, {ARGUMENT_IS(0, PR_SET_NAME)}},
    {SCMP_SYS(prctl), 1, {ARGUMENT_IS(0, PR_GET_NAME)}},
    {SCMP_SYS(prctl), 1, {ARGUMENT_IS(0, PR_GET_DUMPABLE)}},
    {SCMP_SYS(prctl), 1, {ARGUMENT_IS(0, PR_SET_NO_NEW_PRIVS)}},
    {SCMP_SYS(prctl), 1, {ARGUMENT_IS(0, PR_SET_SECCOMP)}},
    {SCMP_SYS(prctl), 1, {ARGUMENT_IS(0, PR_SET_TIMERSLACK)}},
    // Local sockets for QEMU's own plumbing; nothing that reaches a network.
    {SCMP_SYS(socket), 1, {ARGUMENT_IS(0, AF_UNIX)}},
    {SCMP_SYS(socketpair), 1, {ARGUMENT_IS(0, AF_UNIX)}},
    {SCMP_SYS(kill), 1, {ARGUMENT_IS(0, 1)}}, // itself
};

// Requests on the descriptors it holds: the TAP, and whether something is a terminal or has bytes to read.
static const unsigned long ioctls[] = {
    TCGETS, FIONBIO, FIONREAD, TUNGETFEATURES, TUNGETIFF, TUNSETOFFLOAD, TUNSETSNDBUF, TUNGETVNETHDRSZ, TUNSETVNETHDRSZ,
    TUNSETVNETLE, TUNSETVNETBE,
};
// clang-format on

const struct allow_list allow_software = ALLOW_LIST(allowed, conditional, ioctls);
