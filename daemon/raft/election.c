/*
 * Terms, votes, campaigns: who may lead (paper, section 5.2 and 5.4.1; PreVote: dissertation, section 9.6).
 *
 * Three rules make elections quiet where the paper alone is not, and each needs the others:
 *   PreVote       a member first asks whether it could win; asking changes nothing anywhere.
 *   stickiness    a member that hears a leader neither grants votes nor takes over a candidate's term
 *                 (dissertation, section 4.2.3), unless the leader itself asked for the election. With leases this is a
 *                 promise that nothing ends before its time (lease.c); without them it ends with the connection.
 *   CheckQuorum   a leader that hears no quorum stops leading (leader.c), so that stickiness always ends.
 * Whoever refuses says its own term: a member behind in terms catches up, one ahead is not ignored for ever.
 * Candidates that this member's configuration does not name are judged like all others (membership.c says why).
 *
 * Must not know: how entries are replicated.
 */
#include "internal.h"

void raft_reset_election_timer(struct raft *core)
{
	const struct raft_options *options = &core->options;
	uint64_t spread = options->election_timeout_max_us - options->election_timeout_min_us;

	core->election_deadline_us =
		core->now_us + options->election_timeout_min_us + raft_random_below(core, spread + 1);
}

/* Everything that was true of the old term only. Answers that were held back die with it: they would carry the
 * new term and say something about the old one, and a lost answer is always legal. */
static void forget_term(struct raft *core)
{
	core->leader = RAFT_NO_MEMBER;
	core->following = (struct raft_following){0};
	core->own_vote = false;
	for (unsigned i = 0; i < core->n_peers; i++) {
		struct raft_peer *peer = &core->peers[i];

		peer->vote_request_due = false;
		peer->vote_reply.due = false;
		peer->stale_reply_due = false;
		peer->heartbeat_due = false;
		peer->ballot = RAFT_BALLOT_NONE;
	}
}

static void step_down(struct raft *core, uint64_t new_term)
{
	raft_assert(core->role == RAFT_LEADER);
	raft_assert(new_term >= core->hard.term);
	raft_trace(core, RAFT_TRACE_STEP_DOWN, core->hard.term, new_term);
	raft_reads_fail(core);
	raft_forget_leaving(core);
	core->transfer.target = RAFT_NO_MEMBER;
	raft_reset_election_timer(core);
}

/* Of nobody, in this term or a newer one. The election timer goes on: only a leader's append or a vote that was
 * granted may postpone an election (paper, section 5.2). */
void raft_become_follower(struct raft *core, uint64_t term)
{
	raft_assert(term >= core->hard.term);
	if (core->role == RAFT_LEADER)
		step_down(core, term);
	forget_term(core);
	if (term > core->hard.term)
		raft_set_hard_state(core, term, RAFT_NO_MEMBER);
	core->role = raft_may_campaign(core) ? RAFT_FOLLOWER : RAFT_LEARNER;
	raft_assert(core->leader == RAFT_NO_MEMBER);
}

/* The member that proved by an append to be the leader of this term. */
void raft_follow(struct raft *core, uint64_t leader)
{
	raft_assert(core->role != RAFT_LEADER);
	raft_assert(core->leader == RAFT_NO_MEMBER || core->leader == leader);
	if (core->leader == RAFT_NO_MEMBER) {
		bool campaigned = core->role == RAFT_CANDIDATE || core->role == RAFT_PRE_CANDIDATE;

		if (campaigned)
			raft_become_follower(core, core->hard.term);
		core->leader = leader;
		raft_trace(core, RAFT_TRACE_FOLLOWER, core->hard.term, leader);
	}
	core->following.heard_us = core->now_us;
	core->following.sticky = true;
	raft_promise_renew(core);
	raft_reset_election_timer(core);
}

bool raft_is_sticky(const struct raft *core)
{
	if (core->role == RAFT_LEADER)
		return true; /* CheckQuorum ends this when it is no longer true */
	if (raft_promise_holds(core))
		return true; /* whatever has become of the leader that it was given to */
	return core->leader != RAFT_NO_MEMBER && core->following.sticky &&
	       core->now_us - core->following.heard_us < core->options.election_timeout_min_us;
}

/* Paper, figure 2, rules for all servers; with the exceptions that make PreVote and stickiness work. */
bool raft_adopts_term(const struct raft *core, const struct raft_message *message)
{
	raft_assert(message->term > core->hard.term);
	if (message->type != RAFT_MESSAGE_VOTE_REQUEST)
		return true;
	if (message->vote_request.pre_vote)
		return false;
	return message->vote_request.transfer || !raft_is_sticky(core);
}

static void clear_ballots(struct raft *core)
{
	for (unsigned i = 0; i < core->n_peers; i++) {
		core->peers[i].ballot = RAFT_BALLOT_NONE;
		core->peers[i].vote_request_due = false;
	}
}

