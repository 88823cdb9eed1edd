/*
 * The newest record of a log is proved by whatever follows it: without that, damage to it passes for a torn write, and what it says is
 * forgotten. So an idle log gets a record behind its last entries, and behind the record with which it began anew, a moment later.
 *
 * Judged by the platter, when everything that the disk was asked for is done. Must not know when the storage would write it.
 */
#include "check.h"

#define PATIENCE_US 1500000u /* a tenth of a second, of a clock that may drift, and a slow disk */

/* Nothing of all that may hold it up does. */
static bool may_write(struct sim *sim, unsigned number)
{
	const struct sim_member *member = &sim->members[number];
	const struct storage *storage = replica_storage(member->replica);
	struct storage_stats stats;
	storage_get_stats(storage, &stats);
	return sim_member_listens(sim, number) && !member->dying && storage_has_room(storage) &&
	       stats.queued_bytes == 0 && !sim_platter_writes_log(member->disk_files) &&
	       !sim_platter_excused(member->disk_files) &&
	       sim->now_us >= member->disk_faults.stall_until_us + PATIENCE_US &&
	       sim->now_us >= member->disk_faults.slow_until_us + PATIENCE_US &&
	       sim->now_us >= member->slow_until_us + PATIENCE_US && sim->now_us >= member->went_on_us + PATIENCE_US;
}

void sim_check_proved(struct sim *sim, unsigned number)
{
	const struct sim_shadow *shadow = &sim->checks->members[number].shadow;
	uint64_t segment_size = sim->plan.segment_pages * 4096;
	if (sim->checks->members[number].retired || shadow->newest == 0 ||
	    (shadow->newest_entries == 0 && !shadow->newest_resets) || sim->now_us < shadow->newest_us + PATIENCE_US ||
	    shadow->offset + FORMAT_RECORD_MIN > segment_size || !may_write(sim, number))
		return; /* where no record fits it would take a segment: the next one has to do */
	sim_fail(sim, "member %u: nothing proves the newest record of its log, at %llu, and it is idle", number + 1,
		 (unsigned long long)shadow->newest);
}
