/*
 * Faults: how they are run, what they choose from, how they end; and what each kind that strikes a member, its clocks or its
 * operators does. The others: faults_network.c, faults_disk.c, faults_loss.c, faults_members.c, faults_leader.c, levels.c.
 *
 * A fault makes its choices from its own numbers and the state of the world, never from a shared generator, so that leaving one
 * fault out changes the others little. By convention a says which, b how, c how long.
 */
#include "check.h"
#include "fault_steps.h"

#include "daemon/assert.h"

#define MILLISECOND 1000u
#define SECOND 1000000u
#define DRIFT_WITHIN_PPM 200000 /* the bound that is configured; beyond it, in a share of the faults: */
#define DRIFT_BEYOND_PPM 500000
#define DRIFT_CALM_PPM 10000

/* Events of faults under way ----------------------------------------------------------------------------- */

/* What an event means: its `len`. Its `number` is what it is about. */
enum later {
	LATER_RESTART, /* the member starts again */
	LATER_REMOVE,  /* the member is to be removed from the cluster */
	LATER_RESUME,  /* the member's pause ends */
	LATER_CUT,     /* the links in number are cut … */
	LATER_HEAL,    /* … and open again */
	LATER_STEP,    /* of a fault in several steps */
	LATER_ERRAND,  /* an operator asks for the next page */
	LATER_PLACE,   /* of a fault around the member's place */
	LATER_IDLE,    /* of a fault around an idle log */
	LATER_FORMER,  /* of a fault in several steps around directories of the member */
};

static void later(struct sim *sim, uint64_t delay_us, enum later what, unsigned member, uint64_t number)
{
	sim_schedule(sim, delay_us,
		     (struct sim_event){.type = SIM_FAULT,
					.len = what,
					.number = number,
					.member = member,
					.life = sim->members[member].life});
}

void sim_fault_later(struct sim *sim, uint64_t delay_us, unsigned member, uint64_t number)
{
	later(sim, delay_us, LATER_STEP, member, number);
}

void sim_fault_errand_later(struct sim *sim, uint64_t delay_us, uint64_t errand)
{
	later(sim, delay_us, LATER_ERRAND, 0, errand);
}

void sim_fault_place_later(struct sim *sim, uint64_t delay_us, unsigned member, uint64_t number)
{
	later(sim, delay_us, LATER_PLACE, member, number);
}

void sim_fault_idle_later(struct sim *sim, uint64_t delay_us, unsigned member, uint64_t number)
{
	later(sim, delay_us, LATER_IDLE, member, number);
}

void sim_fault_former_later(struct sim *sim, uint64_t delay_us, unsigned member, uint64_t number)
{
	later(sim, delay_us, LATER_FORMER, member, number);
}

void sim_fault_restart(struct sim *sim, unsigned member, uint64_t delay_us)
{
	later(sim, delay_us, LATER_RESTART, member, 0);
}

void sim_fault_cut(struct sim *sim, uint64_t links, uint64_t delay_us, uint64_t span_us)
{
	if (delay_us == 0)
		sim_network_cut(sim, links, true);
	else
		later(sim, delay_us, LATER_CUT, 0, links);
	later(sim, delay_us + span_us, LATER_HEAL, 0, links);
}

void sim_fault_remove_later(struct sim *sim, unsigned member, uint64_t delay_us)
{
	later(sim, delay_us, LATER_REMOVE, member, 0);
}

/* Choices ------------------------------------------------------------------------------------------------ */

/* There is a machine, and a member that may run on it: one that was told that it is none, and stopped, only if it was made one
 * since. */
bool sim_fault_is_present(const struct sim *sim, unsigned member)
{
	bool belongs = ((sim->committed.members >> member) & 1) != 0;
	return !sim->members[member].absent && (!sim->members[member].removed || sim->members[member].up || belongs);
}

/* One of those whose bit is set; sim_members() when there is none. */
unsigned sim_fault_any_of(const struct sim *sim, uint64_t members, uint64_t number)
{
	unsigned n = 0;
	for (unsigned k = 0; k < sim_members(sim); k++)
		n += (unsigned)((members >> k) & 1);
	uint64_t skip = n > 0 ? number % n : 0;
	unsigned k = 0;
	while (k < sim_members(sim) && (((members >> k) & 1) == 0 || skip-- > 0))
		k++;
	return k;
}

unsigned sim_fault_which(const struct sim *sim, const struct sim_fault *fault)
{
	uint64_t present = 0;
	for (unsigned k = 0; k < sim_members(sim); k++)
		if (sim_fault_is_present(sim, k))
			present |= (uint64_t)1 << k;
	unsigned member = sim_fault_any_of(sim, present, fault->a);
	return member < sim_members(sim) ? member : 0;
}

