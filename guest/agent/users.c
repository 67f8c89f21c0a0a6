#include "users.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct span {
    const char *at;
    size_t size;
};

// Takes the next line off the text, without its newline.
static bool next_line(struct span *text, struct span *line) {
    if (text->size == 0)
        return false;
    const char *newline = memchr(text->at, '\n', text->size);
    line->at = text->at;
    line->size = newline ? (size_t)(newline - text->at) : text->size;
    size_t taken = newline ? line->size + 1 : line->size;
    text->at += taken;
    text->size -= taken;
    return true;
}

// Takes the next field off the line; an exhausted line gives empty fields.
static struct span next_field(struct span *line, char separator) {
    const char *end = line->size ? memchr(line->at, separator, line->size) : NULL;
    struct span field = {line->at, end ? (size_t)(end - line->at) : line->size};
    size_t taken = end ? field.size + 1 : field.size;
    line->at += taken;
    line->size -= taken;
    return field;
}

static bool is(struct span span, const char *text) {
    return span.size == strlen(text) && memcmp(span.at, text, span.size) == 0;
}

// Decimal below 2^32 - 1 (which means "no change" to the system calls).
static bool parse_id(struct span span, uint32_t *id) {
    uint64_t value = 0;
    if (span.size == 0 || span.size > 10)
        return false;
    for (size_t i = 0; i < span.size; i++) {
        if (span.at[i] < '0' || span.at[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(span.at[i] - '0');
    }
    if (value >= UINT32_MAX)
        return false;
    *id = (uint32_t)value;
    return true;
}

static void copy(char *to, size_t size, struct span from) {
    size_t length = from.size < size - 1 ? from.size : size - 1;
    memcpy(to, from.at, length);
    to[length] = '\0';
}

// name:password:uid:gid:comment:home:shell
static bool find_user(struct span passwd, const char *wanted, bool by_id, uint32_t wanted_id,
                      struct user *user) {
    struct span line;
    while (next_line(&passwd, &line)) {
        struct span name = next_field(&line, ':');
        (void)next_field(&line, ':');
        uint32_t uid, gid;
        if (!parse_id(next_field(&line, ':'), &uid) || !parse_id(next_field(&line, ':'), &gid))
            continue;
        if (by_id ? uid != wanted_id : !is(name, wanted))
            continue;
        (void)next_field(&line, ':');
        struct span home = next_field(&line, ':');
        user->uid = uid;
        user->gid = gid;
        copy(user->name, sizeof user->name, name);
        if (home.size > 0 && home.at[0] == '/' && !memchr(home.at, '\0', home.size))
            copy(user->home, sizeof user->home, home);
        return true;
    }
    return false;
}

// name:password:gid:member,member
static bool find_group(struct span group, const char *wanted, uint32_t *gid) {
    struct span line;
    while (next_line(&group, &line)) {
        struct span name = next_field(&line, ':');
        (void)next_field(&line, ':');
        if (is(name, wanted) && parse_id(next_field(&line, ':'), gid))
            return true;
    }
    return false;
}

static void collect_groups(struct span group, struct user *user) {
    struct span line;
    while (user->name[0] && user->group_count < USERS_GROUPS_MAX && next_line(&group, &line)) {
        (void)next_field(&line, ':');
        (void)next_field(&line, ':');
        uint32_t gid;
        if (!parse_id(next_field(&line, ':'), &gid))
            continue;
        struct span members = next_field(&line, ':');
        while (members.size > 0) {
            if (is(next_field(&members, ','), user->name)) {
                user->groups[user->group_count++] = gid;
                break;
            }
        }
    }
}

int users_resolve(const char *spec, const char *passwd, size_t passwd_size, const char *group,
                  size_t group_size, struct user *user, struct err *err) {
    struct span passwd_text = {passwd, passwd_size}, group_text = {group, group_size};
    char name[256];
    const char *colon = strchr(spec, ':');
    struct span user_part = {spec, colon ? (size_t)(colon - spec) : strlen(spec)};
    copy(name, sizeof name, user_part);

    *user = (struct user){.home = "/"};
    uint32_t id = 0;
    bool numeric = user_part.size == 0 || parse_id(user_part, &id);
    bool found = (!numeric && find_user(passwd_text, name, false, 0, user)) ||
                 (numeric && find_user(passwd_text, "", true, id, user));
    if (!found && !numeric)
        return err_set(err, FAIL_INVALID, "user \"%s\" is not in the image's /etc/passwd", name);
    if (!found)
        user->uid = id;
    if (user->uid == 0 && strcmp(user->home, "/") == 0)
        (void)snprintf(user->home, sizeof user->home, "/root");

    if (!colon || !colon[1]) {
        collect_groups(group_text, user);
        return 0;
    }
    struct span group_part = {colon + 1, strlen(colon + 1)};
    if (!parse_id(group_part, &id) && !find_group(group_text, colon + 1, &id))
        return err_set(err, FAIL_INVALID, "group \"%s\" is not in the image's /etc/group", colon + 1);
    user->gid = id;
    return 0;
}
