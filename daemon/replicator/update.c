/*
 * Carries out what the consensus core decides, in the only legal order (raft.h, "obligations of the caller"): queue the
 * write, send what rests on nothing that is not durable, note the commit index, mark reads. Applying comes later, from
 * replica.c, so that no callback of the state machine runs while an update is being carried out.
 */
#include "replica_internal.h"

#include "daemon/assert.h"

#include <string.h>

/* The leader's clock, made to never go back along the log. */
void replica_note_time(struct replica *replica, uint64_t time_ms)
{
	if (time_ms > replica->last_time_ms)
		replica->last_time_ms = time_ms;
}

/* The entries of an update: the core's own (no-op, configuration) go to *own, those of the event are at hand. */
static const struct raft_entry *update_entries(struct replica *replica, const struct raft_update *update,
					       const struct raft_entry *entries, struct raft_entry *own)
{
	if (!update->write.noop && update->write.config == NULL) {
		raft_assert(entries != NULL);
		/* Another leader's clock may be ahead: what we stamp when we lead must not go back. */
		uint64_t newest_ms =
			entries[update->write.skip + update->write.last_index - update->write.first_index].time_ms;
		replica_note_time(replica, newest_ms);
		return entries + update->write.skip;
	}
	raft_assert(update->write.first_index == update->write.last_index);
	replica_note_time(replica, replica->wall_ms);
	*own = (struct raft_entry){
		.term = update->write.term, .time_ms = replica->last_time_ms, .type = RAFT_ENTRY_NOOP};
	if (update->write.config != NULL) {
		own->type = RAFT_ENTRY_CONFIG;
		own->data = update->write.config;
		own->size = update->write.config_size;
	}
	return own;
}

static int replica_write(struct replica *replica, const struct raft_update *update, const struct raft_entry *entries)
{
	struct raft_entry own;
	struct storage_write write = {
		.seq = update->write.seq,
		.term = update->write.hard_state.term,
		.vote = update->write.hard_state.vote,
		.commit = update->commit,
		.truncate_from = update->write.truncate_from,
		.reset_index = update->write.reset_index,
		.reset_term = update->write.reset_term,
		.own = update->write.noop || update->write.config != NULL,
	};

	if (update->write.first_index > 0) {
		raft_assert(update->write.last_index >= update->write.first_index);
		raft_assert(update->write.reset_index == 0);
		write.first_index = update->write.first_index;
		write.n_entries = (uint32_t)(update->write.last_index - update->write.first_index + 1);
		write.entries = update_entries(replica, update, entries, &own);
	}
	int r = storage_append(replica->storage, &write);
	raft_assert(r != STORAGE_E_FULL); /* room was asked for before the step */
	return r;
}

static const char *trace_event_name(enum raft_trace_type type)
{
	switch (type) {
	case RAFT_TRACE_TERM:
		return "term";
	case RAFT_TRACE_PRE_CANDIDATE:
		return "pre-candidate";
	case RAFT_TRACE_CANDIDATE:
		return "candidate";
	case RAFT_TRACE_LEADER:
		return "leader";
	case RAFT_TRACE_FOLLOWER:
		return "follower";
	case RAFT_TRACE_STEP_DOWN:
		return "step-down";
	case RAFT_TRACE_VOTE_GRANTED:
		return "vote-granted";
	case RAFT_TRACE_VOTE_REFUSED:
		return "vote-refused";
	case RAFT_TRACE_TRUNCATE:
		return "truncate";
	case RAFT_TRACE_TRANSFER:
		return "transfer";
	case RAFT_TRACE_TRANSFER_ABORTED:
		return "transfer-aborted";
	case RAFT_TRACE_CONFIG:
		return "membership";
	case RAFT_TRACE_PROMOTE:
		return "promoted";
	case RAFT_TRACE_REMOVED:
		return "removed";
	case RAFT_TRACE_SNAPSHOT_NEEDED:
		return "snapshot-needed";
	case RAFT_TRACE_LOST:
		return "lost-entries";
	case RAFT_TRACE_RESET:
		return "log-reset";
	}
	return "unknown";
}

/* Once for each time that a leader is lost: a minority asks again and again, and its journal would hold nothing else. */
static void trace_pre_candidate(struct replica *replica, const char *event, uint64_t term)
{
	int level = replica->leader_missed ? 7 : 6;
	replica->leader_missed = true;
	replica_log(replica, level, event, "hears of no leader: asks whether it could win term %llu",
		    (unsigned long long)term);
}

