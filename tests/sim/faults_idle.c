/*
 * A log that begins anew behind a snapshot and then stays as it is: a follower is cut off until its leader's log does not lead to it any
 * more, and when it comes back the snapshot that it gets is all that there is, for no client asks for anything.
 */
#include "fault_steps.h"

#define MILLISECOND 1000u
#define SECOND 1000000u
#define IDLE_US (4 * SECOND) /* from when it is back */
#define BURST 8u
#define BURST_SIZE 64u

/* One after another; a step's number. Of the two snapshots the leader keeps its log back to the older one. */
enum step {
	STEP_FIRST,    /* the leader writes a snapshot … */
	STEP_MORE,     /* … a few entries … */
	STEP_SILENCE,  /* … its clients fall silent … */
	STEP_SNAPSHOT, /* … and it writes another one */
	STEP_TALK,
};
#define STEP_US (400 * MILLISECOND)
#define AWAY_US ((STEP_SNAPSHOT + 2) * STEP_US)

int sim_fault_idle_install(struct sim *sim, const struct sim_fault *fault)
{
	unsigned leader = sim_fault_leader(sim);
	if (leader == sim_members(sim) || !sim->founded || sim->silent)
		return 0;
	unsigned member = sim_fault_any_of(sim, sim->committed.members & ~(1u << leader), fault->a);
	if (member == sim_members(sim) || !sim->members[member].up)
		return 0;
	uint64_t one = (uint64_t)1 << member;
	sim_note(sim, "%u is to install a snapshot and nothing else", member + 1);
	sim_fault_cut(sim, sim_fault_between(sim, one, ~one, 2), 0, AWAY_US);
	sim_client_burst(sim, leader, BURST, BURST_SIZE);
	for (unsigned step = STEP_FIRST; step <= STEP_SNAPSHOT; step++)
		sim_fault_idle_later(sim, (step + 1) * STEP_US, leader, step);
	sim_fault_idle_later(sim, AWAY_US + IDLE_US, leader, STEP_TALK);
	return 1;
}

void sim_fault_idle_step(struct sim *sim, unsigned member, uint64_t number)
{
	bool listens = sim_fault_leader(sim) == member && sim_member_listens(sim, member);
	switch ((enum step)number) {
	case STEP_FIRST:
	case STEP_SNAPSHOT:
		if (listens)
			sim_member_snapshot(sim, member);
		return;
	case STEP_MORE:
		if (listens)
			sim_client_burst(sim, member, BURST, BURST_SIZE);
		return;
	case STEP_SILENCE:
		if (listens)
			sim_clients_silence(sim);
		return;
	case STEP_TALK:
		sim_fault_talk(sim);
		return;
	}
}
