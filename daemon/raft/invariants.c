/*
 * What a program that uses or tests the core may look at: its status, and invariants that abort when broken (after
 * LogCabin's RaftConsensusInvariants).
 *
 * Changes nothing.
 */
#include "internal.h"

static void get_progress(const struct raft *core, const struct raft_peer *peer, struct raft_progress *progress)
{
	*progress = (struct raft_progress){.id = peer->id,
					   .incarnation = peer->incarnation,
					   .role = peer->member_role,
					   .voter = peer->voter,
					   .last_contact_us = peer->last_contact_us};
	if (core->role != RAFT_LEADER)
		return;
	progress->match = peer->match;
	progress->next = peer->next;
	progress->inflight_bytes = raft_peer_inflight(core, peer);
	progress->probing = peer->probing;
	progress->snapshot = peer->snapshot;
	progress->caught_up = peer->caught_up;
	progress->losses = peer->losses;
}

static void get_membership(const struct raft *core, struct raft_status *status)
{
	const struct raft_config_record *latest = raft_configs_latest(&core->configs);

	status->config_pending = raft_config_pending(core);
	status->member = core->self_member;
	status->self_voter = core->self_voter;
	status->removed = core->removed;
	status->level = raft_level(core);
	status->n_voters = core->n_voters;
	status->n_peers = 0;
	status->config_index = latest ? latest->index : 0;
}

static void get_peers(const struct raft *core, struct raft_status *status)
{
	const struct raft_config_record *latest = raft_configs_latest(&core->configs);

	for (unsigned i = 0; latest && i < latest->config.n_members; i++) {
		const struct raft_peer *peer = raft_find_peer_const(core, latest->config.members[i].id);

		if (peer)
			get_progress(core, peer, &status->peers[status->n_peers++]);
	}
}

void raft_get_own_status(const struct raft *core, struct raft_status *ret_status)
{
	struct raft_status *status = ret_status;
	bool leads = core->role == RAFT_LEADER;

	/* Field by field: this is called in every turn, and clearing the structure first would take most of its time. */
	status->id = core->options.id;
	status->role = core->role;
	status->leader = core->leader;
	status->hard_state = core->hard;
	status->base_index = core->log.base_index;
	status->last_index = core->log.last_index;
	status->durable_index = core->writes.durable_index;
	status->commit = core->commit;
	status->uncommitted_bytes = leads ? raft_log_bytes(&core->log, core->commit, core->log.last_index) : 0;
	status->beat = core->beats.number;
	status->transferring = leads && core->transfer.target != RAFT_NO_MEMBER;
	status->lease_us = raft_leads_alone(core) ? 0 : raft_lease_until(core);
	status->promise_us = core->promise.until_us;
	status->term_committed = leads && core->commit >= core->term_start;
	get_membership(core, status);
}

void raft_get_status(const struct raft *core, struct raft_status *ret_status)
{
	raft_get_own_status(core, ret_status);
	get_peers(core, ret_status);
}

uint64_t raft_term_at(const struct raft *core, uint64_t index)
{
	return raft_log_term_at(&core->log, index);
}

static void check_log(const struct raft *core)
{
	const struct raft_log *log = &core->log;
	uint64_t term = log->base_term;
	uint64_t index = log->base_index;

	raft_assert(log->base_index <= log->last_index);
	raft_assert(log->last_index - log->base_index <= log->capacity);
	raft_assert((log->n_runs == 0) == (log->base_index == log->last_index));
	for (size_t i = 0; i < log->n_runs; i++) {
		const struct raft_log_run *run = &log->runs[i];

		raft_assert(i == 0 ? run->first_index == index + 1 && run->term >= term
				   : run->first_index > index && run->term > term);
		raft_assert(run->first_index <= log->last_index);
		index = run->first_index;
		term = run->term;
	}
	raft_assert(core->hard.term >= term);
	raft_assert(log->base_index <= core->commit && core->commit <= log->last_index);
}