static void trace_step_down(const struct replica *replica, const char *event, uint64_t term, uint64_t new_term)
{
	if (term == new_term)
		replica_log(replica, 4, event,
			    "led term %llu and stops: no quorum answers, the disk hangs, or it is no voter any more",
			    (unsigned long long)term);
	else
		replica_log(replica, 5, event, "led term %llu and stops: term %llu has begun", (unsigned long long)term,
			    (unsigned long long)new_term);
}

/* Every member sees every change, and the leader has told it: here is only what it means for this one. */
static void trace_config(struct replica *replica, const char *event, uint64_t index, uint64_t n_voters)
{
	unsigned role = replica_own_role(replica);
	struct replica_about about = {.index = index};

	replica_log_about(replica, about, 7, event, "the membership of entry %llu, with %llu voters, is in force",
			  (unsigned long long)index, (unsigned long long)n_voters);
	if (role != replica->own_role && role == REPLICATOR_VOTER && n_voters > 1)
		replica_log_about(replica, about, 5, "voter", "has a vote, as of entry %llu",
				  (unsigned long long)index);
	else if (role != replica->own_role && role == REPLICATOR_LEARNER)
		replica_log_about(replica, about, 5, "learner", "learns without a vote, as of entry %llu",
				  (unsigned long long)index);
	replica->own_role = role;
}

static void trace_progress(struct replica *replica, const struct raft_trace *trace, const char *event)
{
	unsigned long long a = trace->a;
	unsigned long long b = trace->b;

	switch (trace->type) {
	case RAFT_TRACE_TRUNCATE:
		replica_log_about(replica, (struct replica_about){.index = a}, 6, event,
				  "removes entries %llu to %llu, which no quorum holds", a, b);
		break;
	case RAFT_TRACE_CONFIG:
		trace_config(replica, event, a, b);
		break;
	case RAFT_TRACE_PROMOTE:
		replica_log_about(replica, (struct replica_about){a, b}, 5, event,
				  "member %llu has caught up: entry %llu makes it a voter", b, a);
		break;
	case RAFT_TRACE_REMOVED:
		replica_log_about(replica, (struct replica_about){.index = a}, 4, event,
				  "entry %llu removed this member from the cluster", a);
		break;
	case RAFT_TRACE_SNAPSHOT_NEEDED:
		replica_log_about(replica, (struct replica_about){b, a}, 6, event,
				  "member %llu needs entries from before %llu: it is sent a snapshot", a, b);
		break;
	case RAFT_TRACE_LOST:
		replica_log_about(replica, (struct replica_about){a, b}, 3, event,
				  "member %llu no longer holds entry %llu, which it had acknowledged: its disk is not "
				  "to be trusted; the entries are sent again",
				  b, a);
		break;
	case RAFT_TRACE_RESET:
		replica_log_about(replica, (struct replica_about){.index = a}, 5, event,
				  "the log begins anew after the snapshot of entry %llu, term %llu", a, b);
		break;
	case RAFT_TRACE_TERM:
	case RAFT_TRACE_PRE_CANDIDATE:
	case RAFT_TRACE_CANDIDATE:
	case RAFT_TRACE_LEADER:
	case RAFT_TRACE_FOLLOWER:
	case RAFT_TRACE_STEP_DOWN:
	case RAFT_TRACE_VOTE_GRANTED:
	case RAFT_TRACE_VOTE_REFUSED:
	case RAFT_TRACE_TRANSFER:
	case RAFT_TRACE_TRANSFER_ABORTED:
		raft_assert(false); /* replica_trace */
	}
}

