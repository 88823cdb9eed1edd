/*
 * Faults that bring about one situation each, in which a bug shows that chance alone hardly ever meets: what has to come together
 * for it comes together here. Must not know what members make of it.
 */
#include "check.h"
#include "durable.h"
#include "fault_steps.h"

#include "daemon/transport/wire.h"

#define MILLISECOND 1000u
#define SECOND 1000000u

/* A follower forgets entries that its leader counts on, and is back before anybody else leads. */
int sim_fault_forgotten_entry(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	unsigned leader = sim_fault_leader(sim);
	uint64_t way_us = sim->plan.delay_min_us + sim->plan.delay_spread_us;
	uint64_t acknowledged_us = 2 * way_us + 2 * (sim->plan.sync_min_us + sim->plan.sync_spread_us);
	if (leader == sim_members(sim))
		return 0;
	sim_client_burst(sim, leader, 1, 1 + (uint32_t)sim_random_below(&random, 1000));
	sim_fault_forget_later(sim, acknowledged_us / 2 + sim_random_below(&random, acknowledged_us), leader, fault->c);
	return 1;
}

/* Its log ends in a record that holds entries. */
static bool has_new_entries(const struct sim *sim, unsigned member)
{
	struct sim_newest newest;
	return sim->members[member].up && sim_durable_newest(sim, member, &newest) && newest.n_entries > 0;
}

void sim_fault_forget(struct sim *sim, unsigned leader, uint64_t seed)
{
	struct sim_random random = {seed};
	unsigned first = (unsigned)sim_random_below(&random, sim_members(sim));
	for (unsigned k = 0; k < sim_members(sim); k++) {
		unsigned member = (first + k) % sim_members(sim);
		if (member == leader || !has_new_entries(sim, member) || !sim_fault_may_lose(sim, member))
			continue;
		uint64_t down_us = 1 + sim_random_below(&random, 20 * MILLISECOND);
		(void)sim_fault_crash(sim, member, SIM_POWER_CUT, down_us);
		sim->members[member].expendable |= sim_platter_rot_newest(sim->members[member].disk_files, &random);
		return;
	}
}

/* The last record of a full segment rots, one that holds no entries and that nothing misses but the next segment's header, and the
 * member dies before it has written anything behind that. */
int sim_fault_segment_end(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_member *member = &sim->members[sim_fault_which(sim, fault)];
	if (!member->up || !sim_fault_may_lose(sim, sim_fault_which(sim, fault)))
		return 0;
	member->expendable = true;
	member->disk_faults.lose_segment_end = true;
	member->disk_faults.segment_end_down_us = sim_fault_down_time(fault->c);
	return 1;
}

/* A snapshot rots where the leader keeps it, when another member needs it. */
int sim_fault_rotten_offer(struct sim *sim, const struct sim_fault *fault)
{
	unsigned leader = sim_fault_leader(sim);
	unsigned member = fault->b % 2 == 0 && leader < sim_members(sim) ? leader : sim_fault_which(sim, fault);
	if (!sim->members[member].up || !sim_fault_may_lose(sim, member))
		return 0;
	sim->members[member].expendable = true;
	sim->members[member].disk_faults.rot_offered = true;
	return 1;
}

/* A bit flips in a member's memory, and no hash sees it: what the member writes into its next snapshot is no state. It goes on with
 * that, and so does whoever is sent it. Sometimes somebody needs it: is down until the snapshot is there. */
int sim_fault_spoilt_state(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	unsigned leader = sim_fault_leader(sim);
	unsigned member = fault->b % 4 != 0 && leader < sim_members(sim) ? leader : sim_fault_which(sim, fault);
	unsigned other = (unsigned)((member + 1 + fault->c % sim_members(sim)) % sim_members(sim));
	if (!sim->members[member].up || !sim_fault_may_lose(sim, member))
		return 0;
	sim->members[member].expendable = true;
	sim->members[member].disk_faults.spoil_state = sim_random_u64(&random) | 1;
	if (other != member && sim->members[other].up && sim_random_below(&random, 2) == 0)
		(void)sim_fault_crash(sim, other, SIM_KILL, sim_fault_down_time(fault->c));
	if (sim_random_below(&random, 2) == 0 && !sim->members[member].paused)
		sim_member_snapshot(sim, member);
	return 1;
}

