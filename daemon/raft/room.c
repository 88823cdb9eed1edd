/*
 * What a step may have to write, told before it happens: on a full disk an event whose write has no room is not handed in.
 *
 * These are upper bounds, read off the rules of the other files. The one thing that they cannot foresee, a promotion, is
 * left out because the event says no_room (change.c).
 *
 * Must not know: how much room there is.
 */
#include "internal.h"

static const struct raft_write_need nothing = {.any = false};
static const struct raft_write_need hard_state = {.any = true};
static const struct raft_write_need own_noop = {.any = true, .n_entries = 1, .own = true};
static const struct raft_write_need own_config = {
	.any = true, .n_entries = 1, .data_bytes = RAFT_CONFIG_SIZE_MAX, .own = true};

static struct raft_write_need message_need(const struct raft *core, const struct raft_message *message)
{
	struct raft_write_need need = {.any = message->term > core->hard.term};

	switch (message->type) {
	case RAFT_MESSAGE_APPEND:
		need.any |= message->append.n_entries > 0;
		need.n_entries = message->append.n_entries;
		for (uint32_t i = 0; i < message->append.n_entries; i++)
			need.data_bytes += message->append.entries[i].size;
		return need;
	case RAFT_MESSAGE_VOTE_REPLY:
		if (!message->vote_reply.granted || need.any)
			return need;
		return core->role == RAFT_CANDIDATE	  ? own_noop
		       : core->role == RAFT_PRE_CANDIDATE ? hard_state
							  : nothing;
	case RAFT_MESSAGE_VOTE_REQUEST: /* a pre-vote writes nothing, but promises a vote that would have to be */
	case RAFT_MESSAGE_TIMEOUT_NOW:
		return hard_state;
	case RAFT_MESSAGE_APPEND_REPLY:
		break;
	}
	return need;
}

static struct raft_write_need propose_need(const struct raft_event *event)
{
	struct raft_write_need need = {.any = true, .n_entries = event->propose.n_entries};

	for (uint32_t i = 0; i < event->propose.n_entries; i++)
		need.data_bytes += event->propose.sizes[i];
	return need;
}

struct raft_write_need raft_write_need(const struct raft *core, const struct raft_event *event)
{
	bool alone = raft_leads_alone(core);

	switch (event->type) {
	case RAFT_EVENT_TICK:
		return alone && core->role != RAFT_LEADER ? hard_state : nothing;
	case RAFT_EVENT_MESSAGE:
		return message_need(core, event->message);
	case RAFT_EVENT_PROPOSE:
		return propose_need(event);
	case RAFT_EVENT_PERSISTED:
		return alone && core->role == RAFT_CANDIDATE ? own_noop : nothing;
	case RAFT_EVENT_CONFIG:
	case RAFT_EVENT_BOOTSTRAP:
		return own_config;
	case RAFT_EVENT_SNAPSHOT_INSTALLED:
		return hard_state;
	case RAFT_EVENT_READ:
	case RAFT_EVENT_TRANSFER:
	case RAFT_EVENT_PEER_DOWN:
	case RAFT_EVENT_DISK_STALLED:
		break;
	}
	return nothing;
}
