/* Faults of disks that cost no data: jobs that stall or fail, no room. What may cost some is in faults_loss.c. */
#include "fault_steps.h"

#define MILLISECOND 1000u
#define SECOND 1000000u

int sim_fault_disk_stall(struct sim *sim, const struct sim_fault *fault)
{
	sim->members[sim_fault_which(sim, fault)].disk_faults.stall_until_us =
		sim->now_us + sim_fault_span(fault->c, 50 * MILLISECOND, 10 * SECOND);
	return 1;
}

/* One disk or all; for a while or as long as there are faults. */
int sim_fault_disk_full(struct sim *sim, const struct sim_fault *fault)
{
	bool all = fault->b % 4 == 0;
	uint64_t until_us = sim->now_us + sim_fault_span(fault->c, 100 * MILLISECOND, 20 * SECOND);
	for (unsigned k = 0; k < sim_members(sim); k++)
		if (all || k == sim_fault_which(sim, fault))
			sim->members[k].disk_faults.full_until_us = fault->b / 4 % 8 == 0 ? UINT64_MAX : until_us;
	sim_note(sim, "disk full: %s", all ? "all" : "one");
	return 1;
}

int sim_fault_disk_error(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_disk_faults *faults = &sim->members[sim_fault_which(sim, fault)].disk_faults;
	faults->fail_jobs = 1 + (fault->c % 4 == 0);
	faults->fail_in_sync = fault->b % 2 == 0;
	return 1;
}

/* Reads are rare while a member runs: in half of the cases it starts again and has to. */
int sim_fault_read_error(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = sim_fault_which(sim, fault);
	sim->members[member].disk_faults.fail_reads = 1 + (fault->b / 2 % 4 == 0);
	if (fault->b % 2 == 0)
		(void)sim_fault_crash(sim, member, SIM_KILL, sim_fault_down_time(fault->c));
	return 1;
}

/* Its next start fails at any of its operations. */
int sim_fault_start_error(struct sim *sim, const struct sim_fault *fault)
{
	unsigned member = sim_fault_which(sim, fault);
	struct sim_disk_faults *faults = &sim->members[member].disk_faults;
	faults->start_fails_at = 1 + sim_fault_span(fault->b, 0, 100);
	faults->fail_in_sync = fault->b % 2 == 0;
	(void)sim_fault_crash(sim, member, fault->b % 4 < 2 ? SIM_KILL : SIM_POWER_CUT, sim_fault_down_time(fault->c));
	return 1;
}

/* A disk fails in the middle of a turn, and not between two. */
int sim_fault_error_within(struct sim *sim, const struct sim_fault *fault)
{
	struct sim_disk_faults *faults = &sim->members[sim_fault_which(sim, fault)].disk_faults;
	faults->fail_submits = 1 + (unsigned)(fault->c % 20);
	faults->fail_in_sync = fault->b % 2 == 0;
	return 1;
}