/* Its disk refuses to read it then, until the member starts again. */
int sim_fault_unreadable_offer(struct sim *sim, const struct sim_fault *fault)
{
	unsigned leader = sim_fault_leader(sim);
	unsigned member = fault->b % 2 == 0 && leader < sim_members(sim) ? leader : sim_fault_which(sim, fault);
	if (!sim->members[member].up)
		return 0;
	sim->members[member].disk_faults.refuse_offered = true;
	return 1;
}

/* A snapshot rots where a member has received it, before that is installed. */
int sim_fault_rotten_receipt(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = sim_fault_which(sim, fault);
	if (!sim->members[member].up || !sim_fault_may_lose(sim, member))
		return 0;
	sim->members[member].expendable = true;
	sim->members[member].disk_faults.rot_received = true;
	return 1;
}

void sim_fault_sent(struct sim *sim, unsigned from, const uint8_t *frame, size_t len)
{
	struct sim_member *member = &sim->members[from];
	struct wire_message message;
	if (wire_decode(frame, len, sim->checks->scratch, WIRE_ENTRIES_MAX, &message) != WIRE_OK ||
	    message.type != WIRE_SNAPSHOT_OFFER)
		return;
	uint64_t index = message.snapshot_offer.index;
	if (member->disk_faults.rot_offered)
		member->disk_faults.rot_offered = !sim_platter_rot_snapshot(member->disk_files, index);
	if (member->disk_faults.refuse_offered)
		member->disk_faults.unreadable = index;
	member->disk_faults.refuse_offered = false;
}

/* A hello that a member sent when it ran an older program reaches the leader only now, and for a while nothing that the member says
 * puts it right: the member stands still, or is not heard. */
int sim_fault_old_hello(struct sim *sim, const struct sim_fault *fault)
{
	unsigned leader = sim_fault_leader(sim);
	if (leader == sim_members(sim))
		return 0;
	const struct sim_view *view = &sim->members[leader].view;
	for (unsigned k = 0; k < sim_members(sim); k++) {
		unsigned member = (unsigned)((fault->a + k) % sim_members(sim));
		uint64_t one = (uint64_t)1 << member;
		if (member == leader || (view->members & one) == 0 ||
		    !sim_stale_hello(sim, member, leader, view->incarnations[member], view->level))
			continue;
		sim_note(sim, "an old hello of %u reaches leader %u", member + 1, leader + 1);
		uint64_t span_us = sim_fault_span(fault->c, 2 * SECOND, 6 * SECOND);
		if (fault->b % 2 == 0 || sim_fault_stop(sim, member, false, span_us) == 0)
			sim_fault_cut(sim, sim_fault_between(sim, one, (uint64_t)1 << leader, 0), 1, span_us);
		return 1;
	}
	return 0;
}

/* Those that a member names in its configuration file, but not itself. */
static uint64_t in_its_file(const struct sim *sim, unsigned number)
{
	struct replica_options options = sim_member_options(sim, number);
	uint64_t named = 0;
	for (unsigned k = 0; k < options.founders.n_members; k++)
		named |= (uint64_t)1 << (options.founders.members[k].id - 1);
	return named & ~((uint64_t)1 << number);
}

/* The one that founds clusters loses its directory. When it is back, it hears of all the others what they said when they were blank,
 * and for a while nothing else. */
int sim_fault_second_founding(struct sim *sim, const struct sim_fault *fault)
{
	static const unsigned founder = 0;
	struct sim_random random = {fault->b};
	uint64_t named = in_its_file(sim, founder);
	uint64_t down_us = sim_fault_down_time(fault->c);
	for (unsigned k = 0; k < sim_members(sim); k++)
		if (((named >> k) & 1) != 0 && !sim_stale_was_blank(sim, k, founder))
			return 0;
	if (sim_fault_empty(sim, founder, down_us) == 0)
		return 0;
	sim_note(sim, "%u is to hear old hellos", founder + 1);
	for (unsigned k = 0; k < sim_members(sim); k++)
		if (((named >> k) & 1) != 0)
			sim_stale_blank_hello(sim, k, founder, down_us + 1 + sim_random_below(&random, MILLISECOND));
	uint64_t one = (uint64_t)1 << founder;
	uint64_t links = sim_fault_between(sim, ~one, one, fault->a % 2 * 2);
	sim_fault_cut(sim, links, down_us + MILLISECOND + 1,
		      sim_fault_span(sim_random_u64(&random), SECOND / 2, 3 * SECOND));
	return 1;
}
