#include "ext4.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

// From the kernel's ext4; no header of user space has it. Argument: the new number of blocks.
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)

// Little-endian fields of ext4's superblock, which lies 1024 bytes into the disk.
enum { SUPERBLOCK = 1024, BLOCKS_LOW = 0x04, LOG_BLOCK_SIZE = 0x18, BLOCKS_HIGH = 0x150, MAX_LOG_SIZE = 6 };

int ext4_fill(const char *device, const char *mounted_on, struct err *err) {
    unsigned char block[1024];
    uint64_t disk = 0;
    int fd = open(device, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "cannot open %s", device);
    bool known = ioctl(fd, BLKGETSIZE64, &disk) == 0 &&
                 pread(fd, block, sizeof block, SUPERBLOCK) == (ssize_t)sizeof block;
    int saved = errno;
    (void)close(fd);
    errno = saved;
    if (!known)
        return err_errno(err, "cannot read the size of %s", device);
    uint32_t low, high, log_size;
    memcpy(&low, block + BLOCKS_LOW, sizeof low);
    memcpy(&high, block + BLOCKS_HIGH, sizeof high);
    memcpy(&log_size, block + LOG_BLOCK_SIZE, sizeof log_size);
    if (log_size > MAX_LOG_SIZE)
        return err_set(err, FAIL_IO, "the disk %s has no block size that ext4 knows", device);
    uint64_t blocks = disk >> (10 + log_size);
    if (blocks <= ((uint64_t)high << 32 | low))
        return 0;
    int root = open(mounted_on, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = root < 0 ? -1 : ioctl(root, EXT4_IOC_RESIZE_FS, &blocks);
    if (result < 0)
        (void)err_errno(err, "cannot grow the file system on %s to the size of the disk", device);
    if (root >= 0)
        (void)close(root);
    return result;
}
