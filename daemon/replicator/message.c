/*
 * Between the core's messages and the wire's: the one place that knows both.
 */
#include "replica_internal.h"

#include "daemon/assert.h"

#include <string.h>

static void wire_from_message(const struct replica *replica, const struct raft_message *message,
			      struct wire_message *ret)
{
	memset(ret, 0, sizeof *ret);
	ret->cluster = replica->options.cluster;
	ret->from = message->from;
	ret->from_incarnation = replica->incarnation;
	ret->to = message->to;
	ret->term = message->term;
	switch (message->type) {
	case RAFT_MESSAGE_VOTE_REQUEST:
		ret->type = WIRE_VOTE_REQUEST;
		ret->vote_request.last_index = message->vote_request.last_index;
		ret->vote_request.last_term = message->vote_request.last_term;
		ret->vote_request.pre_vote = message->vote_request.pre_vote;
		ret->vote_request.transfer = message->vote_request.transfer;
		break;
	case RAFT_MESSAGE_VOTE_REPLY:
		ret->type = WIRE_VOTE_REPLY;
		ret->vote_reply.granted = message->vote_reply.granted;
		ret->vote_reply.pre_vote = message->vote_reply.pre_vote;
		ret->vote_reply.request_term = message->vote_reply.request_term;
		break;
	case RAFT_MESSAGE_APPEND:
		ret->type = WIRE_APPEND;
		ret->append.prev_index = message->append.prev_index;
		ret->append.prev_term = message->append.prev_term;
		ret->append.commit = message->append.commit;
		ret->append.round = message->append.round;
		break;
	case RAFT_MESSAGE_APPEND_REPLY:
		ret->type = WIRE_APPEND_REPLY;
		ret->append_reply.rejected = message->append_reply.rejected;
		ret->append_reply.match = message->append_reply.match;
		ret->append_reply.round = message->append_reply.round;
		ret->append_reply.prev_index = message->append_reply.prev_index;
		ret->append_reply.conflict_index = message->append_reply.conflict_index;
		ret->append_reply.conflict_term = message->append_reply.conflict_term;
		ret->append_reply.promise_us = message->append_reply.promise_us;
		break;
	case RAFT_MESSAGE_TIMEOUT_NOW:
		ret->type = WIRE_TIMEOUT_NOW;
		break;
	}
}

bool replica_message_from_wire(const struct wire_message *wire, struct raft_message *ret)
{
	memset(ret, 0, sizeof *ret);
	ret->from = wire->from;
	ret->to = wire->to;
	ret->term = wire->term;
	switch (wire->type) {
	case WIRE_VOTE_REQUEST:
		ret->type = RAFT_MESSAGE_VOTE_REQUEST;
		ret->vote_request.last_index = wire->vote_request.last_index;
		ret->vote_request.last_term = wire->vote_request.last_term;
		ret->vote_request.pre_vote = wire->vote_request.pre_vote;
		ret->vote_request.transfer = wire->vote_request.transfer;
		return true;
	case WIRE_VOTE_REPLY:
		ret->type = RAFT_MESSAGE_VOTE_REPLY;
		ret->vote_reply.granted = wire->vote_reply.granted;
		ret->vote_reply.pre_vote = wire->vote_reply.pre_vote;
		ret->vote_reply.request_term = wire->vote_reply.request_term;
		return true;
	case WIRE_APPEND:
		ret->type = RAFT_MESSAGE_APPEND;
		ret->append.prev_index = wire->append.prev_index;
		ret->append.prev_term = wire->append.prev_term;
		ret->append.commit = wire->append.commit;
		ret->append.round = wire->append.round;
		ret->append.n_entries = wire->append.n_entries;
		ret->append.entries = wire->append.entries;
		return true;
	case WIRE_APPEND_REPLY:
		ret->type = RAFT_MESSAGE_APPEND_REPLY;
		ret->append_reply.rejected = wire->append_reply.rejected;
		ret->append_reply.match = wire->append_reply.match;
		ret->append_reply.round = wire->append_reply.round;
		ret->append_reply.prev_index = wire->append_reply.prev_index;
		ret->append_reply.conflict_index = wire->append_reply.conflict_index;
		ret->append_reply.conflict_term = wire->append_reply.conflict_term;
		ret->append_reply.promise_us = wire->append_reply.promise_us;
		return true;
	case WIRE_TIMEOUT_NOW:
		ret->type = RAFT_MESSAGE_TIMEOUT_NOW;
		return true;
	default:
		return false;
	}
}

void replica_send_wire(struct replica *replica, const struct wire_message *wire)
{
	size_t size = wire_encoded_size(wire);
	raft_assert(size > 0);
	uint8_t *frame = replica->transport->ops->prepare(replica->transport, size);
	if (frame == NULL)
		return; /* no memory: as if lost on the way; the transport counts it */
	wire_encode(wire, frame);
	(void)replica->transport->ops->send(replica->transport, wire->to); /* best effort; counted there */
}

/* The log hands out what lies together, in memory or in one stretch of a file: one append of the core may become several
 * on the wire, each beginning where the one before ended. */
static void replica_send_entries(struct replica *replica, struct wire_message *wire, uint32_t n_entries)
{
	while (n_entries > 0) {
		uint32_t wanted = n_entries < WIRE_ENTRIES_MAX ? n_entries : WIRE_ENTRIES_MAX;
		uint32_t n = 0;
		int r = storage_read(replica->storage, wire->append.prev_index + 1, wanted, WIRE_FRAME_SIZE_MAX / 2,
				     replica->entries, &n);
		if (r != 0) {
			replica_on_unreadable(replica, wire->append.prev_index + 1, r);
			return;
		}
		raft_assert(n > 0 && n <= n_entries);
		wire->append.entries = replica->entries;
		wire->append.n_entries = n;
		uint64_t last_term = replica->entries[n - 1].term;
		replica_send_wire(replica, wire);
		wire->append.prev_index += n;
		wire->append.prev_term = last_term;
		n_entries -= n;
	}
}

void replica_send(struct replica *replica, const struct raft_message *message)
{
	struct wire_message wire;

	if (message->type == RAFT_MESSAGE_APPEND && !replica_may_send_log(replica, message->to))
		return;
	wire_from_message(replica, message, &wire);
	if (message->type == RAFT_MESSAGE_APPEND && message->append.n_entries > 0)
		replica_send_entries(replica, &wire, message->append.n_entries);
	else
		replica_send_wire(replica, &wire);
}

struct wire_message replica_wire_message(const struct replica *replica, uint8_t type, uint64_t to)
{
	return (struct wire_message){
		.type = type,
		.cluster = replica->options.cluster,
		.from = replica->options.raft.id,
		.from_incarnation = replica->incarnation,
		.to = to,
	};
}

bool replica_decode(struct replica *replica, const uint8_t *frame, size_t len, struct wire_message *ret_wire)
{
	int r = wire_decode(frame, len, replica->entries, WIRE_ENTRIES_MAX, ret_wire);
	const char *why = NULL;

	if (r != WIRE_OK)
		why = wire_result_name(r);
	else if (ret_wire->cluster != replica->options.cluster)
		why = "meant for another cluster";
	else if (ret_wire->to != replica->options.raft.id)
		why = "meant for another member";
	else if (ret_wire->from == replica->options.raft.id || ret_wire->from == RAFT_NO_MEMBER)
		why = "from nobody, or from this member itself: two members have the same id";
	if (why == NULL)
		return true;
	replica->bad_frames++;
	replica_log(replica, 4, "bad-frame", "refused a frame of %zu bytes: %s", len, why);
	return false;
}