/* Each magnitude between low and high is as likely as the others. */
uint64_t sim_fault_span(uint64_t number, uint64_t low, uint64_t high)
{
	struct sim_random random = {number};
	uint64_t wide = high;
	for (uint64_t halvings = sim_random_below(&random, 8); halvings > 0 && wide / 2 > low; halvings--)
		wide /= 2;
	return low + sim_random_below(&random, wide - low + 1);
}

uint64_t sim_fault_down_time(uint64_t number)
{
	return sim_fault_span(number, MILLISECOND, 5 * SECOND);
}

/* The leader of the newest term; sim_members() when there is none. */
unsigned sim_fault_leader(const struct sim *sim)
{
	unsigned leader = sim_members(sim);
	uint64_t term = 0;
	for (unsigned k = 0; k < sim_members(sim); k++) {
		struct replicator_status status;
		if (!sim->members[k].up || sim->members[k].paused)
			continue;
		replica_get_status(sim->members[k].replica, &status);
		if (status.role != RAFT_LEADER || status.term <= term)
			continue;
		leader = k;
		term = status.term;
	}
	return leader;
}

/* Members ------------------------------------------------------------------------------------------------ */

int sim_fault_crash(struct sim *sim, unsigned member, enum sim_crash how, uint64_t down_us)
{
	if (sim->members[member].up) {
		sim_member_crash(sim, member, how);
		sim_fault_restart(sim, member, down_us);
		return 1;
	}
	/* The machine of a dead process goes down, too: what it left in the page cache is lost. */
	if (how == SIM_KILL || sim->members[member].lost || !sim_fault_is_present(sim, member))
		return 0;
	sim_platter_crash(sim->members[member].disk_files, how);
	sim_clock_reset(sim, member);
	sim->counts.powerless++;
	return 1;
}

int sim_fault_kill(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = sim_fault_which(sim, fault);
	if (fault->b % 2 == 0)
		sim_promises_end(sim, member);
	return sim_fault_crash(sim, member, SIM_KILL, sim_fault_down_time(fault->c));
}

int sim_fault_power_cut(struct sim *sim, const struct sim_fault *fault)
{
	return sim_fault_crash(sim, sim_fault_which(sim, fault), SIM_POWER_CUT, sim_fault_down_time(fault->c));
}

/* All, or any majority; they come back one by one, or together. */
int sim_fault_power_cut_many(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->c};
	uint64_t n = sim_members(sim);
	uint64_t spared = fault->b % 2 == 0 ? 0 : fault->b / 2 % (n - n / 2);
	int any = 0;
	for (unsigned k = 0; k < n; k++) {
		unsigned member = (unsigned)((k + fault->a) % n);
		uint64_t down_us = sim_fault_down_time(fault->b % 3 == 0 ? fault->c : sim_random_u64(&random));
		if (k >= spared)
			any |= sim_fault_crash(sim, member, SIM_POWER_CUT, down_us);
	}
	return any;
}

/* Dies at one of its next disk or network operations: in the middle of a turn. */
int sim_fault_crash_within(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_member *member = &sim->members[sim_fault_which(sim, fault)];
	if (!member->up || member->doom.armed)
		return 0;
	member->doom = (struct sim_doom){.armed = true,
					 .in_recovery = member->doom.in_recovery,
					 .how = fault->b % 2 == 0 ? SIM_KILL : SIM_POWER_CUT,
					 .operations_left = sim_fault_span(fault->b, 0, 200),
					 .down_us = sim_fault_down_time(fault->c)};
	return 1;
}

void sim_fault_die_in_recovery(struct sim *sim, unsigned member, uint64_t number, uint64_t down_us)
{
	sim->members[member].doom = (struct sim_doom){.in_recovery = true,
						      .how = number % 2 == 0 ? SIM_KILL : SIM_POWER_CUT,
						      .operations_left = number / 4 % 6,
						      .down_us = down_us};
}

/* Dies now, and again at one of the first operations of its next start. */
int sim_fault_crash_in_recovery(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = sim_fault_which(sim, fault);
	if (!sim->members[member].up)
		return 0;
	(void)sim_fault_crash(sim, member, fault->b % 4 < 2 ? SIM_KILL : SIM_POWER_CUT, sim_fault_down_time(fault->c));
	sim_fault_die_in_recovery(sim, member, fault->b, sim_fault_down_time(~fault->c));
	return 1;
}

int sim_fault_long_absence(struct sim *sim, const struct sim_fault *fault)
{
	return sim_fault_crash(sim, sim_fault_which(sim, fault), fault->b % 2 == 0 ? SIM_KILL : SIM_POWER_CUT,
			       sim_fault_span(fault->c, 10 * SECOND, 180 * SECOND));
}

