/*
 * The core's one function, raft_step: decides what an event means and collects what follows from it.
 * Begin reading here; raft.h is the contract, internal.h the state.
 *
 * A step has three parts. prepare() may refuse and reserves memory, but changes nothing that shows. apply()
 * cannot fail. finish() numbers the write, emits messages if term and vote are durable, and names the deadline.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

const char *raft_role_name(enum raft_role role)
{
	switch (role) {
	case RAFT_FOLLOWER:
		return "follower";
	case RAFT_PRE_CANDIDATE:
		return "pre-candidate";
	case RAFT_CANDIDATE:
		return "candidate";
	case RAFT_LEADER:
		return "leader";
	case RAFT_LEARNER:
		return "learner";
	}
	return "unknown";
}

/* Words that all files share --------------------------------------------------------------------------- */

void raft_trace(struct raft *core, enum raft_trace_type type, uint64_t a, uint64_t b)
{
	struct raft_update *out = core->out;

	raft_assert(out);
	if (out->n_traces < RAFT_TRACES_MAX)
		out->traces[out->n_traces++] = (struct raft_trace){.type = type, .a = a, .b = b};
}

const struct raft_peer *raft_find_peer_const(const struct raft *core, uint64_t id)
{
	for (unsigned i = 0; i < core->n_peers; i++)
		if (core->peers[i].kind != RAFT_PEER_FREE && core->peers[i].id == id)
			return &core->peers[i];
	return NULL;
}

struct raft_peer *raft_find_peer(struct raft *core, uint64_t id)
{
	for (unsigned i = 0; i < core->n_peers; i++)
		if (core->peers[i].kind != RAFT_PEER_FREE && core->peers[i].id == id)
			return &core->peers[i];
	return NULL;
}

unsigned raft_quorum(const struct raft *core)
{
	return core->n_voters / 2 + 1;
}

/* splitmix64 (Vigna). The bias of the remainder is below 2^-40 for intervals of seconds: no matter here. */
uint64_t raft_random_below(struct raft *core, uint64_t n)
{
	uint64_t z = core->random += 0x9e3779b97f4a7c15u;

	raft_assert(n > 0);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % n;
}

struct raft_message *raft_emit(struct raft *core, enum raft_message_type type, uint64_t to, uint64_t term)
{
	struct raft_message *message = &core->messages[core->n_messages];

	raft_assert(core->n_messages < RAFT_MESSAGES_MAX);
	raft_assert(to != core->options.id);
	core->n_messages++;
	memset(message, 0, sizeof(*message));
	message->type = type;
	message->from = core->options.id;
	message->to = to;
	message->term = term;
	return message;
}

uint64_t raft_quorum_value(const struct raft *core, uint64_t self, uint64_t (*get)(const struct raft_peer *peer))
{
	uint64_t values[RAFT_MEMBERS_MAX + 1]; /* ascending */
	unsigned n = 0;

	for (unsigned i = 0; i <= core->n_peers; i++) {
		bool is_self = i == core->n_peers;
		uint64_t value = is_self ? self : get(&core->peers[i]);
		unsigned at = n;

		if (is_self ? !core->self_voter : !core->peers[i].voter)
			continue;
		for (; at > 0 && values[at - 1] > value; at--)
			values[at] = values[at - 1];
		values[at] = value;
		n++;
	}
	raft_assert(n == core->n_voters && n > 0);
	return values[n - raft_quorum(core)];
}

/* The step --------------------------------------------------------------------------------------------- */

/* Room for n more entries of n_terms new terms, n_configs of them configurations, so that nothing can fail later. */
static int reserve(struct raft *core, size_t n, size_t n_terms, size_t n_configs)
{
	if (raft_log_reserve(&core->log, n, n_terms) != 0 || raft_configs_reserve(&core->configs, n_configs) != 0)
		return -ENOMEM;
	return 0;
}

/* For what a leader may append by itself in any step: the no-op of its term, a configuration. */
static int reserve_own(struct raft *core)
{
	return reserve(core, 1, 1, 1);
}

/* Distinct terms among the entries, for reserving. The message was checked. */
static size_t count_terms(const struct raft_message *message)
{
	size_t n = 0;
	uint64_t term = 0;

	for (uint32_t i = 0; i < message->append.n_entries; i++) {
		n += message->append.entries[i].term != term;
		term = message->append.entries[i].term;
	}
	return n;
}

