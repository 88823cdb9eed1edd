/*
 * Leases: reads that need no round (dissertation, section 6.4.1).
 *
 * A voter that acknowledges an append may add a promise: for so long from now on it helps nobody to become leader. A
 * leader to which a quorum has promised that leads until the first of those promises may be over, and until then answers
 * reads at once. Everything here serves one sentence: THE LEASE ENDS BEFORE THE PROMISES DO.
 *
 *   the voter   counts its promise from a time that it read after the append had come (promise.until_us, and settling below),
 *               keeps it whatever happens to its term, its leader's connection or its role, and after a restart, which makes
 *               it forget, keeps the longest that its directory may have given (raft_options.promised_us).
 *   the leader  counts from when the round began that the answer belongs to, never from when the answer came.
 *   clocks      each member answers for its own: the voter divides what it promises by 1 + drift, the leader multiplies it
 *               by 1 - drift. So members may be configured differently: what counts is what each one has promised, and one
 *               that promises nothing (another read_mode, an older release) gives no lease; nor does one that could still
 *               be replaced by an older release, which would not remember what it promised.
 *
 * The one way around a promise is the candidate that the leader itself told to campaign (transfer.c): a leader that has
 * said TIMEOUT_NOW has no lease any more in its term, however that ends, for the message may arrive late.
 *
 * The caller's obligation: the time of a RAFT_EVENT_READ was read after the read had arrived. So it was asked before the time at
 * which the lease was found to hold, and the commit index of that step covers all that anybody was told before it was
 * asked. The answer may be made and leave as late as it likes, just like that of a ReadIndex round: a member that is stopped
 * in between answers what was true when the lease was looked at, which is a time within the read's.
 *
 * Must not know: what the members' configuration files say, which clock the time comes from.
 */
#include "internal.h"

#include <string.h>

#define MILLION 1000000u

/* The voter -------------------------------------------------------------------------------------------- */

/* A member that was never in a term has promised nothing. */
void raft_promise_recover(struct raft *core)
{
	if (core->hard.term > 0)
		core->promise.until_us = core->now_us + core->options.promised_us;
}

bool raft_promise_holds(const struct raft *core)
{
	return core->now_us < core->promise.until_us;
}

/* The leader's append has come. When exactly is not known: it may have been sent after now_us was read, if this member was
 * stopped between the two. So the promise begins anew at the next time that is read. */
void raft_promise_renew(struct raft *core)
{
	uint64_t until_us = core->now_us + core->options.promise_us;

	if (core->options.promise_us == 0)
		return;
	if (until_us > core->promise.until_us)
		core->promise.until_us = until_us;
	core->promise.unsettled = true;
}

void raft_settle_promise(struct raft *core, uint64_t now_us)
{
	uint64_t until_us = now_us + core->options.promise_us;

	raft_assert(now_us >= core->now_us);
	if (!core->promise.unsettled)
		return;
	core->promise.unsettled = false;
	if (until_us > core->promise.until_us)
		core->promise.until_us = until_us;
}

/* What the acknowledgement says: real time, of which this member's clock may count up to drift too much. */
uint64_t raft_promise_told_us(const struct raft *core)
{
	return core->options.promise_us * MILLION / (MILLION + core->options.clock_drift_ppm);
}

/* The leader ------------------------------------------------------------------------------------------- */

void raft_lease_begin_term(struct raft *core)
{
	raft_assert(core->role == RAFT_LEADER && core->reads.round == 0);
	core->lease.given_up = false;
	core->lease.began_us[0] = core->now_us;
}

/* All appends from now on carry a new number; whoever answers with it has heard this leader after this moment. */
uint64_t raft_number_appends(struct raft *core)
{
	struct raft_reads *reads = &core->reads;

	raft_assert(core->role == RAFT_LEADER);
	reads->round++;
	core->lease.began_us[reads->round % RAFT_ROUNDS_KEPT] = core->now_us;
	return reads->round;
}

void raft_begin_round(struct raft *core)
{
	(void)raft_number_appends(core);
	for (unsigned i = 0; i < core->n_peers; i++)
		if (core->peers[i].voter)
			core->peers[i].heartbeat_due = true;
}

/* A lease needs rounds, whether or not anybody reads: one with every heartbeat. */
uint64_t raft_lease_deadline(const struct raft *core)
{
	raft_assert(core->role == RAFT_LEADER);
	if (!core->options.lease || core->lease.given_up || raft_leads_alone(core))
		return UINT64_MAX;
	return core->lease.began_us[core->reads.round % RAFT_ROUNDS_KEPT] + core->options.heartbeat_us;
}

/* An older program knows nothing of promises, and a voter may go back to it. Not any more once its own disk holds a configuration
 * of the level that brought them. */
static bool will_remember(const struct raft *core, const struct raft_message *message)
{
	const struct raft_config_record *latest = raft_configs_latest(&core->configs);

	return latest && latest->config.level >= RAFT_LEVEL_LEASES && message->append_reply.match >= latest->index;
}

void raft_lease_on_reply(struct raft *core, struct raft_peer *peer, const struct raft_message *message)
{
	uint64_t promise_us = message->append_reply.promise_us;
	uint64_t round = message->append_reply.round;
	uint64_t until_us;

	raft_assert(core->role == RAFT_LEADER && message->term == core->hard.term);
	raft_assert(round <= core->reads.round);
	if (message->append_reply.rejected || promise_us == 0 || core->reads.round - round >= RAFT_ROUNDS_KEPT ||
	    !will_remember(core, message))
		return;
	if (promise_us > core->options.election_timeout_min_us)
		promise_us = core->options.election_timeout_min_us;
	until_us = core->lease.began_us[round % RAFT_ROUNDS_KEPT] +
		   promise_us * (MILLION - core->options.clock_drift_ppm) / MILLION;
	if (until_us > peer->lease_us)
		peer->lease_us = until_us;
}

void raft_lease_give_up(struct raft *core)
{
	core->lease.given_up = true;
}

static uint64_t get_lease(const struct raft_peer *peer)
{
	return peer->lease_us;
}

/* Until when no other member can have been elected, as far as this leader knows; 0: it knows nothing. It needs no promise of
 * its own: as long as it leads it votes for nobody. */
uint64_t raft_lease_until(const struct raft *core)
{
	if (core->role != RAFT_LEADER || !core->options.lease || core->lease.given_up ||
	    core->transfer.target != RAFT_NO_MEMBER || core->commit < core->term_start)
		return 0;
	return raft_quorum_value(core, UINT64_MAX, get_lease);
}

bool raft_lease_holds(const struct raft *core, uint64_t now_us)
{
	raft_assert(now_us >= core->now_us);
	return now_us < raft_lease_until(core);
}
