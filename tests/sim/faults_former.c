/*
 * Directories that are put away and come back, and what one of them has said that comes too late.
 *
 * The disk that holds a member's data is not mounted for a while: the member comes up with an empty directory, under another
 * incarnation, is perhaps taken in again, and then its former directory is there again. To the cluster that means that it loses the
 * other one, and so it has to bear that. The former one has forgotten nothing that it ever promised: where a configuration still
 * names it nothing is lost at all, elsewhere it counts for nothing until it is taken in in its turn.
 */
#include "fault_steps.h"

#include "daemon/assert.h"

#define MILLISECOND 1000u
#define TRIES 6u

/* What a step does: the lowest bits of its number. The rest: the leader that it is about. */
enum step {
	STEP_OLD_ANSWER,  /* what the member's former directory said to the leader arrives, if that may do harm */
	STEP_GOES,	  /* the member's other directory takes the place of this one again */
	STEP_HANDS_OVER,  /* the leader does not hear the member for a while, and hands over … */
	STEP_LEADS_AGAIN, /* … and is handed the leadership again */
	STEPS
};
#define QUICK_US MILLISECOND /* somebody has a script for it */

/* Its files are what was written, as far as that was synced, and nobody had to look for that. */
static bool is_good(const struct sim *sim, unsigned number)
{
	const struct sim_member *member = &sim->members[number];
	return member->incarnation != 0 && !member->lost && !member->expendable &&
	       !sim_platter_damaged(member->disk_files) && !sim_platter_promise_rotten(member->disk_files) &&
	       sim_durable_is_whole(sim, number);
}

/* What was to become of the directory that is gone does not happen to the one that takes its place. */
static void forget_faults(struct sim_member *member)
{
	member->lost = false;
	member->expendable = false;
	member->older_level = 0;
	member->promises_over_us = 0;
	member->disk_faults.misdirect = false;
	member->disk_faults.lose_segment_end = false;
	member->disk_faults.rot_offered = false;
	member->disk_faults.spoil_state = 0;
	member->disk_faults.rot_received = false;
}

/* The member is down. What it has now is put away if it is good, else it is lost. */
static void exchange(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	struct sim_elsewhere other = member->elsewhere;
	raft_assert(!member->up);
	member->elsewhere = (struct sim_elsewhere){0};
	if (is_good(sim, number))
		member->elsewhere = (struct sim_elsewhere){
			.incarnation = member->incarnation, .view = member->view, .promised_us = member->promised_us};
	else
		sim_platter_wipe(member->disk_files);
	sim_platter_exchange(member->disk_files);
	forget_faults(member);
	member->incarnation = other.incarnation;
	member->view = other.view;
	member->promised_us = other.promised_us;
}

void sim_fault_drop_away(struct sim *sim, unsigned number)
{
	sim_platter_drop_away(sim->members[number].disk_files);
	sim->members[number].elsewhere = (struct sim_elsewhere){0};
}

void sim_fault_put_away(struct sim *sim, unsigned number)
{
	sim_fault_drop_away(sim, number);
	exchange(sim, number);
	if (sim->members[number].elsewhere.incarnation != 0)
		sim->counts.wipes++; /* else the platter was */
}

static int bring_back(struct sim *sim, unsigned number, uint64_t down_us)
{
	struct sim_member *member = &sim->members[number];
	if (!sim_fault_may_lose(sim, number) || !sim_member_is_warned(sim, number))
		return 0;
	if (member->up)
		sim_member_crash(sim, number, SIM_POWER_CUT);
	sim_note(sim, "%u finds its former directory again", number + 1);
	exchange(sim, number);
	sim->counts.returns++;
	sim_fault_restart(sim, number, down_us);
	return 1;
}

/* What the leader of the newest term knows its members by; NULL: nobody leads. */
static const struct sim_view *leaders_view(const struct sim *sim, unsigned *ret_leader, uint64_t *ret_term)
{
	struct replicator_status status;
	*ret_leader = sim_fault_leader(sim);
	if (*ret_leader == sim_members(sim))
		return NULL;
	replica_get_status(sim->members[*ret_leader].replica, &status);
	*ret_term = status.term;
	return &sim->members[*ret_leader].view;
}

static uint64_t election_us(const struct sim *sim)
{
	return sim->plan.election_min_us + sim->plan.election_spread_us;
}

static uint64_t way_us(const struct sim *sim)
{
	return sim->plan.delay_min_us + sim->plan.delay_spread_us;
}

static void step_later(struct sim *sim, uint64_t delay_us, enum step step, unsigned member, unsigned leader)
{
	sim_fault_former_later(sim, delay_us, member, leader * STEPS + step);
}

/* Those that have a directory elsewhere. */
static uint64_t with_another(const struct sim *sim)
{
	uint64_t with = 0;
	for (unsigned k = 0; k < sim_members(sim); k++)
		if (sim->members[k].elsewhere.incarnation != 0 && sim_fault_is_present(sim, k))
			with |= (uint64_t)1 << k;
	return with;
}

/* The others elect another leader, of which the first one hears from this member alone. */
static void leave_alone_with(struct sim *sim, unsigned leader, unsigned member)
{
	uint64_t one = (uint64_t)1 << leader;
	uint64_t company = one | (uint64_t)1 << member;
	sim_note(sim, "leader %u is alone with %u", leader + 1, member + 1);
	sim_fault_cut(sim, sim_fault_between(sim, one, ~company, 2), 0, 3 * election_us(sim));
}

/* Of a member that has one; rarely, or when there is none yet, a directory is put away, in half of the cases while the leader
 * loses its place. */
