// What bulkhead-krun and libkrun call in the lives that test/e2e/vmm-*.test.ts lead them through with KVM,
// and what libkrun's sources call nearby. bulkhead-krun takes execve and executable memory away again.
#include <asm/ioctls.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "seccomp.h"

// clang-format off
static const int allowed[] = {
    // memory
    SCMP_SYS(brk), SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(mprotect), SCMP_SYS(madvise),
    SCMP_SYS(membarrier),
    // open descriptors
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(pread64), SCMP_SYS(pwrite64),
    SCMP_SYS(preadv), SCMP_SYS(pwritev), SCMP_SYS(lseek), SCMP_SYS(close), SCMP_SYS(dup), SCMP_SYS(fcntl),
    SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(fstatfs), SCMP_SYS(fsync), SCMP_SYS(fdatasync),
    SCMP_SYS(fallocate),
    // paths; the root is read-only but for the writable disk and the place of the agent's socket
    SCMP_SYS(access), SCMP_SYS(faccessat), SCMP_SYS(stat), SCMP_SYS(lstat),
    SCMP_SYS(readlink), SCMP_SYS(readlinkat),
    // waiting
    SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait), SCMP_SYS(eventfd2), SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep), SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday), SCMP_SYS(futex), SCMP_SYS(restart_syscall),
    // the agent's socket; nothing is ever connected from inside
    SCMP_SYS(bind), SCMP_SYS(listen), SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(recvfrom), SCMP_SYS(sendto),
    SCMP_SYS(shutdown),
    // itself
    SCMP_SYS(execve), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getuid),
    SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid), SCMP_SYS(getrandom), SCMP_SYS(uname), SCMP_SYS(arch_prctl),
    SCMP_SYS(rseq), SCMP_SYS(set_tid_address), SCMP_SYS(set_robust_list), SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
};

static const struct conditional_call conditional[] = {
    THREADS_ONLY,
    {SCMP_SYS(open), 1, {WITHOUT_SET_ID(2)}},
    {SCMP_SYS(openat), 1, {WITHOUT_SET_ID(3)}},
    {SCMP_SYS(socket), 2, {ARGUMENT_IS(0, AF_UNIX), ARGUMENT_IS(1, SOCK_STREAM)}},
    {SCMP_SYS(prlimit64), 1, {{.arg = 2, .op = SCMP_CMP_EQ, .datum_a = 0}}}, // reading limits, never setting them
    {SCMP_SYS(prctl), 1, {ARGUMENT_IS(0, PR_SET_NAME)}},
    {SCMP_SYS(prctl), 1, {ARGUMENT_IS(0, PR_SET_SECCOMP)}},
    {SCMP_SYS(tgkill), 1, {ARGUMENT_IS(0, 1)}}, // its own threads: it is process 1 of its namespace
};

static const unsigned long ioctls[] = {
    TCGETS, FIONBIO, FIOCLEX,
    TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ,
    KVM_GET_API_VERSION, KVM_CREATE_VM, KVM_CHECK_EXTENSION, KVM_GET_VCPU_MMAP_SIZE, KVM_CREATE_VCPU,
    KVM_SET_USER_MEMORY_REGION, KVM_IRQFD, KVM_IOEVENTFD, KVM_IRQ_LINE, KVM_RUN,
#ifdef __x86_64__
    KVM_GET_MSR_INDEX_LIST, KVM_GET_SUPPORTED_CPUID, KVM_SET_TSS_ADDR, KVM_CREATE_IRQCHIP, KVM_CREATE_PIT2,
    KVM_REINJECT_CONTROL, KVM_SET_REGS, KVM_GET_SREGS, KVM_SET_SREGS, KVM_SET_MSRS, KVM_SET_FPU, KVM_SET_CPUID2,
    KVM_GET_LAPIC, KVM_SET_LAPIC,
#endif
#ifdef __aarch64__ // read in libkrun's sources, not run
    KVM_ARM_PREFERRED_TARGET, KVM_ARM_VCPU_INIT, KVM_ARM_VCPU_FINALIZE, KVM_GET_ONE_REG, KVM_SET_ONE_REG,
    KVM_CREATE_DEVICE, KVM_SET_DEVICE_ATTR, KVM_GET_DEVICE_ATTR, KVM_HAS_DEVICE_ATTR,
#endif
};
// clang-format on

const struct allow_list allow_libkrun = ALLOW_LIST(allowed, conditional, ioctls);
