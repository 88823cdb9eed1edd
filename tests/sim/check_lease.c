/*
 * While a leader believes that its lease lasts, no other member leads a later term (dissertation, section 6.4.1). A read that
 * is stale for want of this shows only if somebody writes and somebody reads in just that moment; the rule itself can be seen at
 * any time, of a member that is stopped as well.
 */
#include "check.h"

#include <inttypes.h>

#define ROUNDING_US 10u /* between the world's time and the members' */

void sim_lease_turn(struct sim *sim, unsigned number)
{
	struct raft_status leader, other;
	if (sim->plan.lease_drift_ppm == 0 || !sim->members[number].up)
		return;
	raft_get_status(replica_core(sim->members[number].replica), &leader);
	if (leader.role != RAFT_LEADER)
		return;
	for (unsigned k = 0; k < sim_members(sim); k++) {
		if (k == number || !sim->members[k].up)
			continue;
		raft_get_status(replica_core(sim->members[k].replica), &other);
		if (other.hard_state.term < leader.hard_state.term &&
		    other.lease_us > sim_clock_us(sim, k) + ROUNDING_US)
			sim_fail(sim,
				 "member %u leads term %" PRIu64 ", and the lease of member %u in term %" PRIu64
				 " lasts for another %" PRIu64 " us",
				 number + 1, leader.hard_state.term, k + 1, other.hard_state.term,
				 other.lease_us - sim_clock_us(sim, k));
	}
}
