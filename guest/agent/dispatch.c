#include "dispatch.h"

#include "err.h"
#include "freeze.h"
#include "link.h"
#include "mounts.h"
#include "personalize.h"
#include "power.h"
#include "session.h"
#include "stats.h"
#include "volumefiles.h"
#include "volumes.h"
#include "walltime.h"

#define BODY(name) bulkhead_agent_v1_HostMessage_##name##_tag

static void answer(uint64_t request_id, int result, const struct err *err) {
    if (result == 0)
        link_done(request_id);
    else
        link_fail(request_id, err);
}

// Requests that start a session are answered when their program runs.
static void answer_failure(uint64_t request_id, int result, const struct err *err) {
    if (result < 0)
        link_fail(request_id, err);
}

static void send_stats(uint64_t request_id) {
    bulkhead_agent_v1_GuestMessage message = bulkhead_agent_v1_GuestMessage_init_zero;
    message.request_id = request_id;
    message.which_body = bulkhead_agent_v1_GuestMessage_stats_tag;
    stats_collect(&message.body.stats);
    link_send(&message);
}

void dispatch(bulkhead_agent_v1_HostMessage *m) {
    struct err err = {.code = FAIL_INVALID};
    uint64_t id = m->request_id;
    switch (m->which_body) {
    case BODY(mount_root):
        answer(id, mounts_root(&m->body.mount_root, &err), &err);
        break;
    case BODY(personalize):
        answer(id, personalize(&m->body.personalize, &err), &err);
        break;
    case BODY(exec):
        answer_failure(id, session_exec(id, &m->body.exec, &err), &err);
        break;
    case BODY(read_file):
        answer_failure(id, session_read_file(id, &m->body.read_file, &err), &err);
        break;
    case BODY(write_file):
        answer_failure(id, session_write_file(id, &m->body.write_file, &err), &err);
        break;
    case BODY(file_action):
        answer_failure(id, session_file_action(id, &m->body.file_action, &err), &err);
        break;
    case BODY(write_files):
        answer_failure(id, session_write_files(id, &m->body.write_files, &err), &err);
        break;
    case BODY(read_files):
        answer_failure(id, session_read_files(id, &m->body.read_files, &err), &err);
        break;
    case BODY(dial):
        answer_failure(id, session_dial(id, &m->body.dial, &err), &err);
        break;
    case BODY(attach):
        answer_failure(id, session_attach(id, &m->body.attach, &err), &err);
        break;
    // Streams of a session that was just released may still be on their way: not an error.
    case BODY(stdin_data):
        (void)session_stdin(&m->body.stdin_data);
        break;
    case BODY(stdin_end):
        (void)session_stdin_end(&m->body.stdin_end);
        break;
    case BODY(credit):
        (void)session_credit(&m->body.credit);
        break;
    case BODY(signal):
        answer(id, session_signal(&m->body.signal, &err), &err);
        break;
    case BODY(resize):
        answer(id, session_resize(&m->body.resize, &err), &err);
        break;
    case BODY(release):
        session_release(m->body.release.session_id);
        link_done(id);
        break;
    case BODY(get_stats):
        send_stats(id);
        break;
    case BODY(shutdown):
        power_shutdown(id, &m->body.shutdown);
        break;
    case BODY(reboot):
        power_reboot();
        break;
    case BODY(ping):
        link_done(id);
        break;
    case BODY(mount_volumes):
        answer(id, volumes_mount(&m->body.mount_volumes, &err), &err);
        break;
    case BODY(write_volume_files):
        answer(id, volumefiles_write(&m->body.write_volume_files, &err), &err);
        break;
    case BODY(set_clock):
        answer(id, walltime_set(m->body.set_clock.time_ms, &err), &err);
        break;
    case BODY(freeze_root):
        answer_failure(id, freeze_start(id, m->body.freeze_root.deadline_ms, &err), &err);
        break;
    case BODY(thaw_root):
        answer_failure(id, freeze_end(id, &err), &err);
        break;
    default:
        (void)err_set(&err, FAIL_INVALID, "this agent does not know the request");
        link_fail(id, &err);
    }
}
