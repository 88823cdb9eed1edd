/*
 * The leader's half of replication: proposals, what to send to whom, acknowledgements, the commit rule
 * (paper, sections 5.3 and 5.4.2; pipelining: dissertation, section 10.2.1).
 *
 * A peer is probed (one message, then wait) until it accepts something; from then on entries stream to it as
 * long as no more than window_bytes_max are unacknowledged. A message that was lost shows when the next one,
 * heartbeats included, does not fit: the peer refuses it, and is probed again from where it says. A peer that
 * needs what is compacted away gets heartbeats only, until it has a snapshot (snapshot.c).
 *
 * Must not know: how a follower stores entries, and what is in them.
 */
#include "internal.h"

void raft_append_own(struct raft *core, const uint32_t *sizes, uint32_t n)
{
	uint64_t first = core->log.last_index + 1;

	raft_assert(core->role == RAFT_LEADER);
	raft_assert(n > 0);
	for (uint32_t i = 0; i < n; i++) {
		raft_assert(sizes[i] <= RAFT_ENTRY_SIZE_MAX);
		raft_log_append(&core->log, core->hard.term, sizes[i]);
	}
	raft_write_entries(core, first, core->log.last_index);
	core->out->write.term = core->hard.term;
}

void raft_propose(struct raft *core, const uint32_t *sizes, uint32_t n)
{
	raft_assert(core->transfer.target == RAFT_NO_MEMBER);
	raft_assert(core->log.last_index >= core->term_start);
	core->out->first_index = core->log.last_index + 1;
	raft_append_own(core, sizes, n);
}

/* Nothing is known about the peer's log: a probe from next on, and a full timeout to answer. */
void raft_reset_progress(struct raft *core, struct raft_peer *peer, uint64_t next)
{
	raft_assert(core->role == RAFT_LEADER && raft_peer_replicates(peer));
	raft_assert(next > core->log.base_index);
	peer->match = 0;
	peer->match_round = 0;
	peer->next = next;
	peer->round = 0;
	peer->lease_us = 0;
	peer->last_ack_us = core->now_us;
	peer->last_sent_us = core->now_us;
	peer->probing = true;
	peer->probe_outstanding = false;
	peer->heartbeat_due = false;
	peer->snapshot = false;
	peer->caught_up = false;
	peer->round_target = 0;
}

/* A new term begins with an entry that says nothing: only entries of its own term may be counted, so without it what
 * earlier leaders left would stay uncommitted until somebody writes (paper, section 8). */
void raft_lead(struct raft *core, unsigned n_votes)
{
	static const uint32_t noop_size = 0;

	raft_assert(core->role == RAFT_CANDIDATE && core->own_vote);
	raft_assert(core->hard.vote == core->options.id && raft_hard_durable(core));
	core->role = RAFT_LEADER;
	core->leader = core->options.id;
	core->term_start = core->log.last_index + 1;
	core->reads.round = 0;
	core->reads.round_wanted = 0;
	raft_lease_begin_term(core);
	core->transfer.target = RAFT_NO_MEMBER;
	raft_mark_leaving(core);
	for (unsigned i = 0; i < core->n_peers; i++) {
		core->peers[i].vote_request_due = false;
		if (raft_peer_replicates(&core->peers[i]))
			raft_reset_progress(core, &core->peers[i], core->term_start);
	}
	raft_trace(core, RAFT_TRACE_LEADER, core->hard.term, n_votes);
	raft_append_own(core, &noop_size, 1);
	core->out->write.noop = true;
}

static uint64_t get_match(const struct raft_peer *peer)
{
	return peer->match;
}

static uint64_t get_ack(const struct raft_peer *peer)
{
	return peer->last_ack_us;
}

/* Itself it counts by what its own disk holds, like everybody else; and only entries of its own term by counting, as
 * the paper's figure 8 demands. */
void raft_advance_commit(struct raft *core)
{
	uint64_t index = raft_quorum_value(core, core->writes.durable_index, get_match);

	raft_assert(core->role == RAFT_LEADER);
	raft_assert(index <= core->log.last_index);
	if (index > core->commit && raft_log_term_at(&core->log, index) == core->hard.term)
		core->commit = index;
}

/* Paper, end of section 5.3: skip the whole conflicting term instead of one entry at a time. */
static uint64_t next_after_reject(const struct raft *core, const struct raft_peer *peer,
				  const struct raft_message *message)
{
	uint64_t prev = message->append_reply.prev_index;
	uint64_t next = message->append_reply.conflict_index;
	uint64_t term = message->append_reply.conflict_term;
	uint64_t last = term > 0 ? raft_log_last_of_term(&core->log, term) : 0;

	if (last > 0 && last < prev)
		next = last + 1; /* both have that term: they agree at most up to its end here */
	if (next > prev)
		next = prev;
	if (next <= peer->match)
		next = peer->match + 1;
	raft_assert(next <= core->log.last_index + 1);
	return next;
}

