#include "unfinished.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "spawn.h"

struct unfinished {
    struct unfinished *next;
    pid_t worker;
    char path[];
};

static struct unfinished *all; // one for each running worker

void unfinished_name(char name[UNFINISHED_NAME], pid_t worker) {
    (void)snprintf(name, UNFINISHED_NAME, ".bulkhead-%d", (int)worker);
}

int unfinished_watch(pid_t worker, const char *path, struct err *err) {
    if (!path)
        return 0; // the worker refuses it
    size_t size = strlen(path) + 1;
    struct unfinished *item = malloc(sizeof *item + size);
    if (!item)
        return err_set(err, FAIL_EXHAUSTED, "no memory for the transfer");
    item->next = all;
    item->worker = worker;
    memcpy(item->path, path, size);
    all = item;
    return 0;
}

void unfinished_reaped(pid_t pid, int status) {
    for (struct unfinished **at = &all; *at; at = &(*at)->next) {
        struct unfinished *item = *at;
        if (item->worker != pid)
            continue;
        *at = item->next;
        // One that ended by itself, even by SIGTERM, has cleaned up.
        if (WIFSIGNALED(status))
            spawn_cleaner(item->path, pid);
        free(item);
        return;
    }
}
