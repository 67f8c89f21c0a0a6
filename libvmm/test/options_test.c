#include "../krun-vm/options.h"

#include <string.h>

#include "check.h"

enum { ROOM = 40 };

struct arguments {
    char *items[ROOM];
    int count;
};

static void add(struct arguments *arguments, const char *name, const char *value) {
    static char copies[512][64]; // the parser may keep pointers into them, as into argv
    static int used;
    CHECK(used + 2 <= 512 && arguments->count + 2 <= ROOM, "room for the test's own arguments");
    for (int i = 0; i < 2; i++) {
        (void)snprintf(copies[used], sizeof copies[used], "%s", i == 0 ? name : value);
        arguments->items[arguments->count++] = copies[used++];
    }
}

static struct arguments complete(void) {
    struct arguments arguments = {.items = {"bulkhead-krun"}, .count = 1};
    add(&arguments, "--library", "/libkrun.so");
    add(&arguments, "--kernel", "/kernel");
    add(&arguments, "--initramfs", "/initramfs");
    add(&arguments, "--command-line", "console=hvc0 quiet");
    add(&arguments, "--agent-socket", "/agent/agent.sock");
    add(&arguments, "--console-fd", "5");
    return arguments;
}

static int parse(const struct arguments *arguments, struct machine *machine) {
    char error[128] = "";
    int result = options_parse(arguments->count, arguments->items, machine, error, sizeof error);
    CHECK((result == 0) == (error[0] == '\0'), "a refusal comes with a sentence");
    return result;
}

static void accepts_a_whole_machine(void) {
    struct arguments arguments = complete();
    struct machine machine;
    add(&arguments, "--cpus", "4");
    add(&arguments, "--memory-mib", "512");
    CHECK(parse(&arguments, &machine) == 0, "a machine without disks and network is accepted");
    CHECK(machine.cpus == 4 && machine.memory_mib == 512 && machine.console_fd == 5, "numbers arrive");
    CHECK(!machine.image && !machine.upper && !machine.tap, "what is not named is not there");
    add(&arguments, "--image", "/image");
    add(&arguments, "--upper", "/upper");
    add(&arguments, "--tap", "tap0");
    add(&arguments, "--mac", "02:62:68:Ff:00:01");
    add(&arguments, "--shares", "/shares");
    add(&arguments, "--volume-0", "rw:/volume0");
    add(&arguments, "--volume-1", "ro:/volume1");
    CHECK(parse(&arguments, &machine) == 0, "disks and network are accepted");
    CHECK(strcmp(machine.volumes[0].path, "/volume0") == 0 && !machine.volumes[0].read_only &&
              strcmp(machine.volumes[1].path, "/volume1") == 0 && machine.volumes[1].read_only &&
              !machine.volumes[2].path,
          "volumes arrive with their modes");
    CHECK(strcmp(machine.shares, "/shares") == 0, "the shared directory arrives");
    CHECK(memcmp(machine.mac, (const uint8_t[]){0x02, 0x62, 0x68, 0xff, 0x00, 0x01}, 6) == 0,
          "the address arrives");
}

static void refuses(const char *promise, const char *cpus, const char *memory, const char *name,
                    const char *value) {
    struct arguments arguments = complete();
    struct machine machine;
    add(&arguments, "--cpus", cpus);
    add(&arguments, "--memory-mib", memory);
    if (name)
        add(&arguments, name, value);
    CHECK(parse(&arguments, &machine) != 0, promise);
}

static void refuses_bad_values(void) {
    refuses("no CPU", "0", "512", NULL, NULL);
    refuses("more CPUs than a byte holds", "256", "512", NULL, NULL);
    refuses("a negative number", "-1", "512", NULL, NULL);
    refuses("a number with a tail", "4x", "512", NULL, NULL);
    refuses("an empty number", "", "512", NULL, NULL);
    refuses("a number beyond 64 bits", "4", "99999999999999999999999", NULL, NULL);
    refuses("too little memory", "4", "63", NULL, NULL);
    refuses("an option given twice", "4", "512", "--kernel", "/other");
    refuses("an unknown option", "4", "512", "--krnl", "/kernel");
    refuses("an empty path", "4", "512", "--image", "");
    refuses("a volume without a mode", "4", "512", "--volume-0", "/volume0");
    refuses("a volume without a path", "4", "512", "--volume-0", "rw:");
    refuses("a gap before a volume", "4", "512", "--volume-1", "rw:/volume1");
    refuses("more volumes than there is room for", "4", "512", "--volume-3", "rw:/volume3");
    refuses("a TAP without an address", "4", "512", "--tap", "tap0");
    refuses("an address without a TAP", "4", "512", "--mac", "02:62:68:00:00:01");
}

static void refuses_bad_addresses(void) {
    static const char *const bad[] = {"02:62:68:00:00", "02:62:68:00:00:0", "02-62-68-00-00-01",
                                      "0g:62:68:00:00:01", "02:62:68:00:00:011"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct arguments arguments = complete();
        struct machine machine;
        add(&arguments, "--cpus", "1");
        add(&arguments, "--memory-mib", "64");
        add(&arguments, "--tap", "tap0");
        add(&arguments, "--mac", bad[i]);
        CHECK(parse(&arguments, &machine) != 0, bad[i]);
    }
    struct arguments arguments = complete();
    struct machine machine;
    add(&arguments, "--cpus", "1");
    add(&arguments, "--memory-mib", "64");
    add(&arguments, "--tap", "sixteen-letters!");
    add(&arguments, "--mac", "02:62:68:00:00:01");
    CHECK(parse(&arguments, &machine) != 0, "a name that libkrun would copy past its end is refused");
}

static void refuses_what_is_missing(void) {
    struct arguments arguments = complete();
    struct machine machine;
    CHECK(parse(&arguments, &machine) != 0, "a machine without CPUs is refused");
    arguments.items[arguments.count++] = (char[]){"--cpus"};
    CHECK(parse(&arguments, &machine) != 0, "an option without its value is refused");
    arguments = (struct arguments){.items = {"bulkhead-krun"}, .count = 1};
    CHECK(parse(&arguments, &machine) != 0, "no options are refused");
}

int main(void) {
    accepts_a_whole_machine();
    refuses_bad_values();
    refuses_bad_addresses();
    refuses_what_is_missing();
    (void)puts("options: ok");
    return 0;
}
