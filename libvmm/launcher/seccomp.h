// Lists of the system calls that a process may make, one file each: seccomp_NAME.c. Everything else fails
// with EPERM; calls of another ABI (32 bit, x32) kill. Numbers come from libseccomp, so that the lists hold
// on every architecture; a name that an architecture does not have is skipped there.
#pragma once
#include <errno.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

// A call that is allowed when all conditions hold.
struct conditional_call {
    int call;
    unsigned int count;
    struct scmp_arg_cmp conditions[2];
};

// A call that fails with an error of its own, which says more than EPERM.
struct refused_call {
    int call;
    int error;
};

struct allow_list {
    const int *calls;
    size_t call_count;
    const struct conditional_call *conditional;
    size_t conditional_count;
    const unsigned long *ioctls; // requests, on any descriptor
    size_t ioctl_count;
    const struct refused_call *refused;
    size_t refused_count;
};

#define ALLOW_LIST(calls_, conditional_, ioctls_)                                                            \
    {                                                                                                        \
        .calls = calls_, .call_count = sizeof calls_ / sizeof *calls_, .conditional = conditional_,          \
        .conditional_count = sizeof conditional_ / sizeof *conditional_, .ioctls = ioctls_,                  \
        .ioctl_count = sizeof ioctls_ / sizeof *ioctls_                                                      \
    }

// For int arguments: the kernel looks at 32 bits, and callers may leave anything above them. Never for
// pointers.
#define ARGUMENT_IS(index, value)                                                                            \
    { .arg = index, .op = SCMP_CMP_MASKED_EQ, .datum_a = UINT32_MAX, .datum_b = (uint32_t)(value) }

// A new process or namespace would need other flags.
#define THREADS_ONLY                                                                                         \
    {                                                                                                        \
        SCMP_SYS(clone), 1, {                                                                                \
            {                                                                                                \
                .arg = 0, .op = SCMP_CMP_MASKED_EQ,                                                          \
                .datum_a = CLONE_THREAD | CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID |        \
                           CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP,                                    \
                .datum_b = CLONE_THREAD                                                                      \
            }                                                                                                \
        }                                                                                                    \
    }

// For modes of files that a guest asks for: never set-user-ID or set-group-ID, which would hand the rights of
// the owner on the host to whoever runs the file there.
#define WITHOUT_SET_ID(index)                                                                                \
    { .arg = index, .op = SCMP_CMP_MASKED_EQ, .datum_a = S_ISUID | S_ISGID, .datum_b = 0 }

extern const struct allow_list allow_software, allow_libkrun, allow_files, allow_supervisor;
// Beside one of these: what serving directories of the host takes.
extern const struct allow_list allow_shares;

// Confines this process for ever to what the lists allow together; `more` may be NULL. 0 or a negative errno.
int seccomp_confine(const struct allow_list *list, const struct allow_list *more);
