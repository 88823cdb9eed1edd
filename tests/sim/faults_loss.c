/*
 * Faults that may cost a member its data, and how many of them the cluster bears: an intact majority of the voters, of every
 * configuration that may be in force, remains.
 */
#include "fault_steps.h"

/* The directory that the configuration counts on is not there any more, or may be damaged. */
static bool is_gone(const struct sim *sim, const struct sim_view *view, unsigned number)
{
	const struct sim_member *member = &sim->members[number];
	uint64_t incarnation = view->incarnations[number];
	return member->expendable || member->lost || (incarnation != 0 && member->incarnation != incarnation);
}

/*
 * A majority of the voters keeps its data, although member `lost` loses its own and member `removed` leaves: then every
 * committed entry is still held by one of them, and they can elect a leader, which gives the others their place back. Members
 * that join may become voters any time: those of them that may be damaged count as if they were.
 */
static bool view_bears(const struct sim *sim, const struct sim_view *view, unsigned lost, unsigned removed)
{
	unsigned voters = 0, gone = 0;
	for (unsigned k = 0; k < sim_members(sim); k++) {
		bool voter = ((view->voters >> k) & 1) != 0;
		bool is_member = ((view->members >> k) & 1) != 0 && k != removed;
		bool without = is_member && (k == lost || is_gone(sim, view, k));
		voters += is_member && (voter || without);
		gone += without;
	}
	return voters > 0 && gone <= (voters - 1) / 2;
}

/* Whatever configuration will turn out to be in force: the one that is committed, or any that follows in some log. */
bool sim_fault_borne(const struct sim *sim, unsigned lost, unsigned removed)
{
	if (sim->committed.index == 0 || !view_bears(sim, &sim->committed, lost, removed))
		return false;
	for (unsigned k = 0; k < sim_members(sim); k++)
		if (sim->members[k].view.index > sim->committed.index &&
		    !view_bears(sim, &sim->members[k].view, lost, removed))
			return false;
	return true;
}

/* Faults that may cost a member its data never hit so many that a majority is gone. */
bool sim_fault_may_lose(struct sim *sim, unsigned member)
{
	return sim->founded && sim_fault_is_present(sim, member) && sim_fault_borne(sim, member, SIM_NOBODY);
}

/* Rather on a leader, which reads old entries for those that lag behind. */
int sim_fault_bit_rot(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	unsigned leader = sim_fault_leader(sim);
	unsigned member = fault->b % 2 == 0 && leader < sim_members(sim) ? leader : sim_fault_which(sim, fault);
	int any = 0;
	if (!sim_fault_may_lose(sim, member))
		return 0;
	sim->members[member].expendable = true;
	for (uint64_t n = 1 + fault->c % 16; n > 0; n--)
		any |= sim_platter_rot(sim->members[member].disk_files, &random);
	if (!any || fault->b / 2 % 2 != 0 || !sim->members[member].up)
		return any;
	(void)sim_fault_crash(sim, member, SIM_KILL, sim_fault_down_time(fault->a)); /* it reads everything when it starts … */
	if (fault->b / 4 % 4 == 0) /* … and may die while it heals */
		sim_fault_die_in_recovery(sim, member, fault->b / 16, sim_fault_down_time(fault->c));
	return any;
}

/* The record that was written last, and that nobody can tell from a torn one then. */
int sim_fault_newest_rot(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	unsigned member = sim_fault_which(sim, fault);
	uint64_t down_us = sim_fault_down_time(fault->c);
	if (!sim_fault_may_lose(sim, member) || sim_fault_crash(sim, member, SIM_POWER_CUT, down_us) == 0 ||
	    !sim_platter_rot_newest(sim->members[member].disk_files, &random))
		return 0;
	sim->members[member].expendable = true;
	return 1;
}

int sim_fault_misdirected_write(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = sim_fault_which(sim, fault);
	if (!sim_fault_may_lose(sim, member))
		return 0;
	sim->members[member].expendable = true;
	sim->members[member].disk_faults.misdirect = true;
	return 1;
}

/* It comes back by itself under a new incarnation. */
int sim_fault_empty(struct sim *sim, unsigned number, uint64_t down_us)
{
	struct sim_member *member = &sim->members[number];
	if (!sim_fault_may_lose(sim, number) || !sim_member_is_warned(sim, number))
		return 0;
	if (member->up)
		sim_member_crash(sim, number, SIM_POWER_CUT);
	sim_note(sim, "%u is wiped", number + 1);
	sim_fault_put_away(sim, number);
	sim_fault_restart(sim, number, down_us);
	return 1;
}

/* Rather one that refuses to start for its damage: as an operator would. */
int sim_fault_wipe(struct sim *sim, const struct sim_fault *fault)
{
	uint64_t damaged = 0;
	for (unsigned k = 0; k < sim_members(sim); k++)
		if (sim->members[k].lost)
			damaged |= (uint64_t)1 << k;
	unsigned number = sim_fault_which(sim, fault);
	if (damaged != 0 && fault->b % 4 != 0)
		number = sim_fault_any_of(sim, damaged, fault->a);
	return sim_fault_empty(sim, number, sim_fault_down_time(fault->c));
}

/* No promise is lost by it: the member does not start before all that it may have given are over. */
int sim_fault_promise_rot(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	unsigned member = sim_fault_which(sim, fault);
	if (!sim_platter_rot_promise(sim->members[member].disk_files, &random))
		return 0;
	(void)sim_fault_crash(sim, member, SIM_POWER_CUT, sim_fault_down_time(fault->c));
	return 1;
}
