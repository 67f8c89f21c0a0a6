#include "stats.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "cgroup.h"
#include "mounts.h"
#include "textfile.h"
#include "volumes.h"

static void collect_cpu(bulkhead_agent_v1_Stats *stats) {
    char text[4096];
    uint64_t user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0;
    (void)textfile_read("/proc/stat", text, sizeof text);
    if (sscanf(text,
               "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
               " %" SCNu64,
               &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal) != 8)
        return;
    long ticks = sysconf(_SC_CLK_TCK);
    uint64_t ms = ticks > 0 ? 1000 / (uint64_t)ticks : 10;
    stats->user_ms = (user + nice) * ms;
    stats->system_ms = (system + irq + softirq) * ms;
    stats->idle_ms = idle * ms;
    stats->iowait_ms = iowait * ms;
    stats->steal_ms = steal * ms;
}

static void collect_load(bulkhead_agent_v1_Stats *stats) {
    char text[128];
    unsigned int whole[3], part[3];
    (void)textfile_read("/proc/loadavg", text, sizeof text);
    if (sscanf(text, "%u.%2u %u.%2u %u.%2u", &whole[0], &part[0], &whole[1], &part[1], &whole[2], &part[2]) !=
        6)
        return;
    stats->load1 = whole[0] * 1000 + part[0] * 10;
    stats->load5 = whole[1] * 1000 + part[1] * 10;
    stats->load15 = whole[2] * 1000 + part[2] * 10;
}

static uint32_t pressure(const char *path) {
    char text[256];
    unsigned int whole, part;
    (void)textfile_read(path, text, sizeof text);
    return sscanf(text, "some avg10=%u.%2u", &whole, &part) == 2 ? whole * 100 + part : 0;
}

// Only what the agent mounted itself: a file system that work inside mounted may never answer.
static void collect_file_system(bulkhead_agent_v1_Stats *stats, const char *volume, const char *path) {
    struct statvfs info;
    if (!mounts_ready() ||
        stats->file_systems_count == sizeof stats->file_systems / sizeof *stats->file_systems ||
        statvfs(path, &info) < 0)
        return;
    bulkhead_agent_v1_FileSystemStats *entry = &stats->file_systems[stats->file_systems_count++];
    (void)snprintf(entry->mount_path, sizeof entry->mount_path, "%s", *volume ? "" : "/");
    (void)snprintf(entry->volume, sizeof entry->volume, "%s", volume);
    entry->total_bytes = (uint64_t)info.f_blocks * info.f_frsize;
    entry->used_bytes = (uint64_t)(info.f_blocks - info.f_bfree) * info.f_frsize;
    entry->available_bytes = (uint64_t)info.f_bavail * info.f_frsize;
    entry->total_inodes = info.f_files;
    entry->used_inodes = info.f_files - info.f_ffree;
}

static void collect_volume(const char *name, const char *path, void *stats) {
    collect_file_system(stats, name, path);
}

static void collect_interfaces(bulkhead_agent_v1_Stats *stats) {
    char text[8192];
    size_t most = sizeof stats->interfaces / sizeof *stats->interfaces;
    (void)textfile_read("/proc/net/dev", text, sizeof text);
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line && stats->interfaces_count < most;
         line = strtok_r(NULL, "\n", &rest)) {
        bulkhead_agent_v1_InterfaceStats entry = bulkhead_agent_v1_InterfaceStats_init_zero;
        if (sscanf(line, " %15[^:]: %" SCNu64 " %" SCNu64 " %*s %*s %*s %*s %*s %*s %" SCNu64 " %" SCNu64,
                   entry.name, &entry.receive_bytes, &entry.receive_packets, &entry.transmit_bytes,
                   &entry.transmit_packets) == 5)
            stats->interfaces[stats->interfaces_count++] = entry;
    }
}

void stats_collect(bulkhead_agent_v1_Stats *stats) {
    struct timespec up;
    if (clock_gettime(CLOCK_BOOTTIME, &up) == 0)
        stats->uptime_ms = (uint64_t)up.tv_sec * 1000 + (uint64_t)up.tv_nsec / 1000000;
    stats->memory_total = textfile_value("/proc/meminfo", "MemTotal:") * 1024;
    stats->memory_available = textfile_value("/proc/meminfo", "MemAvailable:") * 1024;
    stats->memory_cached = textfile_value("/proc/meminfo", "Cached:") * 1024;
    stats->pressure_cpu = pressure("/proc/pressure/cpu");
    stats->pressure_memory = pressure("/proc/pressure/memory");
    stats->pressure_io = pressure("/proc/pressure/io");
    stats->processes = cgroup_task_count();
    collect_cpu(stats);
    collect_load(stats);
    collect_file_system(stats, "", MOUNTS_ROOT);
    volumes_each_disk(collect_volume, stats);
    collect_interfaces(stats);
}
