/*
 * Leases and the promises that they rest on (dissertation, section 6.4.1), seen from outside. Three things must hold, whatever the
 * members believe:
 *
 *   A voter keeps its promise: as long as one lasts in the world's time it neither asks for votes nor says that it would give its
 *   own, unless the leader itself told somebody to campaign. PreVote is where an election begins: whoever asks in it, or says yes,
 *   takes its promise to be over.
 *   A lease ends before the promises do, whatever the clocks do within the bound: at every moment so many voters are still bound
 *   that the others could elect nobody. What was promised is in the frames; it counts from when the leader first sent the round that
 *   is answered, and for nothing any more once the leader has told a member to campaign.
 *   While a leader believes that its lease lasts, no other member leads a later term: of a member that is stopped as well.
 *
 * A read that is stale for want of this shows only if somebody writes and somebody reads in just the right moment, and a leader that
 * should not be there only if an election falls into it. The rules can be seen at any time.
 */
#include "check.h"

#include "daemon/assert.h"
#include "daemon/transport/wire.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MILLION 1000000u
#define LEASE_MAX_US 3600000000u /* of an only voter it lasts for ever */
#define ROUNDS 64u		 /* that are remembered: no leader believes an answer to an older one */
#define DIRECTORIES 4u		 /* of one member: what four others have followed was promised long ago */

/* What one voter has told one leader in its term. */
struct given {
	uint64_t incarnation; /* of the directory that promised */
	uint64_t end_us;      /* until then it is bound */
	uint64_t answered_us; /* it followed, certainly, when it last answered an append */
};

struct sim_leases {
	struct lender { /* as a voter */
		uint64_t incarnation;
		uint64_t term;	 /* of the leader that has its newest promise */
		uint64_t end_us; /* of the longest of its promises */
		uint64_t campaign_term;
		bool campaign_transfer; /* that campaign was the leader's wish */
	} lenders[SIM_MEMBERS_MAX];
	struct holder { /* as a leader */
		uint64_t term;
		uint64_t told_us; /* when it told a member to campaign, for the first time in its term; 0: it has not */
		struct {
			uint64_t round, sent_us;
		} rounds[ROUNDS];
		struct given given[SIM_MEMBERS_MAX][DIRECTORIES]; /* the one that answered last is first */
	} holders[SIM_MEMBERS_MAX];
};

void sim_leases_new(struct sim *sim)
{
	if (sim->plan.lease_drift_ppm == 0)
		return;
	sim->leases = calloc(1, sizeof *sim->leases);
	raft_assert(sim->leases != NULL);
}

