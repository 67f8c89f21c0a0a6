#include "seccomp.h"

#include <errno.h>

#include "../src/error.h"
#include "jail.h"

static int add_rules(scmp_filter_ctx filter, const struct allow_list *list) {
    int result = 0;
    for (size_t i = 0; result == 0 && i < list->call_count; i++)
        result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, list->calls[i], 0);
    for (size_t i = 0; result == 0 && i < list->conditional_count; i++) {
        const struct conditional_call *rule = &list->conditional[i];
        result = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, rule->call, rule->count, rule->conditions);
    }
    for (size_t i = 0; result == 0 && i < list->ioctl_count; i++)
        result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                                  SCMP_A1_32(SCMP_CMP_EQ, (uint32_t)list->ioctls[i], 0));
    for (size_t i = 0; result == 0 && i < list->refused_count; i++)
        result = seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint32_t)list->refused[i].error),
                                  list->refused[i].call, 0);
    return result;
}

int seccomp_confine(const struct allow_list *list, const struct allow_list *more) {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!filter)
        return -ENOMEM;
    int result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); // binary tree: fewer steps per call
    if (result == 0)
        result = add_rules(filter, list);
    if (result == 0 && more)
        result = add_rules(filter, more);
    // The flags of clone3 lie in memory, where no filter looks: libc falls back to clone.
    if (result == 0)
        result = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (result == 0)
        result = seccomp_load(filter);
    seccomp_release(filter);
    return result;
}

int jail_seccomp(const struct launch_config *config, char *error, size_t error_size) {
    static const struct allow_list *const lists[] = {
        [VMM_SOFTWARE] = &allow_software, [VMM_LIBKRUN] = &allow_libkrun, [VMM_FILES] = &allow_files};
    bool serves = config->kind != VMM_SOFTWARE && config->share_count > 0;
    int result = seccomp_confine(lists[config->kind], serves ? &allow_shares : NULL);
    return result == 0 ? 0 : bh_fail(error, error_size, -result, "seccomp");
}
