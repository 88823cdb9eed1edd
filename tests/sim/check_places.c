/*
 * A member is connected to all that its newest configuration names, as soon as it has followed that; where it could not be, it tries
 * again. Whoever is not cannot be answered, and that may not show before just these two are needed.
 */
#include "check.h"

#include <inttypes.h>

#define AGAIN_US 11000000u /* it tries every ten seconds */

/* This turn was a whole one, and began with that configuration. */
void sim_places_turn(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	const struct raft *core = replica_core(member->replica);
	struct raft_status status;
	uint64_t index = 0;
	if (!member->goes_on || member->dying || sim->checks->members[number].retired ||
	    (member->unconnected_us != 0 && sim_clock_us(sim, number) < member->unconnected_us + AGAIN_US))
		return;
	raft_get_own_status(core, &status);
	const struct raft_config *config = raft_config_at(core, status.last_index, &index);
	if (config == NULL || index != member->view.index || raft_term_at(core, index) != member->view.term)
		return;
	if (status.leader == RAFT_NO_MEMBER)
		return; /* whoever would be elected is believed, and may be behind */
	member->unconnected_us = 0;
	member->follows_anew = false;
	for (unsigned k = 0; k < config->n_members; k++)
		if (config->members[k].id != number + 1 && config->members[k].id != status.leader &&
		    !sim_network_knows(sim, number, (unsigned)config->members[k].id - 1,
				       config->members[k].peer_endpoint))
			sim_fail(sim,
				 "member %u is not connected to member %" PRIu64
				 ", which its configuration of entry %" PRIu64 " names",
				 number + 1, config->members[k].id, index);
}
