// What the file server (QEMU's virtiofsd) calls for its own start and to talk to the VMM; what guests ask of
// directories is in seccomp_shares.c. It puts a list of its own upon both, with which a call that is not on
// it kills.
#include <asm/ioctls.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "seccomp.h"

// clang-format off
static const int allowed[] = {
    // memory, the guest's included
    SCMP_SYS(brk), SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(mprotect), SCMP_SYS(madvise),
    // open descriptors
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(pread64), SCMP_SYS(pwrite64),
    SCMP_SYS(preadv), SCMP_SYS(pwritev), SCMP_SYS(lseek), SCMP_SYS(close), SCMP_SYS(dup), SCMP_SYS(fcntl),
    SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(fstatfs), SCMP_SYS(statfs), SCMP_SYS(fsync),
    SCMP_SYS(fdatasync), SCMP_SYS(fallocate), SCMP_SYS(flock), SCMP_SYS(close_range),
    // paths; the root is read-only but for writable shares
    SCMP_SYS(access), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(chroot), SCMP_SYS(chdir),
    // waiting
    SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(eventfd2), SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday),
    SCMP_SYS(clock_nanosleep), SCMP_SYS(futex), SCMP_SYS(restart_syscall),
    // the socket to the VMM
    SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg), SCMP_SYS(getsockopt), SCMP_SYS(shutdown),
    // itself, in its user namespace of one user
    SCMP_SYS(execve), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getuid),
    SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid), SCMP_SYS(getgroups), SCMP_SYS(capget), SCMP_SYS(capset),
    SCMP_SYS(getrandom), SCMP_SYS(uname), SCMP_SYS(sysinfo), SCMP_SYS(arch_prctl), SCMP_SYS(rseq),
    SCMP_SYS(set_tid_address), SCMP_SYS(set_robust_list), SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_getattr), SCMP_SYS(sched_setattr), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack), SCMP_SYS(tgkill),
    SCMP_SYS(seccomp), // its own list; filters can only take away
};

static const struct conditional_call conditional[] = {
    THREADS_ONLY,
    {SCMP_SYS(openat), 1, {WITHOUT_SET_ID(3)}},
    // It becomes who asks, in each thread: root of the guest is the one user, anybody else is refused (EPERM).
    {SCMP_SYS(setresuid), 1, {ARGUMENT_IS(1, 0)}},
    {SCMP_SYS(setresgid), 1, {ARGUMENT_IS(1, 0)}},
    {SCMP_SYS(unshare), 1, {ARGUMENT_IS(0, CLONE_FS)}},
    {SCMP_SYS(prlimit64), 1, {{.arg = 2, .op = SCMP_CMP_EQ, .datum_a = 0}}}, // reading limits, never setting them
    {SCMP_SYS(prctl), 1, {ARGUMENT_IS(0, PR_SET_NAME)}},
    {SCMP_SYS(prctl), 1, {ARGUMENT_IS(0, PR_CAPBSET_READ)}},
    {SCMP_SYS(prctl), 1, {ARGUMENT_IS(0, PR_CAPBSET_DROP)}},
    {SCMP_SYS(prctl), 1, {ARGUMENT_IS(0, PR_CAP_AMBIENT)}},
    {SCMP_SYS(prctl), 1, {ARGUMENT_IS(0, PR_SET_NO_NEW_PRIVS)}},
    {SCMP_SYS(prctl), 1, {ARGUMENT_IS(0, PR_SET_SECCOMP)}},
    {SCMP_SYS(prctl), 1, {ARGUMENT_IS(0, PR_GET_SECCOMP)}},
    {SCMP_SYS(socketpair), 1, {ARGUMENT_IS(0, AF_UNIX)}},
};

static const unsigned long ioctls[] = {TCGETS, FIONBIO};
// clang-format on

const struct allow_list allow_files = ALLOW_LIST(allowed, conditional, ioctls);
