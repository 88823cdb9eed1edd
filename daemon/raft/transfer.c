/*
 * Leadership leaves on purpose (dissertation, section 3.10), or on a hint: handing over to a chosen member, a peer whose
 * connection closed, a leader whose own disk hangs.
 *
 * Must not know: who asks for a transfer, or why.
 */
#include "internal.h"

static bool heard_lately(const struct raft *core, const struct raft_peer *peer)
{
	return core->now_us - peer->last_contact_us < core->options.election_timeout_min_us;
}

/* The voter that could take over soonest: alive first, then the longest log. */
static const struct raft_peer *best_follower(const struct raft *core)
{
	const struct raft_peer *best = NULL;

	raft_assert(core->role == RAFT_LEADER);
	for (unsigned i = 0; i < core->n_peers; i++) {
		const struct raft_peer *peer = &core->peers[i];

		if (!peer->voter)
			continue;
		if (!best || heard_lately(core, peer) > heard_lately(core, best) ||
		    (heard_lately(core, peer) == heard_lately(core, best) && peer->match > best->match))
			best = peer;
	}
	raft_assert(best || raft_leads_alone(core));
	return best;
}

static uint64_t resolve_target(const struct raft *core, uint64_t target)
{
	const struct raft_peer *peer =
		target == RAFT_NO_MEMBER ? best_follower(core) : raft_find_peer_const(core, target);

	return peer && peer->voter ? peer->id : RAFT_NO_MEMBER;
}

/* May leadership be handed to target? RAFT_OK or a result for the caller. */
int raft_transfer_check(const struct raft *core, uint64_t target)
{
	if (core->role != RAFT_LEADER)
		return RAFT_E_NOT_LEADER;
	if (resolve_target(core, target) == RAFT_NO_MEMBER)
		return RAFT_E_UNKNOWN_MEMBER;
	if (core->transfer.target != RAFT_NO_MEMBER && target != RAFT_NO_MEMBER && core->transfer.target != target)
		return RAFT_E_BUSY;
	return RAFT_OK;
}

void raft_transfer_start(struct raft *core, uint64_t target)
{
	raft_assert(core->role == RAFT_LEADER);
	if (core->transfer.target != RAFT_NO_MEMBER)
		return; /* the same one again: its time goes on */
	core->transfer.target = resolve_target(core, target);
	raft_assert(core->transfer.target != RAFT_NO_MEMBER);
	core->transfer.told = false;
	core->transfer.deadline_us = core->now_us + core->options.election_timeout_max_us;
	raft_trace(core, RAFT_TRACE_TRANSFER, core->hard.term, core->transfer.target);
}

void raft_transfer_abort(struct raft *core)
{
	raft_assert(core->role == RAFT_LEADER);
	raft_assert(core->transfer.target != RAFT_NO_MEMBER);
	raft_trace(core, RAFT_TRACE_TRANSFER_ABORTED, core->hard.term, core->transfer.target);
	core->transfer.target = RAFT_NO_MEMBER;
}

/* The leader goes in this step, so there is no time to choose or to wait. If the one that is asked to campaign cannot win,
 * nothing is lost: another will, after its timeout. */
void raft_hand_over_at_once(struct raft *core)
{
	const struct raft_peer *best = best_follower(core);

	raft_assert(core->role == RAFT_LEADER);
	if (!best)
		return;
	raft_trace(core, RAFT_TRACE_TRANSFER, core->hard.term, best->id);
	core->transfer.timeout_now_due = best->id;
}

/* Only a target that has everything can win at once. */
void raft_flush_transfer(struct raft *core)
{
	struct raft_transfer *transfer = &core->transfer;

	raft_assert(raft_hard_durable(core));
	if (transfer->timeout_now_due != RAFT_NO_MEMBER) {
		(void)raft_emit(core, RAFT_MESSAGE_TIMEOUT_NOW, transfer->timeout_now_due, core->hard.term);
		transfer->timeout_now_due = RAFT_NO_MEMBER;
	}
	if (core->role != RAFT_LEADER || transfer->target == RAFT_NO_MEMBER || transfer->told)
		return;
	const struct raft_peer *peer = raft_find_peer_const(core, transfer->target);

	raft_assert(peer && peer->voter);
	if (peer->match != core->log.last_index)
		return;
	transfer->told = true;
	raft_lease_give_up(
		core); /* for this term: whoever hears of it, however late, may be elected in spite of promises */
	(void)raft_emit(core, RAFT_MESSAGE_TIMEOUT_NOW, peer->id, core->hard.term);
}

/* No PreVote: the leader itself has given up its claim. */
void raft_on_timeout_now(struct raft *core, const struct raft_message *message)
{
	raft_assert(message->term <= core->hard.term);
	raft_assert(core->role != RAFT_LEADER || message->term < core->hard.term);
	if (message->term < core->hard.term || !raft_may_campaign(core) || core->role == RAFT_CANDIDATE)
		return;
	if (core->leader != RAFT_NO_MEMBER && core->leader != message->from)
		return;
	if (core->disk_stalled)
		return;
	raft_campaign(core, true);
}

/* The kernel closes the connections of a process that died, so this is usually true and comes long before the
 * timeout. When it is false, PreVote finds that the others still hear the leader, and nothing happens. */
void raft_on_peer_down(struct raft *core, uint64_t id)
{
	struct raft_peer *peer = raft_find_peer(core, id);
	uint64_t soon;

	raft_assert(id != core->options.id);
	if (!peer)
		return;
	if (core->role == RAFT_LEADER && !raft_peer_replicates(peer))
		return;
	if (core->role == RAFT_LEADER) {
		/* What was under way may be lost: wait for its answer to a heartbeat before sending more. */
		peer->probing = true;
		peer->probe_outstanding = true;
		peer->probe_prev = peer->next - 1;
		if (core->transfer.target == id)
			raft_transfer_abort(core);
		return;
	}
	if (core->leader != id)
		return;
	core->following.sticky = false;
	soon = core->now_us + raft_random_below(core, core->options.heartbeat_us / 4 + 1);
	if (raft_may_campaign(core) && soon < core->election_deadline_us)
		core->election_deadline_us = soon;
}

/* A leader that cannot write is not alive, whatever its network says (a heartbeat from it would keep the others
 * from electing one that works). It hands over as well as it can, then falls silent. */
void raft_on_disk_stalled(struct raft *core)
{
	core->disk_stalled = core->writes.durable_seq < core->writes.seq; /* a later confirmation ends it */
	if (core->role == RAFT_LEADER)
		raft_hand_over_at_once(core);
	if (core->role != RAFT_FOLLOWER && core->role != RAFT_LEARNER)
		raft_become_follower(core, core->hard.term);
	raft_assert(core->role == RAFT_FOLLOWER || core->role == RAFT_LEARNER);
}
