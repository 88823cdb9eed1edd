/* Changes of the membership, at the worst moment, within what the data bear: faults_loss.c. */
#include "fault_steps.h"

#include "kv/admin.h"

#define MILLISECOND 1000u
#define SECOND 1000000u

static int ask_leader(struct sim *sim, enum kv_change_type type, unsigned member, bool stay_learner)
{
	unsigned leader = sim_fault_leader(sim);
	struct kv_change change = {
		.type = (uint8_t)type, .flags = stay_learner ? KV_CHANGE_STAY_LEARNER : 0, .id = member + 1};
	if (leader == sim_members(sim))
		return 0;
	sim_endpoint_name(sim, member, change.peer);
	(void)sim_operator_change(sim, leader, &change, sim->now_us);
	return 1;
}

/* A spare that has never been a member; it may start before or after it is made one. */
int sim_fault_member_add(struct sim *sim, const struct sim_fault *fault)
{
	uint64_t founders = ((uint64_t)1 << sim->plan.members) - 1;
	unsigned member = sim_fault_any_of(sim, ~founders & ~(uint64_t)sim->ever, fault->a);
	if (!sim->founded || member == sim_members(sim) || sim->members[member].expendable)
		return 0; /* damage that nobody minded while it did not belong to the cluster would count from now on */
	if (sim->members[member].removed)
		return 0; /* what made it a member was undone, and it was told so and stopped: nobody starts it again */
	if (sim->members[member].absent && fault->b % 2 == 0)
		sim_member_start(sim, member);
	else if (sim->members[member].absent)
		sim_fault_restart(sim, member, sim_fault_down_time(fault->c));
	return ask_leader(sim, KV_CHANGE_ADD, member, fault->b / 2 % 4 == 0);
}

int sim_fault_remove(struct sim *sim, unsigned member)
{
	uint32_t others = sim->committed.voters & ~(1u << member);
	if (((sim->committed.members >> member) & 1) == 0 || others == 0 || !sim_fault_borne(sim, SIM_NOBODY, member))
		return 0;
	return ask_leader(sim, KV_CHANGE_REMOVE, member, false);
}

/* Any member, or the leader, or one that is damaged for good. Down to one voter, but not often. */
int sim_fault_member_remove(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member =
		fault->c % 3 == 0 ? sim_fault_leader(sim) : sim_fault_any_of(sim, sim->committed.members, fault->a);
	uint64_t voters = (uint64_t)__builtin_popcount(sim->committed.voters);
	if (!sim->founded || member == sim_members(sim) || (voters <= 3 && fault->b % 4 != 0))
		return 0;
	return sim_fault_remove(sim, member);
}

/* As operators do: the new one first, then the old one goes. */
int sim_fault_member_replace(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = sim_fault_any_of(sim, sim->committed.members, fault->c);
	if (!sim->founded || member == sim_members(sim) || sim_fault_member_add(sim, fault) == 0)
		return 0;
	sim_fault_remove_later(sim, member, sim_fault_span(fault->c, 50 * MILLISECOND, 5 * SECOND));
	return 1;
}

int sim_fault_member_promote(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = sim_fault_any_of(sim, sim->committed.members & ~sim->committed.voters, fault->a);
	return member == sim_members(sim) ? 0 : ask_leader(sim, KV_CHANGE_PROMOTE, member, false);
}
