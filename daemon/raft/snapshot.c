/*
 * Where the log no longer reaches: a leader's peer that needs a snapshot, and what an installed one does to this log
 * (paper, section 7). Snapshots themselves travel elsewhere.
 *
 * Must not know: what is in a snapshot, how it travels, where it is stored.
 */
#include "internal.h"

/* What the peer needs next is compacted away. It gets heartbeats that begin at the base: one of them fits when the snapshot
 * is installed, or if the peer had those entries after all. */
void raft_need_snapshot(struct raft *core, struct raft_peer *peer)
{
	raft_assert(core->role == RAFT_LEADER && raft_peer_replicates(peer));
	if (!peer->snapshot && core->out)
		raft_trace(core, RAFT_TRACE_SNAPSHOT_NEEDED, peer->id, core->log.base_index);
	peer->snapshot = true;
	peer->next = core->log.base_index + 1;
	peer->probing = true;
	peer->probe_outstanding = false;
	raft_assert(peer->match < peer->next);
}

void raft_list_snapshots(struct raft *core)
{
	struct raft_update *out = core->out;

	out->snapshots = core->snapshots;
	if (core->role != RAFT_LEADER)
		return;
	for (unsigned i = 0; i < core->n_peers; i++) {
		if (core->peers[i].kind != RAFT_PEER_MEMBER || !core->peers[i].snapshot)
			continue;
		raft_assert(out->n_snapshots < RAFT_MEMBERS_MAX);
		core->snapshots[out->n_snapshots++] = core->peers[i].id;
	}
}

/* The receiver ----------------------------------------------------------------------------------------- */

/* RAFT_OK or a result for the caller. What others wrote into the snapshot is not to be relied on. */
int raft_snapshot_check(const struct raft *core, const struct raft_event *event)
{
	uint64_t index = event->snapshot.index;
	uint64_t term = event->snapshot.term;
	uint64_t leader_term = event->snapshot.leader_term;

	if (index == 0 || index > RAFT_NUMBER_MAX || term == 0 || term > RAFT_NUMBER_MAX)
		return RAFT_E_INVALID;
	if (leader_term > RAFT_NUMBER_MAX || (leader_term != 0 && leader_term < term))
		return RAFT_E_INVALID;
	if (event->snapshot.config_index > index || raft_config_problem(event->snapshot.config))
		return RAFT_E_INVALID;
	if (index <= core->commit)
		return RAFT_E_STALE;
	/* A leader has all that was ever committed, unless a newer one was elected; then it learns of that first. */
	if (core->role == RAFT_LEADER && leader_term <= core->hard.term && term <= core->hard.term)
		return RAFT_E_STALE;
	return RAFT_OK;
}

/* The log goes, whole, and begins anew after the snapshot. */
static void begin_anew(struct raft *core, const struct raft_event *event)
{
	struct raft_following *following = &core->following;
	uint64_t index = event->snapshot.index;

	if (core->role == RAFT_CANDIDATE || core->role == RAFT_PRE_CANDIDATE)
		raft_become_follower(core, core->hard.term); /* it asked for votes with another log */
	raft_write_reset(core, index, event->snapshot.term);
	raft_configs_reset(&core->configs, event->snapshot.config_index, event->snapshot.config);
	if (following->verified > index)
		following->verified = index;
	if (following->acked > index)
		following->acked = index;
	core->commit = index;
	raft_trace(core, RAFT_TRACE_RESET, index, event->snapshot.term);
	raft_adopt_config(core);
}

/* What the snapshot holds is committed. If the log has its last entry, the log is right up to there, and what follows may
 * be right as well; otherwise nothing in it can be trusted to fit. */
void raft_on_snapshot(struct raft *core, const struct raft_event *event)
{
	uint64_t index = event->snapshot.index;
	uint64_t term = event->snapshot.term;
	uint64_t leader_term = event->snapshot.leader_term;
	uint64_t known_term = leader_term > term ? leader_term : term;

	raft_assert(index > core->commit);
	if (known_term > core->hard.term) {
		raft_trace(core, RAFT_TRACE_TERM, known_term, RAFT_NO_MEMBER);
		raft_become_follower(core, known_term);
	}
	raft_assert(core->role != RAFT_LEADER);
	if (raft_log_term_at(&core->log, index) == term)
		core->commit = index;
	else
		begin_anew(core, event);
	/* Whoever leads this term or a later one has what was committed by then. */
	if (leader_term != 0 && core->following.verified < index) {
		core->following.verified = index;
		raft_follower_persisted(core);
	}
	raft_assert(core->commit == index && core->log.last_index >= index);
}
