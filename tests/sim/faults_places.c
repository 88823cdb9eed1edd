/*
 * Where members are to be reached: one moves, and the others hear of it late; or one gets no connections for a while.
 *
 * While it moves a member is reached at both places. The old one goes when those who follow the log know the new one; who was away
 * knows only the old one when it comes back.
 */
#include "fault_steps.h"

#include "kv/admin.h"

#include <string.h>

#define MILLISECOND 1000u
#define SECOND 1000000u
#define MOVED_AGAIN_US (100 * MILLISECOND) /* looked at so often whether the new place is known */
#define TRIES 20u
#define PATIENCE_US (25 * SECOND) /* connections are tried again every ten seconds, of a clock that may drift */

/* What a step does: the lowest bits of its number. The rest: how often it was tried, or a number to choose by. */
enum step {
	STEP_KNOWN, /* is the member's new place known? */
	STEP_APART, /* the member, which leads, is alone, and is asked for a change */
	STEP_OTHER, /* whoever leads the others is asked for another one, perhaps not for the first time */
	STEP_TALK,  /* clients ask again */
	STEPS
};

static void step_later(struct sim *sim, uint64_t delay_us, enum step step, unsigned member, uint64_t number)
{
	sim_fault_place_later(sim, delay_us, member, number * STEPS + step);
}

/* Asks the leader to say so. */
static int move(struct sim *sim, unsigned leader, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	struct kv_change change = {.type = KV_CHANGE_MOVE, .id = number + 1};
	if (member->places_first == member->places_last) {
		member->places_last++;
		step_later(sim, MOVED_AGAIN_US, STEP_KNOWN, number, 0);
	}
	sim_endpoint_name(sim, number, change.peer);
	sim_note(sim, "%u is to move to %s", number + 1, change.peer);
	return sim_operator_change(sim, leader, &change, sim->now_us);
}

/* The leader, in half of the cases: who is away then has to answer it. Somebody else is away. */
int sim_fault_member_move(struct sim *sim, const struct sim_fault *fault)
{
	unsigned leader = sim_fault_leader(sim);
	if (leader == sim_members(sim) || !sim->founded || !sim_member_listens(sim, leader))
		return 0;
	unsigned number = fault->b % 2 == 0 ? leader : sim_fault_any_of(sim, sim->committed.members, fault->a);
	unsigned away = sim_fault_any_of(sim, sim->committed.members & ~(1u << leader), fault->c);
	if (number == sim_members(sim) || ((sim->committed.members >> number) & 1) == 0 ||
	    sim->members[number].places_first != sim->members[number].places_last)
		return 0;
	if (away != sim_members(sim) && away != number && fault->b / 2 % 4 != 0)
		(void)sim_fault_crash(sim, away, SIM_KILL, sim_fault_span(fault->c, SECOND / 2, 10 * SECOND));
	(void)move(sim, leader, number);
	return 1;
}

/* Whatever was committed last names the new place. */
static bool is_known(const struct sim *sim, unsigned number)
{
	char name[SIM_ENDPOINT_SIZE];
	uint64_t newest = 0;
	bool known = false;
	sim_endpoint_name(sim, number, name);
	for (unsigned k = 0; k < sim_members(sim); k++) {
		struct raft_status status;
		uint64_t index = 0;
		if (!sim->members[k].up)
			continue;
		raft_get_own_status(replica_core(sim->members[k].replica), &status);
		const struct raft_config *config =
			raft_config_at(replica_core(sim->members[k].replica), status.commit, &index);
		const struct raft_config_member *member = config != NULL ? raft_config_find(config, number + 1) : NULL;
		if (config == NULL || index < newest)
			continue; /* one and the same, where it is as new: it is committed */
		newest = index;
		known = member != NULL && strcmp(member->peer_endpoint, name) == 0;
	}
	return known && newest == sim->committed.index;
}

/* Until the calm both places stay if the change was lost: nobody asks for it again. */
static void look(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	if (member->places_first == member->places_last)
		return;
	if (!is_known(sim, number)) {
		step_later(sim, MOVED_AGAIN_US, STEP_KNOWN, number, 0);
		return;
	}
	member->places_first = member->places_last;
	sim->counts.moves++;
	sim_note(sim, "%u has moved", number + 1);
}

/*
 * Two configurations at the same entry, one in the place of the other: while no client asks for anything a leader is cut off and takes
 * one entry and a change; the others elect another one, whose log has its first entry there, and behind that another change.
 */
int sim_fault_two_changes(struct sim *sim, const struct sim_fault *fault)
{
	unsigned leader = sim_fault_leader(sim);
	if (leader == sim_members(sim) || !sim->founded || sim->silent || __builtin_popcount(sim->committed.voters) < 3)
		return 0;
	sim_clients_silence(sim);
	step_later(sim, sim->plan.election_min_us, STEP_APART, leader, fault->b % 1000);
	return 1;
}

static void part(struct sim *sim, unsigned leader, uint64_t number)
{
	uint64_t election_us = sim->plan.election_min_us + sim->plan.election_spread_us;
	uint64_t one = (uint64_t)1 << leader;
	unsigned member = sim_fault_any_of(sim, sim->committed.members, number);
	step_later(sim, 5 * election_us, STEP_TALK, leader, 0);
	if (sim_fault_leader(sim) != leader || !sim_member_listens(sim, leader) || member == sim_members(sim))
		return;
	sim_note(sim, "leader %u is alone, and takes a change", leader + 1);
	sim_fault_cut(sim, sim_fault_between(sim, one, ~one, 2), 0, 4 * election_us);
	sim_client_burst(sim, leader, 1, 1);
	if (sim->members[leader].up)
		(void)move(sim, leader, member);
	step_later(sim, election_us, STEP_OTHER, leader, 0);
}

static void change_other(struct sim *sim, unsigned former, uint64_t tries)
{
	unsigned leader = sim_fault_leader(sim);
	bool another = leader != sim_members(sim) && leader != former && sim_member_listens(sim, leader);
	if ((!another || move(sim, leader, leader) != 0) && tries < TRIES)
		step_later(sim, sim->plan.heartbeat_us, STEP_OTHER, former, tries + 1);
}

void sim_fault_place_step(struct sim *sim, unsigned member, uint64_t number)
{
	switch ((enum step)(number % STEPS)) {
	case STEP_KNOWN:
		look(sim, member);
		return;
	case STEP_APART:
		part(sim, member, number / STEPS);
		return;
	case STEP_OTHER:
		change_other(sim, member, number / STEPS);
		return;
	case STEP_TALK:
		sim_fault_talk(sim);
		return;
	case STEPS:
		return;
	}
}

/* A member that starts has no descriptors for connections, for a while that ends long before the calm. */
int sim_fault_no_connections(struct sim *sim, const struct sim_fault *fault)
{
	unsigned number = sim_fault_which(sim, fault);
	struct sim_member *member = &sim->members[number];
	uint64_t down_us = 1 + fault->b % (100 * MILLISECOND);
	if (!member->up || sim->now_us + PATIENCE_US > SIM_BEGIN_US + sim->plan.span_us)
		return 0;
	sim_note(sim, "%u is to get no connections", number + 1);
	member->no_connections_until_us =
		sim->now_us + down_us + sim_fault_span(fault->c, 100 * MILLISECOND, 5 * SECOND);
	return sim_fault_crash(sim, number, SIM_KILL, down_us);
}
