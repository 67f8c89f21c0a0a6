// libvmm: the host system calls that Node lacks, for src/vmm/ffi.ts.
//
// Every function returns 0 or a negative errno, and on failure writes one sentence into `error` (always
// terminated; BH_ERROR_BYTES is enough). Descriptors that are handed out are close-on-exec and belong to the
// caller. Nothing here waits for a VM: the functions marked "slow" (they copy or measure) are for koffi's
// worker threads, the others return within microseconds and are safe on the event loop.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define BH_API __attribute__((visibility("default")))
#define BH_ERROR_BYTES 256

// Raised with every change of a signature below; ffi.ts refuses a library of another version.
#define BH_ABI_VERSION 1
BH_API int bh_abi_version(void);

// ---- processes
// ------------------------------------------------------------------------------------------------

// A launcher needs a configuration, a status pipe, at most 16 descriptors for its VMM and one for each shared
// directory; more is a mistake of the caller.
#define BH_SPAWN_MAX_FDS 48
#define BH_SPAWN_MAX_CONFIG (256 * 1024)
// Descriptor numbers in the launcher.
#define BH_SPAWN_CONFIG_FD 3
#define BH_SPAWN_STATUS_FD 4
#define BH_SPAWN_FIRST_FD 5

// Starts `binary` (absolute path) in a new session with an empty environment. Descriptor 3 is a sealed memory
// file with `config`, 4 the write end of the status pipe, 5 and up are `fds` in their order; 0 to 2 are
// /dev/null and everything else is closed. Signal mask and dispositions are reset. Gives the process id, a
// pidfd and the read end of the status pipe.
BH_API int bh_spawn(const char *binary, const uint8_t *config, size_t config_size, const int32_t *fds,
                    size_t fd_count, int32_t *pid, int32_t *pidfd, int32_t *status_fd, char *error,
                    size_t error_size);

// Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat). With the pid and the boot
// id it names a process for ever. -ESRCH when there is none, also for a zombie.
BH_API int bh_process_start_time(int32_t pid, uint64_t *start_time, char *error, size_t error_size);

// A pidfd of exactly the process (pid, start time): -ESRCH when it is gone, a zombie, or another one has its
// number.
BH_API int bh_pidfd_open(int32_t pid, uint64_t start_time, int32_t *pidfd, char *error, size_t error_size);

// 0 also when the process is gone already.
BH_API int bh_pidfd_kill(int32_t pidfd, int32_t signal, char *error, size_t error_size);

// No core dump of this process from now on, by the limit and, for kernels that hand dumps to a program
// whatever the limit, by the process's own word. What it starts is not affected but by the limit.
BH_API int bh_forbid_dumps(char *error, size_t error_size);

// ---- exit notification
// ----------------------------------------------------------------------------------------

struct bh_watcher;

// One thread that waits for any number of processes, ours or not, and writes the 8-byte token (host byte
// order) of each that ended to `notify_fd`, a pipe's read end for the event loop. Children of this process
// are reaped.
BH_API int bh_watcher_open(struct bh_watcher **watcher, int32_t *notify_fd, char *error, size_t error_size);
// Takes its own duplicate of `pidfd`. The token comes once, also when the process had ended before the call.
BH_API int bh_watcher_add(struct bh_watcher *watcher, int32_t pidfd, uint64_t token, char *error,
                          size_t error_size);
// Ends the thread; no token comes after it. `watcher` is freed. Slow (joins a thread, some milliseconds at
// most).
BH_API int bh_watcher_close(struct bh_watcher *watcher, char *error, size_t error_size);

// ---- files
// ----------------------------------------------------------------------------------------------------

// Is `path` locked with flock by someone? 1 held, 0 free or missing.
BH_API int bh_lock_probe(const char *path, char *error, size_t error_size);

// An anonymous memory file of `size` bytes, not sealed.
BH_API int bh_memfd_create(const char *name, uint64_t size, int32_t *fd, char *error, size_t error_size);
// Forbids writing, growing, shrinking and further seals. -EBUSY while a writable shared mapping lives.
BH_API int bh_memfd_seal(int32_t fd, char *error, size_t error_size);
// Slow. A sealed memory file with the content of `path`; holes stay holes.
BH_API int bh_memfd_from_file(const char *path, int32_t *fd, char *error, size_t error_size);

// Slow. Copies the data extents of `source` to the new file `target` (mode 0600, -EEXIST when it exists),
// same size, holes kept, sharing blocks where the file system can. The target is removed again on failure.
BH_API int bh_sparse_copy(const char *source, const char *target, char *error, size_t error_size);
// Slow. The same from a descriptor.
BH_API int bh_sparse_copy_fd(int32_t source, const char *target, char *error, size_t error_size);

// Data extents as pairs (offset, length) into `extents` (capacity in pairs); `count` says how many there are.
// -ENOSPC when they do not fit.
BH_API int bh_extents(const char *path, uint64_t *extents, size_t capacity, size_t *count, char *error,
                      size_t error_size);

// Opens (O_PATH) what `path`, relative, names below the directory `root`: no part of it, link or not, leads
// out of `root` (RESOLVE_BENEATH: -EXDEV), and none is a magic link (-ELOOP).
BH_API int bh_open_beneath(int32_t root, const char *path, int32_t *fd, char *error, size_t error_size);
// Opens (O_PATH) a directory by a path without any link in it (-ELOOP).
BH_API int bh_open_directory(const char *path, int32_t *fd, char *error, size_t error_size);

