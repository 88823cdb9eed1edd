/*
 * Entries that were good when they were written and can no longer be read (DESIGN.md, rule 4).
 *
 * What is applied already is in the state machine: a snapshot of it, taken now, makes the damaged entries superfluous. The log
 * is compacted up to that snapshot, the newest one, and whoever needed those entries is sent the snapshot: this
 * member heals itself. A second one follows when all that the log held then is applied, and takes the place of what else may
 * be damaged; the first does not wait for that, for whoever needs it may be needed to commit. Entries that are not applied
 * yet it cannot do without: then it stops, and heals from the others when it is started again (start.c).
 */
#include "replica_internal.h"

#include <errno.h>
#include <string.h>

static void stop(struct replica *replica, uint64_t index, int error)
{
	replica_log(
		replica, 2, "damaged",
		"entry %llu, which is not applied yet, cannot be read back: %s. This member stops; started again, it "
		"heals from the others",
		(unsigned long long)index, storage_damage(replica->storage));
	replica->failed = error == STORAGE_E_CORRUPT ? REPLICATOR_E_DAMAGED : error;
}

void replica_on_unreadable(struct replica *replica, uint64_t index, int error)
{
	struct raft_status status;
	if (error != STORAGE_E_CORRUPT && error != -EIO) {
		replica_log(replica, 3, "log-unreadable", "cannot read entry %llu now: %s", (unsigned long long)index,
			    error > 0 ? storage_result_name(error) : strerror(-error));
		return; /* no memory: it is tried again */
	}
	if (index > replica->applied || replica->machine->snapshot_take == NULL) {
		stop(replica, index, error);
		return;
	}
	if (index > replica->damaged_at)
		replica->damaged_at = index;
	if (index <= replica->damaged_until)
		return;
	raft_get_own_status(replica->core, &status);
	replica->damaged_until = status.last_index;
	replica_log(
		replica, 2, "damaged",
		"entry %llu cannot be read back: %s. It is applied: a new snapshot replaces the log up to entry %llu",
		(unsigned long long)index, storage_damage(replica->storage),
		(unsigned long long)replica->damaged_until);
}