int sim_fault_stop(struct sim *sim, unsigned member, bool within_turn, uint64_t span_us)
{
	if (!sim->members[member].up || sim->members[member].paused)
		return 0;
	sim_member_pause(sim, member, within_turn);
	later(sim, span_us, LATER_RESUME, member, 0);
	return 1;
}

int sim_fault_pause(struct sim *sim, const struct sim_fault *fault)
{
	return sim_fault_stop(sim, sim_fault_which(sim, fault), fault->b % 2 == 0,
			      sim_fault_span(fault->c, MILLISECOND, 10 * SECOND));
}

int sim_fault_slow(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_member *member = &sim->members[sim_fault_which(sim, fault)];
	member->slow_us = sim_fault_span(fault->b, 100, 30 * MILLISECOND);
	member->slow_until_us = sim->now_us + sim_fault_span(fault->c, 100 * MILLISECOND, 10 * SECOND);
	return 1;
}

int sim_fault_transfer(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = fault->c % 2 == 0 ? sim_fault_leader(sim) : sim_fault_which(sim, fault);
	if (member == sim_members(sim) || !sim->members[member].up || sim->members[member].paused)
		return 0;
	sim_operator_transfer(sim, member, fault->b % (sim_members(sim) + 2), fault->a);
	return 1;
}

int sim_fault_snapshot(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = sim_fault_which(sim, fault);
	if (!sim->members[member].up || sim->members[member].paused)
		return 0;
	sim_member_snapshot(sim, member);
	return 1;
}

/* A bit of its memory flips: what it has applied differs from what the others have, and it must be found before anybody is
 * told. */
int sim_fault_wrong_state(struct sim *sim, const struct sim_fault *fault)
{
	unsigned number = sim_fault_which(sim, fault);
	if (!sim->founded || !sim->members[number].up)
		return 0;
	for (unsigned k = 0; k < sim_members(sim); k++)
		if (sim->members[k].wrong_state)
			return 0;
	sim_note(sim, "the state of %u is wrong", number + 1);
	sim->members[number].wrong_state = true;
	return 1;
}

/* Clocks ------------------------------------------------------------------------------------------------- */

/* Leases are safe as long as no clock drifts by more than it is said to, and unless a run is to show just that. */
static bool clocks_matter(const struct sim *sim)
{
	return sim->plan.lease_drift_ppm > 0 && sim->plan.clocks_beyond == 0;
}

int sim_fault_drift(struct sim *sim, const struct sim_fault *fault)
{
	int64_t bound = fault->b % 5 == 0 ? DRIFT_BEYOND_PPM : DRIFT_WITHIN_PPM;
	if (clocks_matter(sim))
		bound = (int64_t)sim->plan.lease_drift_ppm;
	int64_t drift = (int64_t)(fault->c % (uint64_t)(2 * bound + 1)) - bound;
	if (clocks_matter(sim) && fault->b % 2 == 0)
		drift = drift < 0 ? -bound : bound;
	sim_note(sim, "the clock of %u drifts by %lld ppm", sim_fault_which(sim, fault) + 1, (long long)drift);
	sim_clock_set(sim, sim_fault_which(sim, fault), drift, 0);
	return 1;
}

/* To seconds or hours before or behind the true time. */
int sim_fault_wall_jump(struct sim *sim, const struct sim_fault *fault)
{
	int64_t offset_ms = (int64_t)sim_fault_span(fault->c, 100, 24u * 3600u * 1000u);
	struct sim_member *member = &sim->members[sim_fault_which(sim, fault)];
	member->clock.wall_offset_ms = fault->b % 2 == 0 ? offset_ms : -offset_ms;
	return 1;
}

/* The machine slept: the monotonic clock is ahead at once. */
int sim_fault_leap(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = sim_fault_which(sim, fault);
	uint64_t span_us = sim_fault_span(fault->c, 10 * MILLISECOND, 60 * SECOND);
	if (clocks_matter(sim)) /* that long it does sleep, while the others go on */
		return sim_fault_stop(sim, member, fault->b % 2 == 0, span_us);
	sim_clock_set(sim, member, sim->members[member].clock.drift_ppm, span_us);
	return 1;
}

/* Operators ---------------------------------------------------------------------------------------------- */

int sim_fault_look(struct sim *sim, const struct sim_fault *fault)
{
	return sim_operator_look(sim, sim_fault_which(sim, fault), fault->b);
}

int sim_fault_reload(struct sim *sim, const struct sim_fault *fault)
{
	return sim_operator_reload(sim, sim_fault_which(sim, fault), fault->b);
}

int sim_fault_errand(struct sim *sim, const struct sim_fault *fault)
{
	return sim_operator_begin(sim, sim_fault_which(sim, fault), fault->b);
}

int sim_fault_check_files(struct sim *sim, const struct sim_fault *fault)
{
	return sim_operator_check(sim, sim_fault_which(sim, fault));
}

