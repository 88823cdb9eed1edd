/*
 * A member that must stop has stopped: whatever it is asked until its process ends, it says why, and does nothing. So does its log
 * when the disk has failed.
 */
#include "check.h"

#include "daemon/storage/snapshots.h"

#include <inttypes.h>

static void check_answer(const struct sim *sim, unsigned number, const char *what, int said, int why)
{
	if (said != why)
		sim_fail(sim, "member %u must stop for %d, and says %d when it is asked for %s", number + 1, why, said,
			 what);
}

static void check_refusals(const struct sim *sim, unsigned number, int why)
{
	struct replica *replica = sim->members[number].replica;
	const uint8_t byte = 0;
	const struct replicator_command command = {.data = &byte, .size = 1};
	const struct replicator_change change = {.type = REPLICATOR_REMOVE, .id = number + 1};
	uint64_t now_us = sim_clock_us(sim, number), wall_ms = sim_clock_wall_ms(sim, number), index = 0;
	check_answer(sim, number, "a turn", replica_process(replica, now_us, wall_ms), why);
	check_answer(sim, number, "a write", replica_propose(replica, &command, 1, 1, now_us, wall_ms), why);
	check_answer(sim, number, "a read", replica_read(replica, 1, now_us), why);
	check_answer(sim, number, "a hand-over", replica_transfer(replica, 0, now_us), why);
	check_answer(sim, number, "a change", replica_change(replica, &change, now_us, wall_ms, &index), why);
	check_answer(sim, number, "a cluster", replica_bootstrap(replica, now_us, wall_ms), why);
	check_answer(sim, number, "a snapshot", replica_snapshot(replica), why);
}

static void check_log(const struct sim *sim, unsigned number)
{
	struct storage *storage = replica_storage(sim->members[number].replica);
	const struct storage_write write = {.seq = UINT64_MAX, .term = 1};
	const struct storage_snapshot_begin begin = {.index = UINT64_MAX, .term = 1};
	const uint8_t byte = 0;
	size_t taken = 0;
	uint64_t offset = 0;
	int why = storage_process(storage, sim_clock_us(sim, number));
	if (why >= 0)
		sim_fail(sim, "the disk of member %u has failed, and its log goes on", number + 1);
	check_answer(sim, number, "an entry", storage_append(storage, &write), why);
	check_answer(sim, number, "less log", storage_compact(storage, UINT64_MAX, 1), why);
	check_answer(sim, number, "a file", storage_snapshot_begin(storage, &begin), why);
	check_answer(sim, number, "more of it", storage_snapshot_write(storage, &byte, 1, &taken), why);
	check_answer(sim, number, "all of it", storage_snapshot_finish(storage), why);
	check_answer(sim, number, "another's file", storage_receive_begin(storage, UINT64_MAX, 1, &offset), why);
	check_answer(sim, number, "more of that", storage_receive_write(storage, 0, &byte, 1, &taken), why);
}

void sim_check_stopped(struct sim *sim, unsigned number, int why)
{
	check_refusals(sim, number, why);
	if (sim_platter_failed(sim->members[number].disk_files))
		check_log(sim, number);
}
