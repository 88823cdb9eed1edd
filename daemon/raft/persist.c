/*
 * What is durable: writes are numbered, the disk confirms numbers, this file translates them into "the log up
 * to index i" and "the current term and vote".
 *
 * The reference is dissertation section 3.8: term, vote and entries are on stable storage before anybody hears of
 * them. Disks and their order of completion are the caller's; it confirms in order.
 */
#include "internal.h"

bool raft_hard_durable(const struct raft *core)
{
	raft_assert(core->writes.hard_seq <= core->writes.seq);
	return !core->hard_dirty && core->writes.durable_seq >= core->writes.hard_seq;
}

void raft_set_hard_state(struct raft *core, uint64_t term, uint64_t vote)
{
	raft_assert(term >= core->hard.term);
	raft_assert(term > core->hard.term || core->hard.vote == RAFT_NO_MEMBER);
	core->hard.term = term;
	core->hard.vote = vote;
	core->hard_dirty = true;
}

void raft_write_entries(struct raft *core, uint64_t first_index, uint64_t last_index)
{
	raft_assert(core->out->write.first_index == 0);
	raft_assert(first_index <= last_index && last_index == core->log.last_index);
	core->out->write.first_index = first_index;
	core->out->write.last_index = last_index;
}

/* The conflicting suffix goes. Writes of it that are still under way no longer say anything about this log, so
 * what their completion proves ends before the cut: a late confirmation must not vouch for the new entries. */
void raft_write_truncate(struct raft *core, uint64_t from)
{
	struct raft_writes *writes = &core->writes;

	raft_assert(from > core->commit); /* committed entries are never removed */
	raft_assert(from > core->following.verified);
	raft_trace(core, RAFT_TRACE_TRUNCATE, from, core->log.last_index);
	raft_log_truncate(&core->log, from);
	core->out->write.truncate_from = from;
	if (writes->durable_index >= from)
		writes->durable_index = from - 1;
	for (unsigned i = 0; i < writes->n; i++) {
		uint64_t *last_index = &writes->ring[(writes->head + i) % RAFT_WRITES_MAX].last_index;

		if (*last_index >= from)
			*last_index = from - 1;
	}
}

/* The log begins anew. Writes under way say nothing about it any more, and the snapshot that it begins with is durable;
 * but until this write is, a crash brings the old log back, so nothing is acknowledged before. */
void raft_write_reset(struct raft *core, uint64_t index, uint64_t term)
{
	struct raft_writes *writes = &core->writes;

	raft_assert(index > core->commit);
	raft_assert(core->out->write.first_index == 0 && core->out->write.truncate_from == 0);
	raft_log_reset(&core->log, index, term);
	core->out->write.reset_index = index;
	core->out->write.reset_term = term;
	writes->reset_seq = writes->seq + 1;
	writes->durable_index = index;
	for (unsigned i = 0; i < writes->n; i++)
		writes->ring[(writes->head + i) % RAFT_WRITES_MAX].last_index = index;
}

/* A restart found the snapshot, and the log that it replaces: the caller has queued the reset again. The snapshot alone would
 * bring term and log back after another crash, but only as long as it can be read. */
void raft_writes_resume_reset(struct raft_writes *writes, uint64_t index)
{
	raft_assert(writes->seq == 0 && index > 0);
	writes->seq = writes->hard_seq = writes->reset_seq = 1;
	writes->ring[0].seq = 1;
	writes->ring[0].last_index = index;
	writes->n = 1;
}

/* Numbers what this step wants written, if anything. With the ring full the newest two count as one: the
 * older of them is then believed durable only together with the newer, which errs on the safe side. */
void raft_write_finish(struct raft *core)
{
	struct raft_writes *writes = &core->writes;
	struct raft_update *out = core->out;

	out->write.hard_state = core->hard;
	out->write.needed = core->hard_dirty || out->write.first_index != 0 || out->write.reset_index != 0;
	if (!out->write.needed)
		return;
	writes->seq++;
	out->write.seq = writes->seq;
	if (core->hard_dirty)
		writes->hard_seq = writes->seq;
	core->hard_dirty = false;
	if (writes->n < RAFT_WRITES_MAX)
		writes->n++;
	unsigned newest = (writes->head + writes->n - 1) % RAFT_WRITES_MAX;

	writes->ring[newest].seq = writes->seq;
	writes->ring[newest].last_index = core->log.last_index;
	raft_assert(writes->durable_seq < writes->seq && writes->reset_seq <= writes->seq);
	raft_assert(writes->durable_index <= core->log.last_index);
}

void raft_on_persisted(struct raft *core, uint64_t seq)
{
	struct raft_writes *writes = &core->writes;

	raft_assert(seq <= writes->seq);
	if (seq <= writes->durable_seq)
		return;
	writes->durable_seq = seq;
	core->disk_stalled = false;
	while (writes->n > 0 && writes->ring[writes->head].seq <= seq) {
		uint64_t last_index = writes->ring[writes->head].last_index;

		if (last_index > writes->durable_index)
			writes->durable_index = last_index;
		writes->head = (writes->head + 1) % RAFT_WRITES_MAX;
		writes->n--;
	}
	raft_assert(writes->durable_index <= core->log.last_index);
	if (core->role == RAFT_CANDIDATE && !core->own_vote && raft_hard_durable(core))
		raft_on_own_vote_durable(core);
	if (core->role == RAFT_LEADER)
		raft_advance_commit(core);
	else
		raft_follower_persisted(core);
}
