// Sparse copies, memory files, lock probing.
#include "libvmm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "error.h"

// Copying goes through a buffer where copy_file_range does not work (memory files, other file systems).
enum { COPY_BUFFER_BYTES = 1024 * 1024 };

int bh_lock_probe(const char *path, char *error, size_t error_size) {
    if (!path)
        return bh_fail(error, error_size, EINVAL, "lock");
    CLEANUP_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? 0 : bh_fail(error, error_size, errno, "%s", path);
    if (flock(fd, LOCK_SH | LOCK_NB) == 0)
        return 0; // and freed again by closing
    return errno == EWOULDBLOCK ? 1 : bh_fail(error, error_size, errno, "%s", path);
}

int bh_memfd_create(const char *name, uint64_t size, int32_t *out, char *error, size_t error_size) {
    if (!name || !out || size > INT64_MAX)
        return bh_fail(error, error_size, EINVAL, "memory file");
    CLEANUP_FD fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0)
        return bh_fail(error, error_size, errno, "memory file");
    *out = bh_take_fd(&fd);
    return 0;
}

int bh_memfd_seal(int32_t fd, char *error, size_t error_size) {
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0)
        return bh_fail(error, error_size, errno, "seal");
    return 0;
}

static int write_all(int fd, const char *data, size_t size, off_t offset) {
    for (size_t done = 0; done < size;) {
        ssize_t written = pwrite(fd, data + done, size - done, offset + (off_t)done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -errno;
        if (written == 0)
            return -EIO;
        done += (size_t)written;
    }
    return 0;
}

static int copy_extent(int source, int target, off_t start, off_t end, char *buffer) {
    off_t offset = start;
    while (offset < end) {
        off_t target_offset = offset;
        ssize_t copied = copy_file_range(source, &offset, target, &target_offset, (size_t)(end - offset), 0);
        if (copied > 0)
            continue;
        if (copied == 0)
            return -EIO; // the file became shorter under us
        if (errno == EINTR)
            continue;
        if (errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP && errno != ENOSYS)
            return -errno;
        break;
    }
    while (offset < end) {
        size_t chunk = end - offset < COPY_BUFFER_BYTES ? (size_t)(end - offset) : COPY_BUFFER_BYTES;
        ssize_t got = pread(source, buffer, chunk, offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got == 0 ? -EIO : -errno;
        int result = write_all(target, buffer, (size_t)got, offset);
        if (result != 0)
            return result;
        offset += got;
    }
    return 0;
}

// `target` is empty. Holes of the source stay holes.
static int copy_sparse(int source, int target) {
    struct stat status;
    if (fstat(source, &status) != 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return -EINVAL;
    if (ioctl(target, FICLONE, source) == 0)
        return 0; // the file system shares the blocks; others refuse and we copy
    if (ftruncate(target, status.st_size) != 0)
        return -errno;
    CLEANUP_FREE char *buffer = malloc(COPY_BUFFER_BYTES);
    if (!buffer)
        return -ENOMEM;
    off_t offset = 0;
    while (offset < status.st_size) {
        off_t start = lseek(source, offset, SEEK_DATA);
        if (start < 0)
            return errno == ENXIO ? 0 : -errno; // no data behind this
        off_t end = lseek(source, start, SEEK_HOLE);
        if (end < 0)
            return -errno;
        int result = copy_extent(source, target, start, end, buffer);
        if (result != 0)
            return result;
        offset = end;
    }
    return 0;
}

int bh_memfd_from_file(const char *path, int32_t *out, char *error, size_t error_size) {
    if (!path || !out)
        return bh_fail(error, error_size, EINVAL, "memory file");
    CLEANUP_FD source = open(path, O_RDONLY | O_CLOEXEC);
    if (source < 0)
        return bh_fail(error, error_size, errno, "%s", path);
    CLEANUP_FD fd = memfd_create("bulkhead-template", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return bh_fail(error, error_size, errno, "memory file");
    int result = copy_sparse(source, fd);
    if (result != 0)
        return bh_fail(error, error_size, -result, "copy of %s into memory", path);
    result = bh_memfd_seal(fd, error, error_size);
    if (result == 0)
        *out = bh_take_fd(&fd);
    return result;
}

int bh_sparse_copy_fd(int32_t source, const char *target, char *error, size_t error_size) {
    if (source < 0 || !target)
        return bh_fail(error, error_size, EINVAL, "copy");
    CLEANUP_FD fd = open(target, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return bh_fail(error, error_size, errno, "%s", target);
    int result = copy_sparse(source, fd);
    if (result != 0) {
        (void)unlink(target);
        return bh_fail(error, error_size, -result, "copy to %s", target);
    }
    return 0;
}

int bh_sparse_copy(const char *source, const char *target, char *error, size_t error_size) {
    if (!source || !target)
        return bh_fail(error, error_size, EINVAL, "copy");
    // A pipe that somebody put in a file's place must not hold anybody up; to files the flag is nothing.
    CLEANUP_FD fd = open(source, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return bh_fail(error, error_size, errno, "%s", source);
    return bh_sparse_copy_fd(fd, target, error, error_size);
}

int bh_extents(const char *path, uint64_t *extents, size_t capacity, size_t *count, char *error,
               size_t error_size) {
    if (!path || !extents || !count)
        return bh_fail(error, error_size, EINVAL, "extents");
    CLEANUP_FD fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0)
        return bh_fail(error, error_size, errno, "%s", path);
    size_t found = 0;
    off_t offset = 0;
    while (offset < status.st_size) {
        off_t start = lseek(fd, offset, SEEK_DATA);
        if (start < 0 && errno == ENXIO)
            break;
        off_t end = start < 0 ? -1 : lseek(fd, start, SEEK_HOLE);
        if (end < 0)
            return bh_fail(error, error_size, errno, "%s", path);
        if (found == capacity)
            return bh_fail(error, error_size, ENOSPC, "%s has more than %zu extents", path, capacity);
        extents[2 * found] = (uint64_t)start;
        extents[2 * found + 1] = (uint64_t)(end - start);
        found++;
        offset = end;
    }
    *count = found;
    return 0;
}