static void ask_for_votes(struct raft *core)
{
	raft_assert(core->role == RAFT_PRE_CANDIDATE || core->role == RAFT_CANDIDATE);
	raft_assert(raft_may_campaign(core));
	for (unsigned i = 0; i < core->n_peers; i++)
		core->peers[i].vote_request_due = core->peers[i].voter;
}

/* Votes for itself and asks the others when that vote is durable: a candidate that forgot in a crash whom it voted
 * for could vote twice in its term. */
void raft_campaign(struct raft *core, bool transfer)
{
	raft_assert(raft_may_campaign(core) && core->role != RAFT_LEADER);
	raft_assert(!core->disk_stalled && (transfer || !raft_promise_holds(core)));
	forget_term(core);
	raft_set_hard_state(core, core->hard.term + 1, core->options.id);
	core->role = RAFT_CANDIDATE;
	core->campaign_transfer = transfer;
	raft_trace(core, RAFT_TRACE_CANDIDATE, core->hard.term, 0);
	raft_reset_election_timer(core);
}

static void pre_campaign(struct raft *core)
{
	raft_assert(raft_may_campaign(core) && core->role != RAFT_LEADER);
	raft_assert(raft_hard_durable(core));
	core->role = RAFT_PRE_CANDIDATE;
	core->leader = RAFT_NO_MEMBER;
	core->following.sticky = false;
	clear_ballots(core);
	raft_trace(core, RAFT_TRACE_PRE_CANDIDATE, core->hard.term + 1, 0);
	raft_reset_election_timer(core);
	if (raft_leads_alone(core))
		raft_campaign(core, false);
	else
		ask_for_votes(core);
}

/* With a write of term or vote still on its way to the disk nothing could be sent anyway, and a member whose disk hangs
 * is no candidate: it waits for the disk, not for the clock. */
void raft_on_election_timeout(struct raft *core)
{
	raft_assert(core->role != RAFT_LEADER);
	raft_assert(core->now_us >= core->election_deadline_us);
	if (!raft_may_campaign(core)) {
		core->leader = RAFT_NO_MEMBER;
		core->election_deadline_us = UINT64_MAX; /* until a leader is heard again */
	} else if (raft_promise_holds(core)) {
		/* The connection to the leader closed, which is no proof that its lease is over. */
		core->election_deadline_us =
			core->promise.until_us + raft_random_below(core, core->options.heartbeat_us / 4 + 1);
	} else if (core->disk_stalled || !raft_hard_durable(core)) {
		raft_reset_election_timer(core);
	} else {
		pre_campaign(core);
	}
}

/* Paper, section 5.4.1. The log in memory may end after the durable one, but what leaves here (request or vote) waits
 * for a write that is queued behind those entries. */
static bool log_is_up_to_date(const struct raft *core, const struct raft_message *message)
{
	uint64_t last_term = raft_log_last_term(&core->log);

	raft_assert(message->type == RAFT_MESSAGE_VOTE_REQUEST);
	raft_assert(last_term <= core->hard.term);
	if (message->vote_request.last_term != last_term)
		return message->vote_request.last_term > last_term;
	return message->vote_request.last_index >= core->log.last_index;
}

static bool may_grant(const struct raft *core, const struct raft_message *message)
{
	if (!raft_may_vote(core) || !log_is_up_to_date(core, message))
		return false;
	if (raft_is_sticky(core) && !message->vote_request.transfer)
		return false;
	if (message->vote_request.pre_vote)
		return message->term > core->hard.term && core->role != RAFT_LEADER;
	return message->term == core->hard.term &&
	       (core->hard.vote == RAFT_NO_MEMBER || core->hard.vote == message->from);
}

/* Somebody else is about to campaign and may have this vote: give it a moment, lest the votes be split. Less than any
 * election timeout, so that one who asks again and again without ever winning holds nobody up. */
static void grant_pre_vote(struct raft *core)
{
	uint64_t heartbeat_us = core->options.heartbeat_us;
	uint64_t later = core->now_us + heartbeat_us / 2 + raft_random_below(core, heartbeat_us / 2 + 1);

	raft_assert(core->role != RAFT_LEADER);
	if (core->role == RAFT_FOLLOWER && later > core->election_deadline_us)
		core->election_deadline_us = later;
}

static void grant(struct raft *core, uint64_t candidate)
{
	raft_assert(core->role != RAFT_LEADER && raft_may_vote(core));
	raft_assert(core->hard.vote == RAFT_NO_MEMBER || core->hard.vote == candidate);
	if (core->role == RAFT_PRE_CANDIDATE)
		raft_become_follower(core, core->hard.term); /* somebody is ahead of it */
	if (core->hard.vote != candidate)
		raft_set_hard_state(core, core->hard.term, candidate);
	raft_reset_election_timer(core);
	raft_trace(core, RAFT_TRACE_VOTE_GRANTED, core->hard.term, candidate);
}

