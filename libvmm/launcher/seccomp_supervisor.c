// What the supervisor calls once its VMM runs: closing what is the VMM's, copying two logs of bounded size,
// waiting, killing, one record.
#include <asm/ioctls.h>
#include <signal.h>

#include "seccomp.h"

// clang-format off
static const int allowed[] = {
    SCMP_SYS(brk), SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(mprotect),
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(close), SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(fcntl),
    SCMP_SYS(lseek), SCMP_SYS(fsync), SCMP_SYS(openat), SCMP_SYS(rename), SCMP_SYS(renameat), SCMP_SYS(renameat2),
    SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(restart_syscall), SCMP_SYS(wait4), SCMP_SYS(signalfd4), SCMP_SYS(close_range), SCMP_SYS(chdir), SCMP_SYS(clock_gettime),
    SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getrandom),
    SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(futex),
};
// clang-format on

static const struct conditional_call conditional[] = {
    {SCMP_SYS(kill), 1, {ARGUMENT_IS(1, SIGKILL)}},
};

static const unsigned long ioctls[] = {TCGETS};

const struct allow_list allow_supervisor = ALLOW_LIST(allowed, conditional, ioctls);