int sim_fault_former_directory(struct sim *sim, const struct sim_fault *fault)
{
	uint64_t down_us = sim_fault_down_time(fault->c), with = with_another(sim);
	unsigned leader = sim_fault_leader(sim), member = sim_fault_which(sim, fault);
	bool alone = fault->b / 4 % 2 == 0 && leader != sim_members(sim) && leader != member;
	if (with != 0 && fault->b % 4 != 0)
		return bring_back(sim, sim_fault_any_of(sim, with, fault->a), down_us);
	if (sim_fault_empty(sim, member, alone ? QUICK_US : down_us) == 0)
		return 0;
	if (alone)
		leave_alone_with(sim, leader, member);
	return 1;
}

/* What a former directory of a member said to the leader in this very term, a hello and an answer to an append, is to arrive again
 * when the leader has not heard the member for a while; as soon as the member is taken in with the directory that it has now. */
static void old_answer_later(struct sim *sim, unsigned member, unsigned leader)
{
	for (unsigned n = 1; n <= TRIES; n++)
		step_later(sim, (n + 1) * election_us(sim), STEP_OLD_ANSWER, member, leader);
}

/* A member finds its former directory again, and for so short a time that the leader does not know yet what to make of it. */
static int come_and_go(struct sim *sim, unsigned member, unsigned leader)
{
	if (bring_back(sim, member, QUICK_US) == 0)
		return 0;
	step_later(sim, QUICK_US + 2 * way_us(sim) + 2 * sim->plan.heartbeat_us, STEP_GOES, member, leader);
	old_answer_later(sim, member, leader);
	return 1;
}

/* A leader hears of a member's new directory, loses its place, and leads again before it hears of it once more: what comes first is
 * what that directory answered it when it led before. */
int sim_fault_led_again(struct sim *sim, const struct sim_fault *fault)
{
	unsigned leader = sim_fault_leader(sim), member = sim_fault_which(sim, fault);
	uint64_t known_us = QUICK_US + 2 * way_us(sim) + 2 * sim->plan.heartbeat_us;
	if (leader == sim_members(sim) || leader == member || sim_fault_empty(sim, member, QUICK_US) == 0)
		return 0;
	step_later(sim, known_us, STEP_HANDS_OVER, member, leader);
	step_later(sim, known_us + election_us(sim), STEP_LEADS_AGAIN, member, leader);
	return 1;
}

/* To a voter that is neither of the two. */
static void hand_over(struct sim *sim, unsigned leader, unsigned member)
{
	uint64_t others = sim->committed.voters & ~((uint64_t)1 << leader | (uint64_t)1 << member);
	unsigned other = sim_fault_any_of(sim, others, sim->now_us);
	uint64_t links = sim_fault_between(sim, (uint64_t)1 << member, (uint64_t)1 << leader, 0);
	if (sim_fault_leader(sim) != leader || other == sim_members(sim))
		return;
	sim_note(sim, "leader %u is to hear late what %u has answered", leader + 1, member + 1);
	sim_stale_answer(sim, member, leader, 2 * election_us(sim) + 1);
	sim_fault_cut(sim, links, 0, 2 * election_us(sim));
	sim_member_transfer(sim, leader, other + 1);
}

static void hand_back(struct sim *sim, unsigned former)
{
	unsigned leader = sim_fault_leader(sim);
	if (leader != sim_members(sim) && leader != former)
		sim_member_transfer(sim, leader, former + 1);
}

/* Either a member loses its directory, or finds its former one, for a moment. */
int sim_fault_old_answer(struct sim *sim, const struct sim_fault *fault)
{
	unsigned leader;
	uint64_t term, with = with_another(sim);
	const struct sim_view *view = leaders_view(sim, &leader, &term);
	for (unsigned k = 0; view != NULL && k < sim_members(sim); k++)
		if (k == leader || view->incarnations[k] != sim->members[k].incarnation)
			with &= ~((uint64_t)1 << k);
	if (view != NULL && with != 0 && fault->b % 4 != 0)
		return come_and_go(sim, sim_fault_any_of(sim, with, fault->a), leader);
	for (unsigned k = 0; view != NULL && k < sim_members(sim); k++) {
		unsigned member = (unsigned)((fault->a + k) % sim_members(sim));
		uint64_t down_us = 1 + fault->c % (20 * MILLISECOND);
		if (member == leader || !sim_stale_answered(sim, member, leader, view->incarnations[member], term) ||
		    sim_fault_empty(sim, member, down_us) == 0)
			continue;
		old_answer_later(sim, member, leader);
		return 1;
	}
	return 0;
}

static void old_answer(struct sim *sim, unsigned member, unsigned expected)
{
	unsigned leader;
	uint64_t term;
	const struct sim_view *view = leaders_view(sim, &leader, &term);
	if (view == NULL || leader != expected || view->incarnations[member] != sim->members[member].incarnation ||
	    !sim_stale_former_answered(sim, member, leader, view->incarnations[member], term) ||
	    sim_fault_stop(sim, member, false, 5 * election_us(sim)) == 0)
		return;
	sim_note(sim, "what the former directory of %u has said reaches leader %u", member + 1, leader + 1);
	sim_stale_former(sim, member, leader, 3 * election_us(sim)); /* clocks drift */
	sim->counts.old_answers++;
}

void sim_fault_former_step(struct sim *sim, unsigned member, uint64_t number)
{
	unsigned leader = (unsigned)(number / STEPS);
	switch ((enum step)(number % STEPS)) {
	case STEP_OLD_ANSWER:
		old_answer(sim, member, leader);
		return;
	case STEP_GOES:
		if (sim->members[member].elsewhere.incarnation != 0)
			(void)bring_back(sim, member, QUICK_US);
		return;
	case STEP_HANDS_OVER:
		hand_over(sim, leader, member);
		return;
	case STEP_LEADS_AGAIN:
		hand_back(sim, leader);
		return;
	case STEPS:
		return;
	}
}
