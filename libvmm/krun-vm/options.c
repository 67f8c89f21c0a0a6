#include "options.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MIN_MEMORY_MIB = 64, MAX_MEMORY_MIB = 1024 * 1024, MAX_CPUS = UINT8_MAX, MAX_FD = 255 };

static bool read_number(const char *text, unsigned long minimum, unsigned long maximum, unsigned long *out) {
    if (text[0] < '0' || text[0] > '9') // strtoul takes signs and blanks
        return false;
    char *end = NULL;
    errno = 0;
    *out = strtoul(text, &end, 10);
    return errno == 0 && *end == '\0' && *out >= minimum && *out <= maximum;
}

static bool read_mac(const char *text, uint8_t mac[6]) {
    if (strlen(text) != strlen("XX:XX:XX:XX:XX:XX"))
        return false;
    for (int i = 0; i < 6; i++) {
        const char *pair = text + (ptrdiff_t)i * 3;
        char digits[3] = {pair[0], pair[1], '\0'};
        if (strspn(digits, "0123456789abcdefABCDEF") != 2 || (i < 5 && pair[2] != ':'))
            return false;
        mac[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return true;
}

static int fail(char *error, size_t size, const char *what, const char *name) {
    (void)snprintf(error, size, "%s: %.100s", what, name);
    return -1;
}

int options_parse(int argc, char *const *argv, struct machine *machine, char *error, size_t error_size) {
    memset(machine, 0, sizeof *machine);
    const char *cpus = NULL, *memory = NULL, *console = NULL, *mac = NULL;
    const char *volumes[MAX_VOLUMES] = {NULL};
    const struct {
        const char *name;
        const char **value;
        bool required;
    } options[] = {
        {"--library", &machine->library, true},
        {"--kernel", &machine->kernel, true},
        {"--initramfs", &machine->initramfs, true},
        {"--command-line", &machine->command_line, true},
        {"--agent-socket", &machine->agent_socket, true},
        {"--cpus", &cpus, true},
        {"--memory-mib", &memory, true},
        {"--console-fd", &console, true},
        {"--image", &machine->image, false},
        {"--upper", &machine->upper, false},
        {"--volume-0", &volumes[0], false},
        {"--volume-1", &volumes[1], false},
        {"--volume-2", &volumes[2], false},
        {"--shares", &machine->shares, false},
        {"--tap", &machine->tap, false},
        {"--mac", &mac, false},
    };
    enum { COUNT = sizeof options / sizeof *options };
    for (int i = 1; i < argc; i += 2) {
        size_t index = 0;
        while (index < COUNT && strcmp(argv[i], options[index].name) != 0)
            index++;
        if (index == COUNT)
            return fail(error, error_size, "unknown option", argv[i]);
        if (i + 1 == argc || argv[i + 1][0] == '\0')
            return fail(error, error_size, "option without a value", argv[i]);
        if (*options[index].value)
            return fail(error, error_size, "option given twice", argv[i]);
        *options[index].value = argv[i + 1];
    }
    for (size_t i = 0; i < COUNT; i++)
        if (options[i].required && !*options[i].value)
            return fail(error, error_size, "missing option", options[i].name);
    unsigned long number = 0;
    if (!read_number(cpus, 1, MAX_CPUS, &number))
        return fail(error, error_size, "bad number of CPUs", cpus);
    machine->cpus = (uint8_t)number;
    if (!read_number(memory, MIN_MEMORY_MIB, MAX_MEMORY_MIB, &number))
        return fail(error, error_size, "bad memory size", memory);
    machine->memory_mib = (uint32_t)number;
    if (!read_number(console, 3, MAX_FD, &number))
        return fail(error, error_size, "bad descriptor of the console", console);
    machine->console_fd = (int)number;
    for (size_t i = 0; i < MAX_VOLUMES; i++) {
        if (!volumes[i])
            continue;
        bool read_only = strncmp(volumes[i], "ro:", 3) == 0;
        if ((!read_only && strncmp(volumes[i], "rw:", 3) != 0) || !volumes[i][3])
            return fail(error, error_size, "bad volume", volumes[i]);
        if (i > 0 && !volumes[i - 1])
            return fail(error, error_size, "gap before volume", volumes[i]);
        machine->volumes[i] = (struct volume){.path = volumes[i] + 3, .read_only = read_only};
    }
    if (!machine->tap != !mac)
        return fail(error, error_size, "--tap and --mac belong together", machine->tap ? machine->tap : mac);
    // libkrun copies the name into IFNAMSIZ bytes without looking.
    if (machine->tap && strlen(machine->tap) > 15)
        return fail(error, error_size, "name of the TAP is too long", machine->tap);
    if (mac && !read_mac(mac, machine->mac))
        return fail(error, error_size, "bad MAC address", mac);
    return 0;
}