static size_t count_configs(const struct raft_message *message)
{
	size_t n = 0;

	for (uint32_t i = 0; i < message->append.n_entries; i++)
		n += message->append.entries[i].type == RAFT_ENTRY_CONFIG;
	return n;
}

static int prepare_message(struct raft *core, const struct raft_message *message)
{
	int result = raft_check_message(core, message);

	if (result != RAFT_OK)
		return result;
	if (message->type == RAFT_MESSAGE_APPEND && message->append.n_entries > 0)
		return reserve(core, message->append.n_entries, count_terms(message), count_configs(message));
	return reserve_own(core);
}

/* What waits to be committed, or for this member's own disk: the others commit without that one, however far it lags. */
static uint64_t waiting_bytes(const struct raft *core)
{
	uint64_t durable = core->writes.durable_index;

	return raft_log_bytes(&core->log, durable < core->commit ? durable : core->commit, core->log.last_index);
}

static int prepare_propose(struct raft *core, const struct raft_event *event)
{
	uint64_t waiting = waiting_bytes(core);
	uint64_t bytes = 0;

	raft_assert(event->propose.n_entries > 0);
	if (core->role != RAFT_LEADER)
		return RAFT_E_NOT_LEADER;
	if (core->transfer.target != RAFT_NO_MEMBER)
		return RAFT_E_BUSY;
	for (uint32_t i = 0; i < event->propose.n_entries; i++) {
		raft_assert(event->propose.sizes[i] <= RAFT_ENTRY_SIZE_MAX);
		bytes += event->propose.sizes[i] + RAFT_LOG_ENTRY_OVERHEAD;
	}
	if (waiting > 0 && waiting + bytes > core->options.uncommitted_bytes_max)
		return RAFT_E_BUSY;
	return reserve(core, event->propose.n_entries, 1, 0);
}

/* May it happen now? Messages and proposals have their own. */
static int check_event(const struct raft *core, const struct raft_event *event)
{
	switch (event->type) {
	case RAFT_EVENT_READ:
		if (core->role != RAFT_LEADER)
			return RAFT_E_NOT_LEADER;
		return core->commit < core->term_start ? RAFT_E_NOT_READY : RAFT_OK;
	case RAFT_EVENT_TRANSFER:
		return raft_transfer_check(core, event->transfer_target);
	case RAFT_EVENT_CONFIG:
		return raft_change_check(core, event->config.config, event->config.previous_index);
	case RAFT_EVENT_BOOTSTRAP:
		return raft_bootstrap_check(core, event->bootstrap);
	case RAFT_EVENT_SNAPSHOT_INSTALLED:
		return raft_snapshot_check(core, event);
	case RAFT_EVENT_PERSISTED:
		raft_assert(event->persisted_seq <= core->writes.seq);
		break;
	case RAFT_EVENT_TICK:
	case RAFT_EVENT_MESSAGE:
	case RAFT_EVENT_PROPOSE:
	case RAFT_EVENT_PEER_DOWN:
	case RAFT_EVENT_DISK_STALLED:
		break;
	}
	return RAFT_OK;
}

/* Everything that may refuse the event. Memory may be reserved; nothing else changes. */
static int prepare(struct raft *core, const struct raft_event *event)
{
	int result = check_event(core, event);

	if (result != RAFT_OK)
		return result;
	switch (event->type) {
	case RAFT_EVENT_MESSAGE:
		return prepare_message(core, event->message);
	case RAFT_EVENT_PROPOSE:
		return prepare_propose(core, event);
	case RAFT_EVENT_READ:
		return raft_reads_reserve(core) != 0 ? -ENOMEM : reserve_own(core);
	case RAFT_EVENT_TICK:
	case RAFT_EVENT_PERSISTED:
	case RAFT_EVENT_TRANSFER:
	case RAFT_EVENT_PEER_DOWN:
	case RAFT_EVENT_DISK_STALLED:
	case RAFT_EVENT_CONFIG:
	case RAFT_EVENT_BOOTSTRAP:
	case RAFT_EVENT_SNAPSHOT_INSTALLED:
		break;
	}
	return reserve_own(core);
}