static void check_writes(const struct raft *core)
{
	const struct raft_writes *writes = &core->writes;
	uint64_t seq = writes->durable_seq;
	uint64_t index = core->log.base_index;

	raft_assert(writes->n <= RAFT_WRITES_MAX && writes->head < RAFT_WRITES_MAX);
	raft_assert(writes->durable_seq <= writes->seq && writes->hard_seq <= writes->seq);
	raft_assert(writes->durable_index >= core->log.base_index);
	raft_assert(writes->durable_index <= core->log.last_index);
	raft_assert((writes->n == 0) == (writes->durable_seq == writes->seq));
	for (unsigned i = 0; i < writes->n; i++) {
		unsigned at = (writes->head + i) % RAFT_WRITES_MAX;

		raft_assert(writes->ring[at].seq > seq && writes->ring[at].seq <= writes->seq);
		raft_assert(writes->ring[at].last_index <= core->log.last_index);
		/* Compaction may have overtaken a write that is still under way. */
		raft_assert(writes->ring[at].last_index >= index || index == core->log.base_index);
		seq = writes->ring[at].seq;
		if (writes->ring[at].last_index > index)
			index = writes->ring[at].last_index;
	}
	raft_assert(!core->disk_stalled || writes->n > 0);
	raft_assert(writes->n == 0 || index == core->log.last_index);
	raft_assert(writes->n > 0 || writes->durable_index == core->log.last_index);
}

/* The peer's slot says what the configuration says. */
static void check_member(const struct raft *core, const struct raft_config_member *member)
{
	const struct raft_peer *peer = raft_find_peer_const(core, member->id);

	if (member->id == core->options.id) {
		raft_assert(!peer);
		raft_assert(!core->self_voter || member->role == RAFT_MEMBER_VOTER);
		return;
	}
	raft_assert(peer && peer->kind == RAFT_PEER_MEMBER);
	raft_assert(peer->voter == (member->role == RAFT_MEMBER_VOTER));
	raft_assert(peer->member_role == member->role && peer->incarnation == member->incarnation);
}

static void check_configs(const struct raft *core)
{
	const struct raft_configs *configs = &core->configs;
	unsigned n_members = 0;

	raft_assert(configs->n <= configs->capacity);
	for (size_t i = 0; i < configs->n; i++) {
		const struct raft_config_record *record = &configs->records[i];

		raft_assert(record->index <= core->log.last_index);
		raft_assert(!raft_config_problem(&record->config));
		if (i == 0)
			continue;
		raft_assert(record->index > core->log.base_index && record->index > record[-1].index);
		raft_assert(!raft_config_step_problem(&record[-1].config, &record->config));
	}
	/* A leader changes only what is committed; what it found in its log is a matter of those before. */
	if (core->role == RAFT_LEADER && configs->n >= 2)
		raft_assert(configs->records[configs->n - 2].index <= core->commit ||
			    configs->records[configs->n - 1].index < core->term_start);
	for (unsigned i = 0; i < core->n_peers; i++) {
		n_members += core->peers[i].kind == RAFT_PEER_MEMBER;
		raft_assert(core->peers[i].kind == RAFT_PEER_MEMBER || !core->peers[i].voter);
		raft_assert(core->peers[i].kind != RAFT_PEER_LEAVING || core->role == RAFT_LEADER);
	}
	if (configs->n == 0) {
		raft_assert(n_members == 0 && core->n_voters == 0 && !core->self_member);
		return;
	}
	const struct raft_config *latest = &raft_configs_latest(configs)->config;

	raft_assert(n_members + (raft_config_find(latest, core->options.id) ? 1 : 0) == latest->n_members);
	for (unsigned i = 0; i < latest->n_members; i++)
		check_member(core, &latest->members[i]);
}

static void check_leader(const struct raft *core)
{
	raft_assert(raft_may_campaign(core) && core->leader == core->options.id);
	raft_assert(core->hard.vote == core->options.id && raft_hard_durable(core));
	raft_assert(core->term_start <= core->log.last_index);
	raft_assert(core->term_start <= core->log.base_index ||
		    raft_log_term_at(&core->log, core->term_start) == core->hard.term);
	raft_assert(raft_log_last_term(&core->log) == core->hard.term);
	raft_assert(!core->disk_stalled);
	for (unsigned i = 0; i < core->n_peers; i++) {
		const struct raft_peer *peer = &core->peers[i];

		if (!raft_peer_replicates(peer))
			continue;
		raft_assert(!peer->snapshot || peer->next == core->log.base_index + 1);
		raft_assert(peer->match < peer->next && peer->next <= core->log.last_index + 1);
		raft_assert(peer->next > core->log.base_index);
		raft_assert(peer->round <= core->reads.round);
		raft_assert(!peer->vote_request_due && !peer->heartbeat_due);
	}
}