static void replica_trace(struct replica *replica, const struct raft_trace *trace)
{
	unsigned long long a = trace->a;
	unsigned long long b = trace->b;
	const char *event = trace_event_name(trace->type);
	struct replica_about other = {.peer = b};

	switch (trace->type) {
	case RAFT_TRACE_TERM:
		replica_log_about(replica, other, 7, event, "term %llu, heard from member %llu", a, b);
		break;
	case RAFT_TRACE_PRE_CANDIDATE:
		trace_pre_candidate(replica, event, a);
		break;
	case RAFT_TRACE_CANDIDATE:
		replica->elections++;
		replica_log(replica, 6, event, "candidate in term %llu", a);
		break;
	case RAFT_TRACE_LEADER:
		replica->leader_changes++;
		replica->leader_missed = false;
		replica_log(replica, 5, event, "leader of term %llu, votes: %llu", a, b);
		break;
	case RAFT_TRACE_FOLLOWER:
		replica->leader_changes++;
		replica->leader_missed = false;
		replica_log_about(replica, other, 6, event, "follows member %llu in term %llu", b, a);
		break;
	case RAFT_TRACE_STEP_DOWN:
		trace_step_down(replica, event, a, b);
		break;
	case RAFT_TRACE_VOTE_GRANTED:
		replica_log_about(replica, other, 6, event, "votes for member %llu in term %llu", b, a);
		break;
	case RAFT_TRACE_VOTE_REFUSED:
		replica_log_about(replica, other, 7, event, "refuses its vote to member %llu in term %llu", b, a);
		break;
	case RAFT_TRACE_TRANSFER:
		replica_log_about(replica, other, 5, event, "hands leadership over to member %llu in term %llu", b, a);
		break;
	case RAFT_TRACE_TRANSFER_ABORTED:
		replica_log_about(replica, other, 4, event,
				  "hand-over to member %llu did not happen in time; still leads term %llu", b, a);
		break;
	case RAFT_TRACE_TRUNCATE:
	case RAFT_TRACE_CONFIG:
	case RAFT_TRACE_PROMOTE:
	case RAFT_TRACE_REMOVED:
	case RAFT_TRACE_SNAPSHOT_NEEDED:
	case RAFT_TRACE_LOST:
	case RAFT_TRACE_RESET:
		trace_progress(replica, trace, event);
		break;
	}
}

static struct pending_read *replica_find_read(struct replica *replica, uint64_t read_id)
{
	struct pending_read *front = pending_front(&replica->reads);
	if (front == NULL || read_id < front->read_id || read_id - front->read_id >= replica->reads.count)
		return NULL;
	struct pending_read *read = pending_at(&replica->reads, (size_t)(read_id - front->read_id));
	raft_assert(read->read_id == read_id);
	return read;
}

static void replica_mark_reads(struct replica *replica, const struct raft_update *update)
{
	for (size_t k = 0; k < update->n_reads_ready; k++) {
		struct pending_read *read = replica_find_read(replica, update->reads_ready[k].read_id);
		raft_assert(read != NULL);
		read->read_index = update->reads_ready[k].read_index;
		read->leased = update->reads_ready[k].leased;
	}
	for (size_t k = 0; k < update->n_reads_failed; k++) {
		struct pending_read *read = replica_find_read(replica, update->reads_failed[k]);
		raft_assert(read != NULL);
		read->failed = true;
	}
}

int replica_step(struct replica *replica, const struct raft_event *event, const struct raft_entry *entries,
		 uint64_t *ret_index)
{
	struct raft_update update;
	struct raft_event told = *event;

	told.no_room = !storage_takes(replica->storage, 1, RAFT_CONFIG_SIZE_MAX, true);
	int result = raft_step(replica->core, &told, &update);

	replica->core_deadline_us = update.deadline_us;
	if (result != RAFT_OK)
		return result;
	if (update.level != replica->level)
		replica_adopt_level(replica, update.level);
	if (update.write.needed) {
		int r = replica_write(replica, &update, entries);
		if (r < 0) {
			replica->failed = r;
			return r;
		}
		raft_assert(r == 0);
	}
	if (update.write.truncate_from != 0 || update.write.reset_index != 0)
		replica->followed_config_index = UINT64_MAX; /* another one may stand at the same index now */
	for (size_t k = 0; k < update.n_messages; k++)
		replica_send(replica, &update.messages[k]);
	raft_assert(update.commit >= replica->commit);
	replica->commit = update.commit;
	replica->removed |= update.removed;
	replica_mark_reads(replica, &update);
	for (size_t k = 0; k < update.n_traces; k++)
		replica_trace(replica, &update.traces[k]);
	if (ret_index != NULL)
		*ret_index = update.first_index;
	replica_offer_snapshots(replica, update.snapshots, update.n_snapshots);
	return RAFT_OK;
}