static void apply_message(struct raft *core, const struct raft_message *message)
{
	struct raft_peer *peer = raft_find_peer(core, message->from);

	raft_assert(message->to == core->options.id);
	if (!peer)
		peer = raft_add_stranger(core, message->from);
	peer->last_contact_us = core->now_us;
	if (message->term > core->hard.term && raft_adopts_term(core, message)) {
		raft_trace(core, RAFT_TRACE_TERM, message->term, message->from);
		raft_become_follower(core, message->term);
	}
	switch (message->type) {
	case RAFT_MESSAGE_VOTE_REQUEST:
		raft_on_vote_request(core, peer, message);
		break;
	case RAFT_MESSAGE_VOTE_REPLY:
		raft_on_vote_reply(core, peer, message);
		break;
	case RAFT_MESSAGE_APPEND:
		raft_on_append(core, peer, message);
		break;
	case RAFT_MESSAGE_APPEND_REPLY:
		raft_on_append_reply(core, peer, message);
		break;
	case RAFT_MESSAGE_TIMEOUT_NOW:
		raft_on_timeout_now(core, message);
		break;
	}
}

static void apply(struct raft *core, const struct raft_event *event)
{
	switch (event->type) {
	case RAFT_EVENT_TICK:
		if (core->role == RAFT_LEADER)
			raft_leader_tick(core);
		else if (core->now_us >= core->election_deadline_us)
			raft_on_election_timeout(core);
		break;
	case RAFT_EVENT_MESSAGE:
		apply_message(core, event->message);
		break;
	case RAFT_EVENT_PROPOSE:
		raft_propose(core, event->propose.sizes, event->propose.n_entries);
		break;
	case RAFT_EVENT_READ:
		raft_on_read(core, event->read_id);
		break;
	case RAFT_EVENT_PERSISTED:
		raft_on_persisted(core, event->persisted_seq);
		break;
	case RAFT_EVENT_TRANSFER:
		raft_transfer_start(core, event->transfer_target);
		break;
	case RAFT_EVENT_PEER_DOWN:
		raft_on_peer_down(core, event->peer);
		break;
	case RAFT_EVENT_DISK_STALLED:
		raft_on_disk_stalled(core);
		break;
	case RAFT_EVENT_CONFIG:
		raft_change(core, event->config.config);
		break;
	case RAFT_EVENT_BOOTSTRAP:
		raft_bootstrap(core, event->bootstrap);
		break;
	case RAFT_EVENT_SNAPSHOT_INSTALLED:
		raft_on_snapshot(core, event);
		break;
	}
}

/* Nothing may leave that rests on a term or vote that a crash could take back: until they are durable, what is owed
 * stays marked in the state and is emitted by the step that learns of it (dissertation, section 3.8). */
static void flush(struct raft *core)
{
	raft_assert(core->n_messages == 0);
	if (!raft_hard_durable(core)) {
		raft_assert(core->role != RAFT_LEADER);
		return;
	}
	for (unsigned i = 0; i < core->n_peers; i++)
		raft_flush_votes(core, &core->peers[i]);
	raft_flush_follower(core);
	if (core->role == RAFT_LEADER)
		raft_flush_leader(core);
	raft_flush_transfer(core);
}

static void finish(struct raft *core)
{
	struct raft_update *out = core->out;

	out->messages = core->messages;
	out->n_messages = core->n_messages;
	out->commit = core->commit;
	out->write.hard_state = core->hard;
	out->removed = core->removed;
	out->level = raft_level(core);
	raft_list_snapshots(core);
	out->deadline_us = core->role == RAFT_LEADER ? raft_leader_deadline(core) : core->election_deadline_us;
	core->out = NULL;
	raft_assert(out->commit <= core->log.last_index);
	raft_assert(out->write.needed || !core->hard_dirty);
}

int raft_step(struct raft *core, const struct raft_event *event, struct raft_update *update)
{
	int result;

	raft_assert(core->started && !core->out);
	raft_assert(event->now_us >= core->now_us);
	memset(update, 0, sizeof(*update));
	core->out = update;
	core->n_messages = 0;
	if (event->now_us > core->now_us)
		raft_settle_promise(core, event->now_us);
	core->now_us = event->now_us;
	core->no_room = event->no_room;
	raft_reads_begin_step(core);
	result = prepare(core, event);
	if (result == RAFT_OK) {
		apply(core, event);
		raft_settle_membership(core);
		raft_write_finish(core);
		flush(core);
	}
	finish(core);
	return result;
}
