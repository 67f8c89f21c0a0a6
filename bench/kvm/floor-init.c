// /init of the floor's guest, static: one line on the console, then what the word on the kernel's command
// line says; the kernel hands words that it does not know to its init.
//   once   resets the machine, which ends the launcher
//   serve  answers on vsock port 1024: a byte 'p' at once, a byte 'x' after a program was run to its end
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PORT = 1024, BACKLOG = 4 };
static const char first_output[] = "floor: up\n";

static void run_program(void) {
    char *const arguments[] = {"/init", "nothing", NULL};
    pid_t child = vfork();
    if (child == 0) {
        (void)execv(arguments[0], arguments);
        _exit(127);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        abort();
}

static int serve(void) {
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_port = PORT, .svm_cid = VMADDR_CID_ANY};
    int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (const struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, BACKLOG) != 0)
        return 1;
    for (;;) {
        int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (peer < 0)
            return 1;
        char request = 0;
        while (read(peer, &request, 1) == 1) {
            if (request == 'x')
                run_program();
            if (write(peer, &request, 1) != 1)
                break;
        }
        (void)close(peer);
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "nothing") == 0)
        return 0;
    if (write(STDOUT_FILENO, first_output, sizeof first_output - 1) < 0)
        return 1;
    if (argc > 1 && strcmp(argv[1], "serve") == 0)
        return serve();
    (void)reboot(RB_AUTOBOOT);
    return 1;
}
