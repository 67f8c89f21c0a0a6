#include "disks.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int write_each(const char *file, char devices[][32], size_t count, struct err *err) {
    for (size_t i = 0; i < count; i++) {
        const char *digits = devices[i] + strlen("virtio");
        if (strncmp(devices[i], "virtio", strlen("virtio")) != 0 || !isdigit((unsigned char)*digits))
            return err_set(err, FAIL_INVALID, "\"%s\" is no virtio device name", devices[i]);
        int fd = open(file, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
            return err_errno(err, "cannot open %s", file);
        ssize_t written = write(fd, devices[i], strlen(devices[i]));
        int saved = errno;
        (void)close(fd);
        errno = saved;
        if (written < 0)
            return err_errno(err, "cannot write %s to %s", devices[i], file);
    }
    return 0;
}

int disks_bind(char devices[][32], size_t count, struct err *err) {
    return write_each("/sys/bus/virtio/drivers/virtio_blk/bind", devices, count, err);
}

int disks_unbind(char devices[][32], size_t count, struct err *err) {
    return write_each("/sys/bus/virtio/drivers/virtio_blk/unbind", devices, count, err);
}
