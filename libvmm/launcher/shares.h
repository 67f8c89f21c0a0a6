// Directories and files of the host that a guest gets.
#pragma once
#include "config.h"
#include "limitations.h"

// Turns each share's descriptor into a mount of exactly what it names, in nobody's tree yet, read-only unless
// writable, without set-user-ID, devices and programs. Its owner and the VM's user change places there, so
// that the guest has the rights of the directory's owner and what it makes belongs to that one; everybody
// else stays who they are. Where the file system cannot, the guest has the rights of others, which is told.
int shares_detach(struct launch_config *config, struct limitations *limitations, char *error,
                  size_t error_size);

// Gives the file server, which is process `pid` in a user namespace of its own without ids, its one id.
int shares_map_server(const struct launch_config *config, int pid, char *error, size_t error_size);

// A socket to listen on with a connection to it, for file server and VMM: sockets[0] and sockets[1]. Its name
// exists in this network namespace alone.
int shares_connect(int sockets[2]);