// ---- sockets
// --------------------------------------------------------------------------------------------------

// A listening stream socket at `path`, of any length; mode 0600; a socket file that is there is replaced.
BH_API int bh_unix_listen(const char *path, int32_t *fd, char *error, size_t error_size);
// A non-blocking connection. -EAGAIN when the listener's backlog is full.
BH_API int bh_unix_connect(const char *path, int32_t *fd, char *error, size_t error_size);
// A non-blocking connection to the socket that a VMM made at `path` inside its jail. No link is followed, and
// the socket must belong to the process's user (-EPERM). -ESRCH when there is no such process, -ENOENT while
// there is no socket, -EAGAIN as above. The number may be another process's by now: check the identity after
// this call.
BH_API int bh_jail_connect(int32_t pid, const char *path, int32_t *fd, char *error, size_t error_size);
// Sends `data` with one descriptor beside it (SCM_RIGHTS) on a connected unix socket.
BH_API int bh_send_fd(int32_t socket, const uint8_t *data, size_t size, int32_t fd, char *error,
                      size_t error_size);

// Descriptors of bh_plane_open, in this order.
enum bh_plane_socket {
    BH_PLANE_TCP,  // transparent listener
    BH_PLANE_UDP,  // transparent, for bh_datagram_receive
    BH_PLANE_DNS4, // port 53 of the gateway's addresses
    BH_PLANE_DNS6,
    BH_PLANE_ECHO4, // for bh_echo_receive and bh_icmp_send
    BH_PLANE_ECHO6,
    BH_PLANE_SOCKETS
};

// Moves into the network namespace of a VM's process (this thread, for the length of the call), gives its TAP
// the addresses of the gateway, makes transparent TCP and UDP sockets on `port`, raw sockets for the echo
// requests of ICMP, which the kernel answers no longer there, and UDP sockets on port 53 of both addresses,
// and last runs `rules` (nftables), which replace the launcher's rule that drops every frame. Repeating it is
// harmless once the former sockets are closed. Needs CAP_SYS_ADMIN, CAP_NET_RAW and libnftables.so.1; -ESRCH
// when the process is gone. `sockets` has room for BH_PLANE_SOCKETS.
BH_API int bh_plane_open(int32_t pid, uint64_t start_time, const char *gateway4, const char *gateway6,
                         uint16_t port, const char *rules, int32_t *sockets, char *error, size_t error_size);

/*
 * Begins a TCP connection from the namespace of the VM whose process this is to an IPv4 address and port of
 * its guest. The rules of bh_plane_open let its answers pass, as the socket is a transparent one. *fd is
 * connecting and does not block.
 */
BH_API int bh_plane_dial(int32_t pid, uint64_t start_time, const char *address, uint16_t port, int32_t *fd,
                         char *error, size_t error_size);

/* How a connection that was begun goes: *connected is 0 while it goes on. Fails as the connection did. */
BH_API int bh_dial_result(int32_t fd, int32_t *connected, char *error, size_t error_size);

/*
 * A transparent UDP socket in the namespace of the VM whose process this is, bound to an address and port
 * whether the namespace has that address or not; port 0 is a free one. Others may be bound to the same. Once
 * it is connected to a port of the guest, the rules of bh_plane_open give it what comes from there.
 */
BH_API int bh_plane_bind(int32_t pid, uint64_t start_time, const char *address, uint16_t port, int32_t *fd,
                         char *error, size_t error_size);

// Room for the text of a flow.
#define BH_FLOW_BYTES 128

/*
 * Takes one datagram from the UDP socket of bh_plane_open, and writes where it came from and where it was
 * sent, as "ADDRESS PORT ADDRESS PORT". *length is its size, cut to `size`; -1 where none waits.
 */
BH_API int bh_datagram_receive(int32_t fd, uint8_t *data, size_t size, char *flow, int32_t *length,
                               char *error, size_t error_size);

/*
 * The same for an echo request of ICMP. Its ports in the text are the identifier and 0; the data begins with
 * the header of ICMP.
 */
BH_API int bh_echo_receive(int32_t fd, uint8_t *data, size_t size, char *flow, int32_t *length, char *error,
                           size_t error_size);

// Sends the guest a message that begins with the header of ICMP, by BH_PLANE_ECHO4 or BH_PLANE_ECHO6, as if
// it came from `source`. Writes its checksum.
BH_API int bh_icmp_send(int32_t fd, const char *source, const char *guest, uint8_t *data, size_t size,
                        char *error, size_t error_size);

// A socket of the host for echoes of ICMP or, with `ipv6`, of ICMPv6; -EACCES where net.ipv4.ping_group_range
// leaves this process out.
BH_API int bh_ping_open(int32_t ipv6, int32_t *fd, char *error, size_t error_size);

// ---- measurements
// ---------------------------------------------------------------------------------------------

// Slow (200 ms). Rate of the time stamp counter in kHz against CLOCK_MONOTONIC_RAW, which NTP does not bend.
BH_API int bh_tsc_khz(uint32_t *khz, char *error, size_t error_size);