static void check_others(const struct raft *core)
{
	raft_assert(core->leader != core->options.id);
	raft_assert((core->role == RAFT_LEARNER) == !raft_may_campaign(core));
	raft_assert(core->reads.n == core->reads.n_done);
	raft_assert(core->transfer.target == RAFT_NO_MEMBER);
	raft_assert(core->following.verified <= core->log.last_index);
	raft_assert(core->following.acked <= core->writes.durable_index);
	if (core->role == RAFT_CANDIDATE)
		raft_assert(core->hard.vote == core->options.id && core->leader == RAFT_NO_MEMBER);
	if (core->role == RAFT_PRE_CANDIDATE)
		raft_assert(core->leader == RAFT_NO_MEMBER);
	if (core->role == RAFT_CANDIDATE && core->own_vote)
		raft_assert(raft_hard_durable(core));
}

void raft_check_invariants(const struct raft *core)
{
	const struct raft_reads *reads = &core->reads;

	raft_assert(core->started && !core->out && !core->hard_dirty);
	raft_assert(core->hard.term > 0 || core->hard.vote == RAFT_NO_MEMBER);
	raft_assert(core->transfer.timeout_now_due == RAFT_NO_MEMBER);
	raft_assert(reads->n_done <= reads->n && reads->n <= reads->capacity);
	raft_assert(reads->n_in_flight <= reads->n - reads->n_done);
	raft_assert(reads->round_wanted <= reads->round);
	raft_assert(reads->n == reads->n_done || reads->n_in_flight > 0);
	check_log(core);
	check_writes(core);
	check_configs(core);
	if (core->role == RAFT_LEADER)
		check_leader(core);
	else
		check_others(core);
}

/* What one incarnation has acknowledged it has, unless it was found out to have lost it. */
static void check_progress(const struct raft_progress *before, const struct raft_progress *after)
{
	bool same = before->incarnation == after->incarnation || (before->incarnation == 0 && before->voter);

	if (before->id == after->id && same && before->losses == after->losses)
		raft_assert(before->match <= after->match);
}

static void check_same_term(const struct raft_status *before, const struct raft_status *after)
{
	bool led = before->role == RAFT_LEADER;
	bool leads = after->role == RAFT_LEADER;

	raft_assert(before->hard_state.vote == RAFT_NO_MEMBER ||
		    before->hard_state.vote == after->hard_state.vote); /* one vote a term */
	raft_assert(before->leader == RAFT_NO_MEMBER || after->leader == RAFT_NO_MEMBER ||
		    before->leader == after->leader); /* one leader a term */
	raft_assert(!leads || led || before->role == RAFT_CANDIDATE);
	raft_assert(!led || leads || after->role == RAFT_FOLLOWER || after->role == RAFT_LEARNER);
	if (!led)
		return;
	/* Leader Append-Only (paper, figure 3). */
	raft_assert(after->last_index >= before->last_index);
	for (unsigned i = 0; leads && i < before->n_peers; i++)
		for (unsigned k = 0; k < after->n_peers; k++)
			check_progress(&before->peers[i], &after->peers[k]);
}

void raft_check_delta(const struct raft_status *before, const struct raft_status *after)
{
	raft_assert(before->id == after->id);
	raft_assert(before->hard_state.term <= after->hard_state.term);
	raft_assert(before->commit <= after->commit);
	raft_assert(before->promise_us <= after->promise_us);
	raft_assert(before->base_index <= after->base_index);
	raft_assert(after->commit <= after->last_index && after->durable_index <= after->last_index);
	if (before->hard_state.term == after->hard_state.term)
		check_same_term(before, after);
	else
		raft_assert(after->role != RAFT_LEADER); /* its vote for itself is not durable yet */
}