/* It refuses what it has confirmed. Nearly always that is an answer which was overtaken. But a disk may lose what it had promised
 * to keep, without a trace (the newest record: daemon/storage/README.md), and then this goes on until somebody else leads: so
 * there must be a round that began after the confirmation, and whoever refuses in that one does not hold the entry any more. */
static bool has_lost(struct raft *core, const struct raft_peer *peer, const struct raft_message *message)
{
	if (message->append_reply.round > peer->match_round)
		return true;
	if (core->reads.round == peer->match_round)
		raft_begin_round(core);
	return false;
}

static void on_loss(struct raft *core, struct raft_peer *peer)
{
	raft_trace(core, RAFT_TRACE_LOST, peer->match, peer->id);
	peer->losses++;
	raft_reset_progress(core, peer, peer->next);
	peer->probing = false; /* the answer at hand says where to begin */
}

static void on_reject(struct raft *core, struct raft_peer *peer, const struct raft_message *message)
{
	uint64_t prev = message->append_reply.prev_index;
	uint64_t next;

	if (prev > core->log.last_index)
		return;
	if (prev <= peer->match && !has_lost(core, peer, message))
		return; /* it has confirmed that entry since */
	if (prev <= peer->match)
		on_loss(core, peer);
	if (peer->probing && prev != peer->next - 1 && !(peer->probe_outstanding && prev == peer->probe_prev))
		return; /* answers an older guess */
	next = next_after_reject(core, peer, message);
	if (next <= core->log.base_index) {
		raft_need_snapshot(core, peer);
		return;
	}
	raft_assert(next > peer->match && next - 1 < prev);
	peer->next = next;
	peer->probing = true;
	peer->probe_outstanding = false;
	peer->probe_prev = next - 1;
}

/* What it confirms may lie before the place that is being tried: an answer to something older, or a snapshot that it had from the
 * leader before. Whether it has the entries in between only the probe tells; taken for sent, they would fill the window. */
static bool ends_probe(const struct raft_peer *peer)
{
	uint64_t prev = peer->probe_outstanding ? peer->probe_prev : peer->next - 1;

	return peer->match >= prev;
}

static void on_accept(struct raft *core, struct raft_peer *peer, const struct raft_message *message)
{
	if (message->append_reply.match > peer->match) {
		peer->match = message->append_reply.match;
		peer->match_round = core->reads.round;
	}
	if (peer->snapshot && peer->match < core->log.base_index)
		return; /* it still lacks what only the snapshot has */
	peer->snapshot = false;
	if (ends_probe(peer)) {
		peer->probing = false;
		peer->probe_outstanding = false;
	}
	if (peer->next <= peer->match)
		peer->next = peer->match + 1;
	raft_track_catch_up(core, peer);
	raft_advance_commit(core);
}

void raft_on_append_reply(struct raft *core, struct raft_peer *peer, const struct raft_message *message)
{
	raft_assert(message->term <= core->hard.term);
	raft_assert(peer->id == message->from);
	if (core->role != RAFT_LEADER || message->term != core->hard.term || !raft_peer_replicates(peer))
		return;
	if (message->append_reply.rejected && message->append_reply.prev_index == 0)
		return; /* it told its term to whoever led an earlier one (follower.c) */
	peer->last_ack_us = core->now_us;
	raft_beats_on_reply(core, peer);
	if (message->append_reply.round > peer->round)
		peer->round = message->append_reply.round;
	raft_lease_on_reply(core, peer, message);
	if (message->append_reply.rejected)
		on_reject(core, peer, message);
	else
		on_accept(core, peer, message);
	raft_reads_advance(core);
}

uint64_t raft_peer_inflight(const struct raft *core, const struct raft_peer *peer)
{
	uint64_t match = peer->match > core->log.base_index ? peer->match : core->log.base_index;

	raft_assert(peer->next > match);
	return raft_log_bytes(&core->log, match, peer->next - 1);
}

