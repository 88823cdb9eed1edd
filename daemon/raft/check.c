/*
 * Refuses messages that no correct member sends, before they change anything: from nobody, with numbers that
 * cannot be, with configurations that are none, or that contradict what is committed. Bytes from the network end here (DESIGN.md, rule 8: no
 * input can crash a process), so nothing in this file asserts on what a message says.
 */
#include "internal.h"

/* The number of leading entries that this log has already, with the same terms (or that it had and compacted). */
uint32_t raft_count_known(const struct raft_log *log, const struct raft_message *message)
{
	uint64_t prev = message->append.prev_index;
	uint32_t known = 0;

	raft_assert(log->base_index <= log->last_index);
	raft_assert(message->type == RAFT_MESSAGE_APPEND);
	while (known < message->append.n_entries) {
		uint64_t index = prev + known + 1;

		if (index > log->last_index)
			break;
		if (index > log->base_index && raft_log_term_at(log, index) != message->append.entries[known].term)
			break;
		known++;
	}
	return known;
}

static bool check_entries(const struct raft_message *message)
{
	uint64_t term = message->append.prev_term;

	if (message->append.n_entries > 0 && !message->append.entries)
		return false;
	for (uint32_t i = 0; i < message->append.n_entries; i++) {
		const struct raft_entry *entry = &message->append.entries[i];

		if (entry->term == 0 || entry->term < term || entry->size > RAFT_ENTRY_SIZE_MAX)
			return false;
		term = entry->term;
	}
	return term <= message->term;
}

/* A leader has every committed entry (paper, section 5.4: Leader Completeness). One that contradicts a committed
 * entry is broken, and following it would destroy what was promised. */
static bool contradicts_committed(const struct raft *core, const struct raft_message *message)
{
	uint64_t prev = message->append.prev_index;
	uint32_t known;

	if (prev > core->commit)
		return false;
	if (prev >= core->log.base_index && raft_log_term_at(&core->log, prev) != message->append.prev_term)
		return true;
	known = raft_count_known(&core->log, message);
	return known < message->append.n_entries && prev + known + 1 <= core->commit;
}

static bool has_config(const struct raft_message *message)
{
	for (uint32_t i = 0; i < message->append.n_entries; i++)
		if (message->append.entries[i].type == RAFT_ENTRY_CONFIG)
			return true;
	return false;
}

/* Configurations that are not here yet: well formed, and each one step from the one before. In a message that does not
 * fit they are not looked at: it will be refused, and the step may lead from one that is missing here. */
static bool check_configs(const struct raft *core, const struct raft_message *message)
{
	const struct raft_config_record *record;
	const struct raft_config *before;
	struct raft_config configs[2];
	unsigned next = 0;
	uint32_t known;

	if (!has_config(message))
		return true;
	if (message->append.prev_index >= core->log.base_index &&
	    raft_log_term_at(&core->log, message->append.prev_index) != message->append.prev_term)
		return true;
	known = raft_count_known(&core->log, message);
	record = raft_configs_at(&core->configs, message->append.prev_index + known);
	before = record ? &record->config : NULL;
	for (uint32_t i = known; i < message->append.n_entries; i++) {
		const struct raft_entry *entry = &message->append.entries[i];

		if (entry->type != RAFT_ENTRY_CONFIG)
			continue;
		if (!entry->data || raft_config_decode(entry->data, entry->size, &configs[next]) != RAFT_CONFIG_OK)
			return false;
		if (before && raft_config_step_problem(before, &configs[next]))
			return false;
		before = &configs[next];
		next = 1 - next;
	}
	return true;
}

static bool check_append(const struct raft *core, const struct raft_message *message)
{
	uint64_t prev = message->append.prev_index;

	if (message->term == 0 || prev > RAFT_NUMBER_MAX)
		return false;
	if ((prev == 0) != (message->append.prev_term == 0))
		return false;
	if (!check_entries(message))
		return false;
	if (message->term < core->hard.term)
		return true; /* stale: its contents do not matter */
	if (!check_configs(core, message))
		return false;
	if (message->term == core->hard.term) {
		if (core->role == RAFT_LEADER)
			return false; /* two leaders in one term */
		if (core->leader != RAFT_NO_MEMBER && core->leader != message->from)
			return false;
		/* What was verified in this term stays so: a leader never rewrites its own log. */
		if (prev < core->following.verified && prev >= core->log.base_index &&
		    raft_log_term_at(&core->log, prev) != message->append.prev_term)
			return false;
		if (prev < core->following.verified) {
			uint32_t known = raft_count_known(&core->log, message);

			if (known < message->append.n_entries && prev + known + 1 <= core->following.verified)
				return false;
		}
	}
	return !contradicts_committed(core, message);
}

static bool check_vote_request(const struct raft_message *message)
{
	if (message->term == 0 || message->vote_request.last_index > RAFT_NUMBER_MAX)
		return false;
	if ((message->vote_request.last_index == 0) != (message->vote_request.last_term == 0))
		return false;
	return message->vote_request.last_term < message->term;
}

static bool check_append_reply(const struct raft *core, const struct raft_message *message)
{
	if (message->append_reply.match > RAFT_NUMBER_MAX || message->append_reply.prev_index > RAFT_NUMBER_MAX ||
	    message->append_reply.conflict_index > RAFT_NUMBER_MAX ||
	    message->append_reply.promise_us > RAFT_NUMBER_MAX)
		return false;
	if (core->role != RAFT_LEADER || message->term != core->hard.term)
		return true; /* for another time: not looked at */
	return message->append_reply.match <= core->log.last_index && message->append_reply.round <= core->reads.round;
}

int raft_check_message(const struct raft *core, const struct raft_message *message)
{
	bool good = false;

	raft_assert(core->started);
	/* Whoever is not in the configuration may be in a newer one: membership.c. */
	if (message->to != core->options.id || message->from == core->options.id || message->from == RAFT_NO_MEMBER)
		return RAFT_E_INVALID;
	if (message->term > RAFT_NUMBER_MAX)
		return RAFT_E_INVALID;
	switch (message->type) {
	case RAFT_MESSAGE_VOTE_REQUEST:
		good = check_vote_request(message);
		break;
	case RAFT_MESSAGE_VOTE_REPLY:
		good = message->vote_reply.request_term != 0;
		break;
	case RAFT_MESSAGE_APPEND:
		good = check_append(core, message);
		break;
	case RAFT_MESSAGE_APPEND_REPLY:
		good = check_append_reply(core, message);
		break;
	case RAFT_MESSAGE_TIMEOUT_NOW:
		good = message->term != 0 && !(core->role == RAFT_LEADER && message->term == core->hard.term);
		break;
	}
	return good ? RAFT_OK : RAFT_E_INVALID;
}