void sim_leases_free(struct sim *sim)
{
	free(sim->leases);
	sim->leases = NULL;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Promises ------------------------------------------------------------------------------------------------------ */

static void end_now(const struct sim *sim, struct holder *holder, unsigned number)
{
	for (unsigned k = 0; k < DIRECTORIES; k++) {
		struct given *given = &holder->given[number][k];
		given->end_us = least(given->end_us, sim->now_us);
	}
}

/* A directory that is gone binds nobody to anything: it cannot vote. Nor does a promise once a program runs that knows none: no leader may have relied on it
 * then. */
void sim_leases_started(struct sim *sim, unsigned number)
{
	if (sim->leases == NULL)
		return;
	struct lender *lender = &sim->leases->lenders[number];
	bool forgets = sim_level_of_program(sim, number) < RAFT_LEVEL_LEASES;
	if (forgets || lender->incarnation != sim->members[number].incarnation)
		*lender =
			(struct lender){.incarnation = sim->members[number].incarnation,
					.campaign_term = lender->campaign_term, /* requests may still be on their way */
					.campaign_transfer = lender->campaign_transfer};
	for (unsigned k = 0; forgets && k < SIM_MEMBERS_MAX; k++)
		end_now(sim, &sim->leases->holders[k], number);
}

static struct holder *holder_of(struct sim *sim, unsigned leader, uint64_t term)
{
	struct holder *holder = &sim->leases->holders[leader];
	if (holder->term != term)
		*holder = (struct holder){.term = term};
	return holder;
}

static void on_append(struct sim *sim, unsigned from, const struct wire_message *message)
{
	struct holder *holder = holder_of(sim, from, message->term);
	uint64_t round = message->append.round;
	if (holder->rounds[round % ROUNDS].sent_us != 0 && holder->rounds[round % ROUNDS].round == round)
		return;
	holder->rounds[round % ROUNDS].round = round;
	holder->rounds[round % ROUNDS].sent_us = sim->now_us;
}

static void on_timeout_now(struct sim *sim, unsigned from, uint64_t term)
{
	struct holder *holder = holder_of(sim, from, term);
	if (holder->told_us == 0)
		holder->told_us = sim->now_us;
	for (unsigned k = 0; k < SIM_MEMBERS_MAX; k++)
		end_now(sim, holder, k);
}

/* Real time, by a clock that may count as much too much as it is said to. */
static void check_told(const struct sim *sim, unsigned from, uint64_t promise_us)
{
	uint64_t own_us = sim->members[from].promising_us;
	if (promise_us > own_us * MILLION / (MILLION + sim->plan.lease_drift_ppm))
		sim_fail(sim,
			 "member %u promises its vote for %" PRIu64 " us, and keeps promises for %" PRIu64
			 " us of a clock that may be fast by %" PRIu64 " ppm",
			 from + 1, promise_us, own_us, sim->plan.lease_drift_ppm);
}

static void promise(struct sim *sim, unsigned from, struct holder *holder, const struct wire_message *message)
{
	struct lender *lender = &sim->leases->lenders[from];
	struct given *given = &holder->given[from][0];
	uint64_t round = message->append_reply.round;
	uint64_t end_us = holder->rounds[round % ROUNDS].sent_us + message->append_reply.promise_us;
	if (holder->rounds[round % ROUNDS].sent_us == 0 || holder->rounds[round % ROUNDS].round != round)
		return;
	lender->term = message->term;
	if (end_us > lender->end_us)
		lender->end_us = end_us;
	if (holder->told_us != 0)
		end_us = least(end_us, holder->told_us);
	if (end_us > given->end_us)
		given->end_us = end_us;
}

/* What that directory has promised comes first; one that is there again knows what it has promised. */
static void put_first(struct given given[DIRECTORIES], uint64_t incarnation)
{
	struct given first = {.incarnation = incarnation};
	unsigned at = 0;
	while (at < DIRECTORIES - 1 && given[at].incarnation != incarnation)
		at++;
	if (given[at].incarnation == incarnation)
		first = given[at];
	memmove(given + 1, given, at * sizeof *given);
	given[0] = first;
}

static void on_append_reply(struct sim *sim, unsigned from, unsigned to, const struct wire_message *message)
{
	struct holder *holder = &sim->leases->holders[to];
	if (holder->term != message->term)
		return; /* it does not follow */
	put_first(holder->given[from], message->from_incarnation);
	holder->given[from][0].answered_us = sim->now_us;
	if (message->append_reply.rejected || message->append_reply.promise_us == 0)
		return;
	check_told(sim, from, message->append_reply.promise_us);
	promise(sim, from, holder, message);
}

/* In the term that it helped to begin the voter follows whoever leads: what it promised is about later ones. */
static void check_free(const struct sim *sim, unsigned number, uint64_t term, const char *does)
{
	const struct lender *lender = &sim->leases->lenders[number];
	if (term > lender->term && lender->end_us > sim->now_us + SIM_ROUNDING_US)
		sim_fail(sim,
			 "member %u %s in term %" PRIu64 ", and its promise to the leader of term %" PRIu64
			 " lasts for another %" PRIu64 " us",
			 number + 1, does, term, lender->term, lender->end_us - sim->now_us);
}

static void on_vote_request(struct sim *sim, unsigned from, const struct wire_message *message)
{
	struct lender *lender = &sim->leases->lenders[from];
	if (!message->vote_request.pre_vote) {
		lender->campaign_term = message->term;
		lender->campaign_transfer = message->vote_request.transfer;
	}
	if (!message->vote_request.transfer)
		check_free(sim, from, message->term, "asks for votes");
}

static void on_vote_reply(struct sim *sim, unsigned from, unsigned to, const struct wire_message *message)
{
	const struct lender *candidate = &sim->leases->lenders[to];
	uint64_t term = message->vote_reply.request_term;
	if (!message->vote_reply.granted)
		return;
	/* A vote may leave when the candidate has campaigned again: how it was asked then nobody remembers. */
	if (!message->vote_reply.pre_vote &&
	    (candidate->campaign_term > term || (candidate->campaign_term == term && candidate->campaign_transfer)))
		return;
	check_free(sim, from, term, message->vote_reply.pre_vote ? "would vote" : "votes");
}

void sim_leases_sent(struct sim *sim, unsigned from, unsigned to, const struct wire_message *message)
{
	if (sim->leases == NULL)
		return;
	switch ((enum wire_type)message->type) {
	case WIRE_APPEND:
		on_append(sim, from, message);
		return;
	case WIRE_APPEND_REPLY:
		on_append_reply(sim, from, to, message);
		return;
	case WIRE_TIMEOUT_NOW:
		on_timeout_now(sim, from, message->term);
		return;
	case WIRE_VOTE_REQUEST:
		on_vote_request(sim, from, message);
		return;
	case WIRE_VOTE_REPLY:
		on_vote_reply(sim, from, to, message);
		return;
	case WIRE_HELLO:
	case WIRE_NOT_A_MEMBER:
	case WIRE_SNAPSHOT_OFFER:
	case WIRE_SNAPSHOT_REQUEST:
	case WIRE_SNAPSHOT_CHUNK:
	case WIRE_CHECKPOINT:
	case WIRE_ENDPOINT:
		return;
	}
}

/* Leases -------------------------------------------------------------------------------------------------------- */

static uint64_t bound_until(const struct holder *holder, uint64_t term, const struct sim_config *config,
			    unsigned number)
{
	const struct given *given = holder->given[number];
	uint64_t meant = raft_config_find(&config->config, number + 1)->incarnation;
	unsigned at = 0;
	/* Until it is replaced, whoever came instead of it votes for nobody. */
	while (meant != 0 && at < DIRECTORIES - 1 && given[at].incarnation != meant)
		at++;
	given += at;
	if (holder->term != term || (meant != 0 && meant != given->incarnation))
		return 0;
	return given->end_us > given->answered_us ? given->end_us : given->answered_us;
}

uint64_t sim_leases_horizon(const struct sim *sim, unsigned leader, uint64_t term, const struct sim_config *config)
{
	uint64_t until[SIM_MEMBERS_MAX] = {0};
	unsigned needed = (unsigned)__builtin_popcount(config->voters) / 2 + 1;
	uint64_t best = 0;
	for (unsigned k = 0; k < SIM_MEMBERS_MAX; k++) {
		if ((config->voters >> k & 1) == 0)
			continue;
		/* A leader votes for nobody else; what a retired member says nobody reads here. */
		bool always = k == leader || sim->checks->members[k].retired;
		until[k] = always ? UINT64_MAX : bound_until(&sim->leases->holders[leader], term, config, k);
	}
	for (unsigned k = 0; k < SIM_MEMBERS_MAX; k++) {
		unsigned n = 0;
		for (unsigned other = 0; other < SIM_MEMBERS_MAX; other++)
			n += until[other] >= until[k];
		if (n >= needed && until[k] > best)
			best = until[k];
	}
	return best;
}

/* Its clock may be as slow as it is said to be at most, from now on. */
static void check_covered(const struct sim *sim, unsigned number, const struct raft_status *status)
{
	const struct sim_watch *watch = &sim->checks->members[number];
	uint64_t clock_us = sim_clock_us(sim, number);
	if (status->lease_us <= clock_us || watch->retired || watch->cut_short || watch->config == 0)
		return;
	uint64_t left_us =
		least(status->lease_us - clock_us, LEASE_MAX_US) * MILLION / (MILLION - sim->plan.lease_drift_ppm);
	uint64_t horizon_us =
		sim_leases_horizon(sim, number, status->hard_state.term, &sim->checks->configs[watch->config]);
	if (sim->now_us + left_us > horizon_us && sim->now_us + left_us - horizon_us > SIM_ROUNDING_US)
		sim_fail(sim,
			 "the lease of member %u in term %" PRIu64 " may last for another %" PRIu64
			 " us, and too few voters are bound by then: only until %" PRId64 " us from now",
			 number + 1, status->hard_state.term, left_us, (int64_t)(horizon_us - sim->now_us));
}

static void check_alone(const struct sim *sim, unsigned number, const struct raft_status *leader)
{
	struct raft_status other;
	for (unsigned k = 0; k < sim_members(sim); k++) {
		if (k == number || !sim->members[k].up)
			continue;
		raft_get_own_status(replica_core(sim->members[k].replica), &other);
		if (other.hard_state.term < leader->hard_state.term &&
		    other.lease_us > sim_clock_us(sim, k) + SIM_ROUNDING_US)
			sim_fail(sim,
				 "member %u leads term %" PRIu64 ", and the lease of member %u in term %" PRIu64
				 " lasts for another %" PRIu64 " us",
				 number + 1, leader->hard_state.term, k + 1, other.hard_state.term,
				 other.lease_us - sim_clock_us(sim, k));
	}
}

void sim_leases_turn(struct sim *sim, unsigned number)
{
	struct raft_status status;
	if (sim->leases == NULL || !sim->members[number].up)
		return;
	raft_get_own_status(replica_core(sim->members[number].replica), &status);
	if (status.role != RAFT_LEADER)
		return;
	check_covered(sim, number, &status);
	check_alone(sim, number, &status);
}
