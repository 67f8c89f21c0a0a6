// What sessions have to tell the host, one message at a time, the sessions in turn.
#include "session.h"

#include <string.h>

#include "frame.h"
#include "sessiontable.h"

static size_t next_turn; // whose output is looked at first

static bool next_data(struct session *s, int i, bulkhead_agent_v1_GuestMessage *message) {
    static union {
        pb_bytes_array_t array;
        uint8_t space[offsetof(pb_bytes_array_t, bytes) + FRAME_MAX_DATA];
    } chunk;
    struct stream *stream = &s->output[i];
    size_t size = stream_sendable(stream, FRAME_MAX_DATA);
    if (size == 0)
        return false;
    message->which_body = bulkhead_agent_v1_GuestMessage_output_tag;
    bulkhead_agent_v1_StreamData *data = &message->body.output;
    memcpy(data->session_id, s->id, sizeof s->id);
    data->stream = i == 0 ? bulkhead_agent_v1_Stream_STREAM_STDOUT : bulkhead_agent_v1_Stream_STREAM_STDERR;
    data->offset = stream->sent;
    chunk.array.size = (pb_size_t)ring_copy(&stream->ring, stream->sent, chunk.array.bytes, size);
    data->data = &chunk.array;
    stream->sent += size;
    stream->credit -= (uint32_t)size;
    return true;
}

static bool next_end(struct session *s, int i, bulkhead_agent_v1_GuestMessage *message) {
    struct stream *stream = &s->output[i];
    if (!stream->ended || stream->end_sent || stream->sent < stream->ring.end)
        return false;
    message->which_body = bulkhead_agent_v1_GuestMessage_output_end_tag;
    bulkhead_agent_v1_StreamEnd *end = &message->body.output_end;
    memcpy(end->session_id, s->id, sizeof s->id);
    end->stream = i == 0 ? bulkhead_agent_v1_Stream_STREAM_STDOUT : bulkhead_agent_v1_Stream_STREAM_STDERR;
    end->offset = stream->ring.end;
    stream->end_sent = true;
    return true;
}

static bool next_credit(struct session *s, bulkhead_agent_v1_GuestMessage *message) {
    uint32_t more = input_grant_more(&s->input);
    if (more == 0)
        return false;
    message->which_body = bulkhead_agent_v1_GuestMessage_stdin_credit_tag;
    bulkhead_agent_v1_Credit *credit = &message->body.stdin_credit;
    memcpy(credit->session_id, s->id, sizeof s->id);
    credit->stream = bulkhead_agent_v1_Stream_STREAM_STDIN;
    credit->acknowledged = s->input.ring.end;
    credit->bytes = more;
    return true;
}

static bool next_exit(struct session *s, bulkhead_agent_v1_GuestMessage *message) {
    if (s->state != EXITED || s->exit_sent)
        return false;
    message->which_body = bulkhead_agent_v1_GuestMessage_exited_tag;
    memcpy(message->body.exited.session_id, s->id, sizeof s->id);
    message->body.exited.has_status = true;
    message->body.exited.status = s->exit;
    s->exit_sent = true;
    return true;
}

bool sessions_next_output(bulkhead_agent_v1_GuestMessage *message) {
    for (size_t tried = 0; tried < SESSIONS_MAX; tried++) {
        struct session *s = sessions[next_turn];
        next_turn = (next_turn + 1) % SESSIONS_MAX;
        if (!s || !s->attached || s->request_id)
            continue;
        *message = (bulkhead_agent_v1_GuestMessage)bulkhead_agent_v1_GuestMessage_init_zero;
        if (next_exit(s, message) || next_credit(s, message))
            return true;
        for (int i = 0; i < OUTPUTS; i++) {
            if (next_data(s, i, message) || next_end(s, i, message))
                return true;
        }
    }
    return false;
}