int sim_fault_copy_files(struct sim *sim, const struct sim_fault *fault)
{
	return sim_operator_copy(sim, sim_fault_which(sim, fault), fault->b);
}

int sim_fault_mistake(struct sim *sim, const struct sim_fault *fault)
{
	unsigned leader = sim_fault_leader(sim);
	unsigned member = fault->c % 2 == 0 && leader < sim_members(sim) ? leader : sim_fault_which(sim, fault);
	return sim_operator_mistake(sim, member, fault->b);
}

int sim_fault_bootstrap(struct sim *sim, const struct sim_fault *fault)
{
	return sim_operator_bootstrap(sim, sim->founded ? sim_fault_which(sim, fault) : 0);
}

/* The table ---------------------------------------------------------------------------------------------- */

int sim_fault_run(struct sim *sim, const struct sim_fault *fault)
{
	static int (*const table[SIM_FAULT_KINDS])(struct sim *, const struct sim_fault *) = {
#define SIM_FAULT_FUNCTION(kind, every_low_us, every_high_us, chance) [SIM_FAULT_##kind] = sim_fault_##kind,
		SIM_FAULTS(SIM_FAULT_FUNCTION)
#undef SIM_FAULT_FUNCTION
	};
	raft_assert(fault->kind < SIM_FAULT_KINDS);
	if (!sim->founded && sim->plan.early_faults == 0)
		return 0;
	return table[fault->kind](sim, fault);
}

static void resume(struct sim *sim, unsigned member)
{
	if (!sim->members[member].paused)
		return;
	sim_member_resume(sim, member);
}

void sim_fault_event(struct sim *sim, const struct sim_event *event)
{
	struct sim_member *member = &sim->members[event->member];
	switch ((enum later)event->len) {
	case LATER_RESTART:
		if (!member->up && !member->lost && member->life == event->life)
			sim_member_start(sim, event->member);
		return;
	case LATER_REMOVE:
		if (!sim->calm)
			(void)sim_fault_remove(sim, event->member);
		return;
	case LATER_RESUME:
		if (member->life == event->life)
			resume(sim, event->member);
		return;
	case LATER_STEP:
		if (!sim->calm)
			sim_fault_step(sim, event->member, event->number);
		return;
	case LATER_ERRAND:
		if (!sim->calm)
			sim_operator_step(sim, event->number);
		return;
	case LATER_PLACE:
		if (!sim->calm)
			sim_fault_place_step(sim, event->member, event->number);
		return;
	case LATER_IDLE:
		if (!sim->calm)
			sim_fault_idle_step(sim, event->member, event->number);
		return;
	case LATER_FORMER:
		if (!sim->calm)
			sim_fault_former_step(sim, event->member, event->number);
		return;
	case LATER_CUT:
	case LATER_HEAL:
		if (!sim->calm)
			sim_network_cut(sim, event->number, (enum later)event->len == LATER_CUT);
		return;
	}
}

/* It must be found in the calm, too; but not in a trial, which asks for peace. */
static void calm_state(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	struct raft_status status;
	if (!member->up || !member->wrong_state)
		return;
	raft_get_status(replica_core(member->replica), &status);
	member->wrong_since = status.commit;
	if (sim->plan.trial != 0)
		sim_member_crash(sim, number, SIM_KILL);
}

/* A leader without a newer one would offer it for ever: its operator reads in the others' journals what to do. */
static void calm_snapshots(struct sim *sim, unsigned number)
{
	const struct sim_shadow *shadow = &sim->checks->members[number].shadow;
	const struct sim_member *member = &sim->members[number];
	if (member->up && (member->spoilt || sim_snapshot_newest_good(shadow) < sim_snapshot_newest(shadow)))
		sim_member_crash(sim, number, SIM_KILL);
}

static void calm_member(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	calm_state(sim, number);
	calm_snapshots(sim, number);
	int64_t drift = member->clock.drift_ppm % DRIFT_CALM_PPM;
	member->disk_faults = (struct sim_disk_faults){0};
	member->doom = (struct sim_doom){0};
	member->slow_until_us = 0;
	member->no_connections_until_us = 0;
	sim_platter_calm(member->disk_files);
	/* Somebody made it a member before it started for the first time, and was about to start it: no later than now. */
	bool is_due = member->absent && !member->removed && ((sim->committed.members >> number) & 1) != 0;
	if (!member->up && !member->lost && (is_due || sim_fault_is_present(sim, number)))
		sim_member_start(sim, number);
	resume(sim, number);
	sim_clock_set(sim, number, drift, 0);
}

void sim_faults_calm(struct sim *sim)
{
	sim_network_heal(sim);
	sim_levels_calm(sim);
	for (unsigned k = 0; k < sim_members(sim); k++)
		calm_member(sim, k);
}