/* A higher term was taken over already, if it may be. */
void raft_on_vote_request(struct raft *core, struct raft_peer *peer, const struct raft_message *message)
{
	bool pre_vote = message->vote_request.pre_vote;
	bool granted = may_grant(core, message);

	raft_assert(peer->id == message->from);
	if (granted && pre_vote)
		grant_pre_vote(core);
	else if (granted)
		grant(core, peer->id);
	else if (!pre_vote)
		raft_trace(core, RAFT_TRACE_VOTE_REFUSED, message->term, peer->id);
	peer->vote_reply.due = true;
	peer->vote_reply.granted = granted;
	peer->vote_reply.pre_vote = pre_vote;
	peer->vote_reply.request_term = message->term;
	raft_assert(!granted || pre_vote || core->hard.vote == peer->id);
}

static unsigned count_ballots(const struct raft *core, enum raft_ballot ballot)
{
	unsigned n = 0;

	for (unsigned i = 0; i < core->n_peers; i++)
		n += core->peers[i].voter && core->peers[i].ballot == ballot;
	return n;
}

/* Refused in its own term: somebody else campaigns, and the votes may be split. That need not cost a whole timeout:
 * PreVote keeps a second try from disturbing whoever won. */
static void retry_soon(struct raft *core)
{
	uint64_t least = core->options.heartbeat_us / 2;
	uint64_t soon = core->now_us + least + raft_random_below(core, core->options.election_timeout_min_us / 2 + 1);

	raft_assert(core->role == RAFT_CANDIDATE);
	if (soon < core->election_deadline_us)
		core->election_deadline_us = soon;
}

static void tally(struct raft *core)
{
	unsigned granted = count_ballots(core, RAFT_BALLOT_GRANTED);
	unsigned refused = count_ballots(core, RAFT_BALLOT_REFUSED);
	unsigned own = core->self_voter ? 1 : 0; /* one that is being removed does not count itself */

	raft_assert(core->role == RAFT_PRE_CANDIDATE || core->own_vote);
	raft_assert(granted + refused + own <= core->n_voters);
	if (granted + own >= raft_quorum(core)) {
		if (core->role == RAFT_PRE_CANDIDATE)
			raft_campaign(core, false);
		else
			raft_lead(core, granted + own);
	} else if (core->role == RAFT_CANDIDATE && refused > 0) {
		retry_soon(core);
	}
}

void raft_on_vote_reply(struct raft *core, struct raft_peer *peer, const struct raft_message *message)
{
	bool pre_vote = message->vote_reply.pre_vote;
	bool refused = !message->vote_reply.granted;
	enum raft_role role = pre_vote ? RAFT_PRE_CANDIDATE : RAFT_CANDIDATE;
	uint64_t asked = pre_vote ? core->hard.term + 1 : core->hard.term;

	raft_assert(message->term <= core->hard.term);
	raft_assert(peer->id == message->from);
	if (core->role != role || message->vote_reply.request_term != asked || !peer->voter)
		return;
	if (role == RAFT_CANDIDATE && (!core->own_vote || (!refused && message->term != asked)))
		return; /* nobody was asked yet, or nobody can have granted that */
	if (peer->ballot != RAFT_BALLOT_NONE)
		return;
	peer->ballot = refused ? RAFT_BALLOT_REFUSED : RAFT_BALLOT_GRANTED;
	tally(core);
}

void raft_on_own_vote_durable(struct raft *core)
{
	raft_assert(core->role == RAFT_CANDIDATE && core->hard.vote == core->options.id);
	raft_assert(raft_hard_durable(core));
	core->own_vote = true;
	raft_reset_election_timer(core); /* the election begins now; a slow disk must not use up its time */
	ask_for_votes(core);
	tally(core);
}

/* Only when term and vote are durable. */
void raft_flush_votes(struct raft *core, struct raft_peer *peer)
{
	struct raft_message *message;

	raft_assert(raft_hard_durable(core));
	if (peer->vote_reply.due) {
		peer->vote_reply.due = false;
		message = raft_emit(core, RAFT_MESSAGE_VOTE_REPLY, peer->id, core->hard.term);
		message->vote_reply.granted = peer->vote_reply.granted;
		message->vote_reply.pre_vote = peer->vote_reply.pre_vote;
		message->vote_reply.request_term = peer->vote_reply.request_term;
	}
	if (peer->vote_request_due) {
		bool pre_vote = core->role == RAFT_PRE_CANDIDATE;

		raft_assert(pre_vote || core->own_vote);
		peer->vote_request_due = false;
		message = raft_emit(core, RAFT_MESSAGE_VOTE_REQUEST, peer->id, core->hard.term + (pre_vote ? 1 : 0));
		message->vote_request.last_index = core->log.last_index;
		message->vote_request.last_term = raft_log_last_term(&core->log);
		message->vote_request.pre_vote = pre_vote;
		message->vote_request.transfer = core->campaign_transfer && !pre_vote;
	}
}
