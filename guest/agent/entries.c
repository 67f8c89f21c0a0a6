#include "entries.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <pb_encode.h>

// With its length in front; names and targets take most of it.
#define ENTRY_MAX (NAME_MAX + PATH_MAX + 128)

static bulkhead_agent_v1_FileKind kind_of(unsigned mode) {
    return S_ISREG(mode)   ? bulkhead_agent_v1_FileKind_FILE_KIND_REGULAR
           : S_ISDIR(mode) ? bulkhead_agent_v1_FileKind_FILE_KIND_DIRECTORY
           : S_ISLNK(mode) ? bulkhead_agent_v1_FileKind_FILE_KIND_SYMLINK
                           : bulkhead_agent_v1_FileKind_FILE_KIND_OTHER;
}

static int64_t nanoseconds(const struct statx_timestamp *time) {
    return time->tv_sec * 1000000000 + time->tv_nsec;
}

int entries_describe(int fd, const char *name, bulkhead_agent_v1_FileEntry *entry) {
    struct statx info;
    if (statx(fd, name, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &info) < 0)
        return -1;
    *entry = (bulkhead_agent_v1_FileEntry)bulkhead_agent_v1_FileEntry_init_zero;
    entry->kind = kind_of(info.stx_mode);
    entry->size = info.stx_size;
    entry->mode = info.stx_mode & 07777;
    entry->uid = info.stx_uid;
    entry->gid = info.stx_gid;
    entry->modified_ns = nanoseconds(&info.stx_mtime);
    entry->birth_ns = info.stx_mask & STATX_BTIME ? nanoseconds(&info.stx_btime) : 0;
    if (S_ISLNK(info.stx_mode)) {
        ssize_t size = readlinkat(fd, name, (char *)entry->target.bytes, sizeof entry->target.bytes);
        if (size < 0)
            return -1;
        entry->target.size = (pb_size_t)size;
    }
    return 0;
}

void entries_name(bulkhead_agent_v1_FileEntry *entry, const char *name) {
    size_t size = strnlen(name, sizeof entry->name.bytes);
    memcpy(entry->name.bytes, name, size);
    entry->name.size = (pb_size_t)size;
}

int entries_put(FILE *out, const bulkhead_agent_v1_FileEntry *entry) {
    static uint8_t buffer[ENTRY_MAX];
    pb_ostream_t stream = pb_ostream_from_buffer(buffer, sizeof buffer);
    if (!pb_encode_ex(&stream, bulkhead_agent_v1_FileEntry_fields, entry, PB_ENCODE_DELIMITED)) {
        errno = EOVERFLOW;
        return -1;
    }
    return fwrite(buffer, 1, stream.bytes_written, out) == stream.bytes_written ? 0 : -1;
}
