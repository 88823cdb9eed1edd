/*
 * What each kind of fault does. A fault makes its choices from its own numbers and the state of the world, never from a
 * shared generator, so that leaving one fault out changes the others little. By convention a says which, b how, c how long.
 */
#include "fault_steps.h"

#include "daemon/assert.h"
#include "kv/admin.h"

#define MILLISECOND 1000u
#define SECOND 1000000u
#define DRIFT_WITHIN_PPM 200000 /* the bound that is configured; beyond it, in a share of the faults: */
#define DRIFT_BEYOND_PPM 500000
#define DRIFT_CALM_PPM 10000

/* Events of faults under way ---------------------------------------------------------------------------- */

/* What an event means: its `len`. Its `number` is what it is about. */
enum later {
	LATER_RESTART, /* the member starts again */
	LATER_REMOVE,  /* the member is to be removed from the cluster */
	LATER_RESUME,  /* the member's pause ends */
	LATER_CUT,     /* the links in number are cut … */
	LATER_HEAL,    /* … and open again */
	LATER_STEP,    /* of a fault in several steps */
	LATER_ERRAND,  /* an operator asks for the next page */
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

void sim_fault_errand(struct sim *sim, uint64_t delay_us, uint64_t errand)
{
	later(sim, delay_us, LATER_ERRAND, 0, errand);
}

void sim_fault_restart(struct sim *sim, unsigned member, uint64_t delay_us)
{
	later(sim, delay_us, LATER_RESTART, member, 0);
}

/* Choices ----------------------------------------------------------------------------------------------- */

/* There is a machine, and a member that may run on it. */
static bool is_present(const struct sim *sim, unsigned member)
{
	return !sim->members[member].absent && (!sim->members[member].removed || sim->members[member].up);
}

/* One of those whose bit is set; sim_members() when there is none. */
static unsigned any_of(const struct sim *sim, uint64_t members, uint64_t number)
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

static unsigned which(const struct sim *sim, const struct sim_fault *fault)
{
	uint64_t present = 0;
	for (unsigned k = 0; k < sim_members(sim); k++)
		if (is_present(sim, k))
			present |= (uint64_t)1 << k;
	unsigned member = any_of(sim, present, fault->a);
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

static uint64_t down_time(uint64_t number)
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

/* How much loss the cluster bears ----------------------------------------------------------------------- */

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
static bool cluster_bears(const struct sim *sim, unsigned lost, unsigned removed)
{
	if (sim->committed.index == 0 || !view_bears(sim, &sim->committed, lost, removed))
		return false;
	for (unsigned k = 0; k < sim_members(sim); k++)
		if (sim->members[k].view.index > sim->committed.index &&
		    !view_bears(sim, &sim->members[k].view, lost, removed))
			return false;
	return true;
}

#define NOBODY SIM_MEMBERS_MAX

/* Faults that may cost a member its data never hit so many that a majority is gone. */
static bool may_lose(struct sim *sim, unsigned member)
{
	return sim->founded && is_present(sim, member) && cluster_bears(sim, member, NOBODY);
}

/* Members ----------------------------------------------------------------------------------------------- */

static int crash(struct sim *sim, unsigned member, enum sim_crash how, uint64_t down_us)
{
	if (sim->members[member].up) {
		sim_member_crash(sim, member, how);
		sim_fault_restart(sim, member, down_us);
		return 1;
	}
	/* The machine of a dead process goes down, too: what it left in the page cache is lost. */
	if (how == SIM_KILL || sim->members[member].lost || !is_present(sim, member))
		return 0;
	sim_platter_crash(sim->members[member].disk_files, how);
	sim_clock_reset(sim, member);
	sim->counts.powerless++;
	return 1;
}

static int fault_kill(struct sim *sim, const struct sim_fault *fault)
{
	return crash(sim, which(sim, fault), SIM_KILL, down_time(fault->c));
}

static int fault_power_cut(struct sim *sim, const struct sim_fault *fault)
{
	return crash(sim, which(sim, fault), SIM_POWER_CUT, down_time(fault->c));
}

/* All, or any majority; they come back one by one, or together. */
static int fault_power_cut_many(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->c};
	uint64_t n = sim_members(sim);
	uint64_t spared = fault->b % 2 == 0 ? 0 : fault->b / 2 % (n - n / 2);
	int any = 0;
	for (unsigned k = 0; k < n; k++) {
		unsigned member = (unsigned)((k + fault->a) % n);
		uint64_t down_us = fault->b % 3 == 0 ? down_time(fault->c) : down_time(sim_random_u64(&random));
		if (k >= spared)
			any |= crash(sim, member, SIM_POWER_CUT, down_us);
	}
	return any;
}

/* Dies at one of its next disk or network operations: in the middle of a turn. */
static int fault_crash_within(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_member *member = &sim->members[which(sim, fault)];
	if (!member->up || member->doom.armed)
		return 0;
	member->doom = (struct sim_doom){.armed = true,
					 .in_recovery = member->doom.in_recovery,
					 .how = fault->b % 2 == 0 ? SIM_KILL : SIM_POWER_CUT,
					 .operations_left = sim_fault_span(fault->b, 0, 200),
					 .down_us = down_time(fault->c)};
	return 1;
}

static void die_in_recovery(struct sim *sim, unsigned member, uint64_t number, uint64_t down_us)
{
	sim->members[member].doom = (struct sim_doom){.in_recovery = true,
						      .how = number % 2 == 0 ? SIM_KILL : SIM_POWER_CUT,
						      .operations_left = number / 4 % 6,
						      .down_us = down_us};
}

/* Dies now, and again at one of the first operations of its next start. */
static int fault_crash_in_recovery(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = which(sim, fault);
	if (!sim->members[member].up)
		return 0;
	(void)crash(sim, member, fault->b % 4 < 2 ? SIM_KILL : SIM_POWER_CUT, down_time(fault->c));
	die_in_recovery(sim, member, fault->b, down_time(~fault->c));
	return 1;
}

static int fault_long_absence(struct sim *sim, const struct sim_fault *fault)
{
	return crash(sim, which(sim, fault), fault->b % 2 == 0 ? SIM_KILL : SIM_POWER_CUT,
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

static int fault_pause(struct sim *sim, const struct sim_fault *fault)
{
	return sim_fault_stop(sim, which(sim, fault), fault->b % 2 == 0, sim_fault_span(fault->c, MILLISECOND, 10 * SECOND));
}

static int fault_slow(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_member *member = &sim->members[which(sim, fault)];
	member->slow_us = sim_fault_span(fault->b, 100, 30 * MILLISECOND);
	member->slow_until_us = sim->now_us + sim_fault_span(fault->c, 100 * MILLISECOND, 10 * SECOND);
	return 1;
}

static int fault_transfer(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = fault->c % 2 == 0 ? sim_fault_leader(sim) : which(sim, fault);
	if (member == sim_members(sim) || !sim->members[member].up || sim->members[member].paused)
		return 0;
	sim_operator_transfer(sim, member, fault->b % (sim_members(sim) + 2), fault->a);
	return 1;
}

/* Clocks ------------------------------------------------------------------------------------------------ */

/* Leases are safe as long as no clock drifts by more than it is said to, and unless a run is to show just that. */
static bool clocks_matter(const struct sim *sim)
{
	return sim->plan.lease_drift_ppm > 0 && sim->plan.clocks_beyond == 0;
}

static int fault_drift(struct sim *sim, const struct sim_fault *fault)
{
	int64_t bound = fault->b % 5 == 0 ? DRIFT_BEYOND_PPM : DRIFT_WITHIN_PPM;
	if (clocks_matter(sim))
		bound = (int64_t)sim->plan.lease_drift_ppm;
	int64_t drift = (int64_t)(fault->c % (uint64_t)(2 * bound + 1)) - bound;
	if (clocks_matter(sim) && fault->b % 2 == 0)
		drift = drift < 0 ? -bound : bound;
	sim_note(sim, "the clock of %u drifts by %lld ppm", which(sim, fault) + 1, (long long)drift);
	sim_clock_set(sim, which(sim, fault), drift, 0);
	return 1;
}

/* To seconds or hours before or behind the true time. */
static int fault_wall_jump(struct sim *sim, const struct sim_fault *fault)
{
	int64_t offset_ms = (int64_t)sim_fault_span(fault->c, 100, 24u * 3600u * 1000u);
	struct sim_member *member = &sim->members[which(sim, fault)];
	member->clock.wall_offset_ms = fault->b % 2 == 0 ? offset_ms : -offset_ms;
	return 1;
}

/* The machine slept: the monotonic clock is ahead at once. */
static int fault_leap(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = which(sim, fault);
	uint64_t span_us = sim_fault_span(fault->c, 10 * MILLISECOND, 60 * SECOND);
	if (clocks_matter(sim)) /* that long it does sleep, while the others go on */
		return sim_fault_stop(sim, member, fault->b % 2 == 0, span_us);
	sim_clock_set(sim, member, sim->members[member].clock.drift_ppm, span_us);
	return 1;
}

/* Network ----------------------------------------------------------------------------------------------- */

void sim_fault_cut(struct sim *sim, uint64_t links, uint64_t delay_us, uint64_t span_us)
{
	if (delay_us == 0)
		sim_network_cut(sim, links, true);
	else
		later(sim, delay_us, LATER_CUT, 0, links);
	later(sim, delay_us + span_us, LATER_HEAL, 0, links);
}

/* The links from members of one set to members of another. */
static uint64_t links_between(const struct sim *sim, uint64_t from, uint64_t to)
{
	uint64_t links = 0;
	for (unsigned a = 0; a < sim_members(sim); a++)
		for (unsigned b = 0; b < sim_members(sim); b++)
			if (a != b && ((from >> a) & 1) != 0 && ((to >> b) & 1) != 0)
				links |= SIM_LINK_BIT(a, b);
	return links;
}

/* 0: from one side to the other, 1: back, else both. */
uint64_t sim_fault_links(const struct sim *sim, uint64_t one, uint64_t other, uint64_t direction)
{
	uint64_t links = direction == 1 ? 0 : links_between(sim, one, other);
	return direction == 0 ? links : links | links_between(sim, other, one);
}

static uint64_t cut_span(uint64_t number)
{
	return sim_fault_span(number, 20 * MILLISECOND, 8 * SECOND);
}

static int fault_partition(struct sim *sim, const struct sim_fault *fault)
{
	uint64_t links = sim_fault_links(sim, fault->a, ~fault->a, fault->b % 4);
	sim_note(sim, "partition %llx", (unsigned long long)links);
	sim_fault_cut(sim, links, 0, cut_span(fault->c));
	return links != 0;
}

/* A single link one way, or any set of links. */
static int fault_links(struct sim *sim, const struct sim_fault *fault)
{
	unsigned from = which(sim, fault);
	unsigned to = (unsigned)(fault->b / 4 % sim_members(sim));
	uint64_t links = fault->b % 2 == 0 ? SIM_LINK_BIT(from, to) : links_between(sim, ~0u, ~0u) & fault->b / 4;
	sim_note(sim, "links %llx are cut", (unsigned long long)links);
	sim_fault_cut(sim, links, 0, cut_span(fault->c));
	return links != 0;
}

/* Two groups that have only one member in common. */
static int fault_bridge(struct sim *sim, const struct sim_fault *fault)
{
	uint64_t bridge = (uint64_t)1 << which(sim, fault);
	uint64_t links = sim_fault_links(sim, fault->b & ~bridge, ~fault->b & ~bridge, 2);
	sim_note(sim, "only %u joins the two sides: links %llx are cut", which(sim, fault) + 1,
		 (unsigned long long)links);
	sim_fault_cut(sim, links, 0, cut_span(fault->c));
	return links != 0;
}

/* A link, or all of a member, opens and closes for seconds. */
static int fault_flapping(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	uint64_t member = (uint64_t)1 << which(sim, fault);
	uint64_t peers = sim_random_below(&random, 2) == 0 ? ~member : sim_random_u64(&random);
	uint64_t links = sim_fault_links(sim, member, peers & ~member, sim_random_below(&random, 3));
	uint64_t end_us = sim_fault_span(fault->c, 500 * MILLISECOND, 8 * SECOND);
	for (uint64_t at = 0; at < end_us;) {
		uint64_t closed_us = 10 * MILLISECOND + sim_random_below(&random, 290 * MILLISECOND);
		sim_fault_cut(sim, links, at, closed_us);
		at += closed_us + 10 * MILLISECOND + sim_random_below(&random, 290 * MILLISECOND);
	}
	return links != 0;
}

/* The leader hears but is not heard, is heard but does not hear, or neither; by all, or by some. */
static int fault_isolate_leader(struct sim *sim, const struct sim_fault *fault)
{
	unsigned leader = sim_fault_leader(sim);
	if (leader == sim_members(sim))
		return 0;
	uint64_t peers = fault->a % 3 == 0 ? fault->a / 3 : ~0u;
	uint64_t links = sim_fault_links(sim, (uint64_t)1 << leader, peers, fault->b % 3);
	sim_note(sim, "leader %u is isolated: links %llx are cut", leader + 1, (unsigned long long)links);
	sim_fault_cut(sim, links, 0, cut_span(fault->c));
	return links != 0;
}

/* Links are cut one by one, and healed in another order. */
static int fault_swizzle(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	uint64_t step_us = sim_fault_span(fault->c, 5 * MILLISECOND, 500 * MILLISECOND);
	uint64_t longest_us = 0;
	for (unsigned k = 0; k < sim_members(sim); k++) {
		uint64_t member = (uint64_t)1 << k;
		if (((fault->a >> k) & 1) == 0)
			continue;
		longest_us += step_us;
		uint64_t delay_us = 1 + sim_random_below(&random, longest_us);
		uint64_t more_us = sim_random_below(&random, step_us * sim_members(sim));
		sim_fault_cut(sim, sim_fault_links(sim, member, ~member, 2), delay_us, step_us * sim_members(sim) + more_us);
	}
	return longest_us > 0;
}

/* Transports report connections that come and go, in any order, whatever the truth is. */
static int fault_false_peer_events(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	unsigned member = which(sim, fault);
	for (uint64_t n = 1 + fault->c % 6; n > 0; n--) {
		unsigned peer = (unsigned)sim_random_below(&random, sim_members(sim));
		bool up = sim_random_below(&random, 2) == 0; /* one draw a statement: C leaves their order open */
		uint64_t delay_us = sim_random_below(&random, 50 * MILLISECOND);
		if (peer != member)
			sim_network_peer_event(sim, member, peer, up, delay_us);
	}
	return sim->members[member].up;
}

static int fault_replay(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	sim_network_replay(sim, &random);
	return 1;
}

static int fault_forge(struct sim *sim, const struct sim_fault *fault)
{
	unsigned to = which(sim, fault);
	return sim_forge(sim, (unsigned)(fault->c % sim_members(sim)), to, fault->b);
}

/* Disks ------------------------------------------------------------------------------------------------- */

static int fault_disk_stall(struct sim *sim, const struct sim_fault *fault)
{
	sim->members[which(sim, fault)].disk_faults.stall_until_us =
		sim->now_us + sim_fault_span(fault->c, 50 * MILLISECOND, 10 * SECOND);
	return 1;
}

/* One disk or all; for a while or as long as there are faults. */
static int fault_disk_full(struct sim *sim, const struct sim_fault *fault)
{
	bool all = fault->b % 4 == 0;
	uint64_t until_us = sim->now_us + sim_fault_span(fault->c, 100 * MILLISECOND, 20 * SECOND);
	for (unsigned k = 0; k < sim_members(sim); k++)
		if (all || k == which(sim, fault))
			sim->members[k].disk_faults.full_until_us = fault->b / 4 % 8 == 0 ? UINT64_MAX : until_us;
	sim_note(sim, "disk full: %s", all ? "all" : "one");
	return 1;
}

static int fault_disk_error(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_disk_faults *faults = &sim->members[which(sim, fault)].disk_faults;
	faults->fail_jobs = 1 + (fault->c % 4 == 0);
	faults->fail_in_sync = fault->b % 2 == 0;
	return 1;
}

/* Reads are rare while a member runs: in half of the cases it starts again and has to. */
static int fault_read_error(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = which(sim, fault);
	sim->members[member].disk_faults.fail_reads = 1 + (fault->b / 2 % 4 == 0);
	if (fault->b % 2 == 0)
		(void)crash(sim, member, SIM_KILL, down_time(fault->c));
	return 1;
}

/* Rather on a leader, which reads old entries for those that lag behind. */
static int fault_bit_rot(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	unsigned leader = sim_fault_leader(sim);
	unsigned member = fault->b % 2 == 0 && leader < sim_members(sim) ? leader : which(sim, fault);
	int any = 0;
	if (!may_lose(sim, member))
		return 0;
	sim->members[member].expendable = true;
	for (uint64_t n = 1 + fault->c % 16; n > 0; n--)
		any |= sim_platter_rot(sim->members[member].disk_files, &random);
	if (!any || fault->b / 2 % 2 != 0 || !sim->members[member].up)
		return any;
	(void)crash(sim, member, SIM_KILL, down_time(fault->a)); /* it reads everything when it starts … */
	if (fault->b / 4 % 4 == 0)
		die_in_recovery(sim, member, fault->b / 16, down_time(fault->c)); /* … and may die while it heals */
	return any;
}

/* The record that was written last, and that nobody can tell from a torn one then. */
static int fault_newest_rot(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_random random = {fault->b};
	unsigned member = which(sim, fault);
	if (!may_lose(sim, member) || crash(sim, member, SIM_POWER_CUT, down_time(fault->c)) == 0 ||
	    !sim_platter_rot_newest(sim->members[member].disk_files, &random))
		return 0;
	sim->members[member].expendable = true;
	return 1;
}

static int fault_misdirected_write(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = which(sim, fault);
	if (!may_lose(sim, member))
		return 0;
	sim->members[member].expendable = true;
	sim->members[member].disk_faults.misdirect = true;
	return 1;
}

/* Rather one that refuses to start for its damage: as an operator would. It comes back by itself under a new incarnation. */
static int fault_depose(struct sim *sim, const struct sim_fault *fault)
{
	return sim_fault_depose(sim, fault);
}

static int fault_stop_leader(struct sim *sim, const struct sim_fault *fault)
{
	return sim_fault_stop_leader(sim, fault);
}

static int fault_usurp(struct sim *sim, const struct sim_fault *fault)
{
	return sim_fault_usurp(sim, fault);
}

static int fault_slow_writer(struct sim *sim, const struct sim_fault *fault)
{
	return sim_fault_slow_writer(sim, fault);
}

static int fault_upgrade(struct sim *sim, const struct sim_fault *fault)
{
	return sim_fault_upgrade(sim, which(sim, fault), down_time(fault->c));
}

static int fault_downgrade(struct sim *sim, const struct sim_fault *fault)
{
	return sim_fault_downgrade(sim, which(sim, fault), down_time(fault->c));
}

static int fault_wipe(struct sim *sim, const struct sim_fault *fault)
{
	uint64_t damaged = 0;
	for (unsigned k = 0; k < sim_members(sim); k++)
		if (sim->members[k].lost)
			damaged |= (uint64_t)1 << k;
	unsigned number = damaged != 0 && fault->b % 4 != 0 ? any_of(sim, damaged, fault->a) : which(sim, fault);
	struct sim_member *member = &sim->members[number];
	if (!may_lose(sim, number))
		return 0;
	if (member->up)
		sim_member_crash(sim, number, SIM_POWER_CUT);
	sim_note(sim, "%u is wiped", number + 1);
	sim_platter_wipe(member->disk_files);
	member->promised_us = 0;
	member->lost = false;
	member->expendable = false;
	member->older_level = 0;
	member->incarnation = 0;
	member->view = (struct sim_view){0};
	member->disk_faults.misdirect = false;
	sim_fault_restart(sim, number, down_time(fault->c));
	return 1;
}

/* Membership -------------------------------------------------------------------------------------------- */

static int ask_leader(struct sim *sim, enum kv_change_type type, unsigned member, bool stay_learner)
{
	unsigned leader = sim_fault_leader(sim);
	struct kv_change change = {
		.type = (uint8_t)type, .flags = stay_learner ? KV_CHANGE_STAY_LEARNER : 0, .id = member + 1};
	if (leader == sim_members(sim))
		return 0;
	sim_endpoint_name(member, change.peer);
	(void)sim_operator_change(sim, leader, &change, sim->now_us);
	return 1;
}

/* A spare that has never been a member; it may start before or after it is made one. */
static int fault_member_add(struct sim *sim, const struct sim_fault *fault)
{
	uint64_t founders = ((uint64_t)1 << sim->plan.members) - 1;
	unsigned member = any_of(sim, ~founders & ~(uint64_t)sim->ever, fault->a);
	if (!sim->founded || member == sim_members(sim) || sim->members[member].expendable)
		return 0; /* damage that nobody minded while it did not belong to the cluster would count from now on */
	if (sim->members[member].absent && fault->b % 2 == 0)
		sim_member_start(sim, member);
	else if (sim->members[member].absent)
		sim_fault_restart(sim, member, down_time(fault->c));
	return ask_leader(sim, KV_CHANGE_ADD, member, fault->b / 2 % 4 == 0);
}

static int remove_member(struct sim *sim, unsigned member)
{
	uint32_t others = sim->committed.voters & ~(1u << member);
	if (((sim->committed.members >> member) & 1) == 0 || others == 0 || !cluster_bears(sim, NOBODY, member))
		return 0;
	return ask_leader(sim, KV_CHANGE_REMOVE, member, false);
}

/* Any member, or the leader, or one that is damaged for good. Down to one voter, but not often. */
static int fault_member_remove(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = fault->c % 3 == 0 ? sim_fault_leader(sim) : any_of(sim, sim->committed.members, fault->a);
	uint64_t voters = (uint64_t)__builtin_popcount(sim->committed.voters);
	if (!sim->founded || member == sim_members(sim) || (voters <= 3 && fault->b % 4 != 0))
		return 0;
	return remove_member(sim, member);
}

/* As operators do: the new one first, then the old one goes. */
static int fault_member_replace(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = any_of(sim, sim->committed.members, fault->c);
	if (!sim->founded || member == sim_members(sim) || fault_member_add(sim, fault) == 0)
		return 0;
	later(sim, sim_fault_span(fault->c, 50 * MILLISECOND, 5 * SECOND), LATER_REMOVE, member, 0);
	return 1;
}

static int fault_member_promote(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = any_of(sim, sim->committed.members & ~sim->committed.voters, fault->a);
	return member == sim_members(sim) ? 0 : ask_leader(sim, KV_CHANGE_PROMOTE, member, false);
}

static int fault_snapshot(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = which(sim, fault);
	if (!sim->members[member].up || sim->members[member].paused)
		return 0;
	sim_member_snapshot(sim, member);
	return 1;
}

/* A bit of its memory flips: what it has applied differs from what the others have, and it must be found before anybody is told. */
static int fault_wrong_state(struct sim *sim, const struct sim_fault *fault)
{
	unsigned number = which(sim, fault);
	if (!sim->founded || !sim->members[number].up)
		return 0;
	for (unsigned k = 0; k < sim_members(sim); k++)
		if (sim->members[k].wrong_state)
			return 0;
	sim_note(sim, "the state of %u is wrong", number + 1);
	sim->members[number].wrong_state = true;
	return 1;
}

/* Operators ------------------------------------------------------------------------------------------- */

static int fault_look(struct sim *sim, const struct sim_fault *fault)
{
	return sim_operator_look(sim, which(sim, fault), fault->b);
}

static int fault_errand(struct sim *sim, const struct sim_fault *fault)
{
	return sim_operator_begin(sim, which(sim, fault), fault->b);
}

static int fault_check_files(struct sim *sim, const struct sim_fault *fault)
{
	return sim_operator_check(sim, which(sim, fault));
}

static int fault_mistake(struct sim *sim, const struct sim_fault *fault)
{
	unsigned leader = sim_fault_leader(sim);
	unsigned member = fault->c % 2 == 0 && leader < sim_members(sim) ? leader : which(sim, fault);
	return sim_operator_mistake(sim, member, fault->b);
}

static int fault_bootstrap(struct sim *sim, const struct sim_fault *fault)
{
	return sim_operator_bootstrap(sim, sim->founded ? which(sim, fault) : 0);
}

/* The table --------------------------------------------------------------------------------------------- */

int sim_fault_run(struct sim *sim, const struct sim_fault *fault)
{
	static int (*const table[SIM_FAULT_KINDS])(struct sim *, const struct sim_fault *) = {
#define SIM_FAULT_FUNCTION(kind, every_low_us, every_high_us, chance) [SIM_FAULT_##kind] = fault_##kind,
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
			(void)remove_member(sim, event->member);
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

static void calm_member(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	calm_state(sim, number);
	int64_t drift = member->clock.drift_ppm % DRIFT_CALM_PPM;
	member->disk_faults = (struct sim_disk_faults){0};
	member->doom = (struct sim_doom){0};
	member->slow_until_us = 0;
	sim_platter_calm(member->disk_files);
	if (!member->up && !member->lost && is_present(sim, number))
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
