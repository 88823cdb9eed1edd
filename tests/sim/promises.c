/*
 * What a member's directory remembers of the promises that leases rest on (daemon/replicator/promise.h): which ones a member
 * may give, by its own file; what it must still know of them after any crash; and the operator of one whose file is damaged.
 *
 * The simulator's own knowledge is promised_us: how long promises may be that were given, and may not be over.
 */
#include "sim.h"

#include <errno.h>
#include <inttypes.h>

/* A program without leases gives no promise, and looks at none of an earlier one. */
static bool knows_promises(const struct sim *sim, unsigned number)
{
	return sim_level_of_program(sim, number) >= RAFT_LEVEL_LEASES;
}

/* Reads by lease, by each member's own file: all alike, or some that promise less, or nothing. */
void sim_promises_choose(struct sim *sim, unsigned number, struct raft_options *options)
{
	struct sim_member *member = &sim->members[number];
	uint64_t share = 100;
	member->promising_us = 0;
	if (sim->plan.lease_drift_ppm == 0 || !knows_promises(sim, number))
		return;
	if (sim->plan.lease_mixed != 0)
		share = sim_random_below(&sim->random_member, 4) * 25 + 25;
	options->clock_drift_ppm = (uint32_t)sim->plan.lease_drift_ppm;
	options->promise_us = share == 25 ? 0 : options->election_timeout_min_us * share / 100;
	options->lease = options->promise_us > 0;
	member->promising_us = options->promise_us;
}

/* A directory that was never in a term has promised nothing. */
void sim_promises_started(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	struct raft_status status;
	if (!knows_promises(sim, number))
		return;
	if (sim_platter_promise_rotten(member->disk_files))
		sim_fail(sim, "member %u starts, and cannot know what it has promised", number + 1);
	raft_get_status(replica_core(member->replica), &status);
	member->promised_before_us = member->promised_us;
	if (status.hard_state.term > 0 && status.promise_us < member->started_us + member->promised_us)
		sim_fail(sim,
			 "member %u starts and may vote after %" PRIu64
			 " us, and may have promised not to for %" PRIu64,
			 number + 1, status.promise_us - member->started_us, member->promised_us);
	if (member->promising_us > member->promised_us)
		member->promised_us = member->promising_us;
}

/* It stops cleanly, as on SIGTERM, and may note what is over. */
void sim_promises_end(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	uint64_t now_us = sim_clock_us(sim, number);
	if (!member->up || member->paused || member->doom.armed || !knows_promises(sim, number))
		return;
	replica_end_promises(member->replica, now_us);
	if (now_us >= member->started_us + member->promised_before_us)
		member->promised_us = member->promising_us;
}

/* The message says what to do: wait for longer than anything that may have been promised. True: it was refused for that. */
bool sim_promises_refused(struct sim *sim, unsigned number, int why)
{
	struct sim_member *member = &sim->members[number];
	if (why != -EBADMSG || !sim_platter_promise_rotten(member->disk_files))
		return false;
	if (member->promises_over_us == 0)
		member->promises_over_us = sim->now_us + 2 * sim->plan.election_min_us;
	sim->counts.promises_unknown++;
	return true;
}

/* Before it starts. Whoever is impatient finds the file as it was. */
void sim_promises_await(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	if (!sim_platter_promise_rotten(member->disk_files) || member->promises_over_us == 0 ||
	    sim->now_us < member->promises_over_us)
		return;
	sim_note(sim, "%u: its promises are over, the file is removed", number + 1);
	sim_platter_drop_promise(member->disk_files);
	member->promised_us = 0;
	member->promises_over_us = 0;
}
