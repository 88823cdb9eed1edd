/*
 * The follower's half of replication (paper, figure 2: AppendEntries, receiver implementation).
 *
 * An acknowledgement says two things at once, "this equals the leader's log" (verified) and "this is on my
 * disk" (durable), so it always carries the lesser of both. Refusals, heartbeats and new ReadIndex rounds
 * are answered at once, entries when the disk has them.
 *
 * Must not know: what the leader does with the answers.
 */
#include "internal.h"

static uint64_t acknowledged(const struct raft *core)
{
	uint64_t verified = core->following.verified;

	if (core->writes.durable_seq < core->writes.reset_seq)
		return 0; /* a crash would bring the log before the snapshot back */
	return verified < core->writes.durable_index ? verified : core->writes.durable_index;
}

static void reject(struct raft *core, uint64_t prev_index)
{
	struct raft_following *following = &core->following;

	raft_assert(prev_index > core->commit);
	following->reply = RAFT_REPLY_REJECT;
	following->reject_prev_index = prev_index;
	if (prev_index > core->log.last_index) {
		following->reject_conflict_index = core->log.last_index + 1;
		following->reject_conflict_term = 0;
		return;
	}
	following->reject_conflict_term = raft_log_term_at(&core->log, prev_index);
	following->reject_conflict_index = raft_log_run_first(&core->log, prev_index);
	if (following->reject_conflict_index <= core->commit)
		following->reject_conflict_index = core->commit + 1; /* up to there every leader agrees */
	raft_assert(following->reject_conflict_index <= prev_index);
}

/* The newest entry of the log may be a configuration. check.c has looked at its bytes. */
static bool store_config(struct raft *core, const struct raft_entry *entry)
{
	struct raft_config config;
	int r;

	if (entry->type != RAFT_ENTRY_CONFIG)
		return false;
	r = raft_config_decode(entry->data, entry->size, &config);
	raft_assert(r == RAFT_CONFIG_OK);
	raft_configs_push(&core->configs, core->log.last_index, &config);
	return true;
}

/* Appends what is not here yet; removes a conflicting suffix first, and nothing that agrees: an old message that
 * was overtaken must not undo a newer one. */
static void store(struct raft *core, const struct raft_message *message)
{
	uint64_t prev = message->append.prev_index;
	uint32_t known = raft_count_known(&core->log, message);
	uint64_t first = prev + known + 1;
	bool config_changed = false;

	raft_assert(first > core->log.base_index);
	raft_assert(known <= message->append.n_entries);
	if (known == message->append.n_entries)
		return;
	if (first <= core->log.last_index) {
		raft_write_truncate(core, first);
		config_changed = raft_configs_truncate(&core->configs, first);
	}
	raft_assert(first == core->log.last_index + 1);
	for (uint32_t i = known; i < message->append.n_entries; i++) {
		raft_log_append(&core->log, message->append.entries[i].term, message->append.entries[i].size);
		config_changed |= store_config(core, &message->append.entries[i]);
	}
	raft_write_entries(core, first, core->log.last_index);
	core->out->write.skip = known;
	if (config_changed)
		raft_adopt_config(core);
}

static void accept(struct raft *core, const struct raft_message *message, bool new_round)
{
	struct raft_following *following = &core->following;
	uint64_t upto = message->append.prev_index + message->append.n_entries;
	uint64_t commit;

	if (message->append.n_entries > 0 && upto > core->log.base_index)
		store(core, message);
	if (upto > following->verified)
		following->verified = upto;
	/* Not its own last index: what follows the verified entries may yet be replaced. */
	commit = message->append.commit < following->verified ? message->append.commit : following->verified;
	if (commit > core->commit)
		core->commit = commit;
	raft_assert(core->commit <= core->log.last_index);
	if (message->append.n_entries == 0 || new_round || acknowledged(core) >= following->verified)
		following->reply = RAFT_REPLY_ACCEPT;
}

/* A higher term was taken over already. */
void raft_on_append(struct raft *core, struct raft_peer *peer, const struct raft_message *message)
{
	uint64_t prev = message->append.prev_index;
	bool new_round;

	raft_assert(message->term <= core->hard.term);
	if (message->term < core->hard.term) {
		/* Silence would leave a leader of an older term in office, and this member out of the cluster. */
		peer->stale_reply_due = true;
		return;
	}
	raft_follow(core, peer->id);
	raft_assert(core->leader == peer->id);
	new_round = message->append.round > core->following.round;
	if (new_round)
		core->following.round = message->append.round;
	/* Before the base everything is committed, thus equal; check.c has refused contradictions. */
	if (prev >= core->log.base_index && raft_log_term_at(&core->log, prev) != message->append.prev_term)
		reject(core, prev);
	else
		accept(core, message, new_round);
}

/* One acknowledgement for everything that the disk has confirmed. */
void raft_follower_persisted(struct raft *core)
{
	raft_assert(core->role != RAFT_LEADER);
	if (core->leader != RAFT_NO_MEMBER && acknowledged(core) > core->following.acked &&
	    core->following.reply == RAFT_REPLY_NONE)
		core->following.reply = RAFT_REPLY_ACCEPT;
}

/* Only when term and vote are durable. */
void raft_flush_follower(struct raft *core)
{
	struct raft_following *following = &core->following;
	struct raft_message *message;

	raft_assert(raft_hard_durable(core));
	for (unsigned i = 0; i < core->n_peers; i++) {
		if (!core->peers[i].stale_reply_due)
			continue;
		core->peers[i].stale_reply_due = false;
		message = raft_emit(core, RAFT_MESSAGE_APPEND_REPLY, core->peers[i].id, core->hard.term);
		message->append_reply.rejected = true;
	}
	if (following->reply == RAFT_REPLY_NONE || core->leader == RAFT_NO_MEMBER)
		return;
	message = raft_emit(core, RAFT_MESSAGE_APPEND_REPLY, core->leader, core->hard.term);
	message->append_reply.round = following->round;
	if (following->reply == RAFT_REPLY_REJECT) {
		message->append_reply.rejected = true;
		message->append_reply.prev_index = following->reject_prev_index;
		message->append_reply.conflict_index = following->reject_conflict_index;
		message->append_reply.conflict_term = following->reject_conflict_term;
	} else {
		following->acked = acknowledged(core);
		message->append_reply.match = following->acked;
		message->append_reply.promise_us = raft_promise_told_us(core);
	}
	following->reply = RAFT_REPLY_NONE;
}