static void send_append(struct raft *core, struct raft_peer *peer, uint32_t n_entries)
{
	struct raft_message *message = raft_emit(core, RAFT_MESSAGE_APPEND, peer->id, core->hard.term);

	raft_assert(peer->next > core->log.base_index);
	raft_assert(peer->next - 1 + n_entries <= core->log.last_index);
	message->append.prev_index = peer->next - 1;
	message->append.prev_term = raft_log_term_at(&core->log, peer->next - 1);
	message->append.commit = core->commit; /* used only up to what the message itself verifies */
	message->append.round = core->reads.round;
	message->append.n_entries = n_entries;
	peer->last_sent_us = core->now_us;
	peer->heartbeat_due = false;
	raft_beats_on_send(core);
}

/* The next batch for the peer, or 0 if it must wait. One message is always under way, however large. */
static uint32_t next_batch(const struct raft *core, const struct raft_peer *peer)
{
	uint64_t inflight, last;

	if (peer->snapshot || peer->next > core->log.last_index || (peer->probing && peer->probe_outstanding))
		return 0;
	last = raft_log_fit(&core->log, peer->next, core->options.batch_bytes_max, RAFT_BATCH_ENTRIES_MAX);
	inflight = raft_peer_inflight(core, peer);
	if (!peer->probing && inflight > 0 &&
	    inflight + raft_log_bytes(&core->log, peer->next - 1, last) > core->options.window_bytes_max)
		return 0;
	return (uint32_t)(last - peer->next + 1);
}

static void replicate(struct raft *core, struct raft_peer *peer)
{
	for (unsigned sent = 0; sent < RAFT_APPENDS_PER_STEP; sent++) {
		uint32_t n = next_batch(core, peer);

		if (n == 0)
			break;
		send_append(core, peer, n);
		if (peer->probing) {
			peer->probe_outstanding = true;
			peer->probe_prev = peer->next - 1;
		}
		peer->next += n;
	}
	if (peer->heartbeat_due)
		send_append(core, peer, 0);
	raft_assert(peer->next <= core->log.last_index + 1);
}

void raft_flush_leader(struct raft *core)
{
	raft_assert(core->role == RAFT_LEADER);
	raft_assert(raft_hard_durable(core)); /* what a leader may say it could say when it was elected */
	for (unsigned i = 0; i < core->n_peers; i++)
		if (raft_peer_replicates(&core->peers[i]))
			replicate(core, &core->peers[i]);
}

/* When the quorum's newest answers are too old. Only answers count: a peer that asks for votes is alive as well, but
 * does not hear this leader. */
static uint64_t check_quorum_deadline(const struct raft *core)
{
	if (raft_leads_alone(core))
		return UINT64_MAX;
	return raft_quorum_value(core, core->now_us, get_ack) + core->options.election_timeout_max_us;
}

uint64_t raft_leader_deadline(const struct raft *core)
{
	uint64_t deadline = check_quorum_deadline(core);
	uint64_t lease_deadline = raft_lease_deadline(core);

	raft_assert(core->role == RAFT_LEADER);
	if (lease_deadline < deadline)
		deadline = lease_deadline;
	for (unsigned i = 0; i < core->n_peers; i++) {
		uint64_t due = core->peers[i].last_sent_us + core->options.heartbeat_us;

		if (raft_peer_replicates(&core->peers[i]) && due < deadline)
			deadline = due;
	}
	if (core->transfer.target != RAFT_NO_MEMBER && core->transfer.deadline_us < deadline)
		deadline = core->transfer.deadline_us;
	return deadline;
}

/* Heartbeats that would be due within half an interval go along, so that an idle leader wakes up once for all. */
static void heartbeats(struct raft *core)
{
	uint64_t heartbeat_us = core->options.heartbeat_us;
	bool due = false;

	if (core->now_us >= raft_lease_deadline(core))
		raft_begin_round(core);
	for (unsigned i = 0; i < core->n_peers; i++)
		due |= raft_peer_replicates(&core->peers[i]) &&
		       core->now_us - core->peers[i].last_sent_us >= heartbeat_us;
	if (!due)
		return;
	core->transfer.told = false; /* TIMEOUT_NOW may have been lost as well */
	for (unsigned i = 0; i < core->n_peers; i++) {
		struct raft_peer *peer = &core->peers[i];

		if (raft_peer_replicates(peer) && core->now_us - peer->last_sent_us >= heartbeat_us / 2)
			peer->heartbeat_due = true;
	}
}

void raft_leader_tick(struct raft *core)
{
	raft_assert(core->role == RAFT_LEADER);
	raft_assert(core->leader == core->options.id);
	if (core->now_us >= check_quorum_deadline(core)) {
		raft_become_follower(core, core->hard.term);
		return;
	}
	if (core->transfer.target != RAFT_NO_MEMBER && core->now_us >= core->transfer.deadline_us)
		raft_transfer_abort(core);
	heartbeats(core);
}
