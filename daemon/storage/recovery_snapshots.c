/*
 * Opening: the snapshots, and whether they and the log make a whole.
 *
 * All of the newest one is read and verified: what the member starts from must be good, and if it is not, the one before
 * may be, as long as the log still reaches back to it.  That holds for one that the disk does not let us read, too: disks and
 * file systems with checksums report their own damage that way, and a member that starts from the one before, or from the log,
 * has all that it ever promised: nobody counts a snapshot before the log begins behind it.  And for one that is whole, but that
 * the owner refuses, who has looked at the state in it and opened the directory once more.  Of those behind a good one only the headers are read: they are
 * verified when they are needed.
 */
#include "daemon/storage/recovery.h"

#include "daemon/assert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int read_snapshot(struct recovery *recovery, const struct file *file)
{
	struct storage *storage = recovery->storage;
	bool is_spare = recovery->snapshot_index > 0; /* a newer one is good */
	struct snapshot_verdict verdict =
		snapshot_verify(storage->disk, file->name, file->size, is_spare ? SNAPSHOT_HEADER : SNAPSHOT_WHOLE);
	const struct snapshot_header *header = &verdict.parser.header;
	if (verdict.result == -ENOMEM || verdict.result == STORAGE_E_VERSION)
		return recovery_refuse(recovery, verdict.result, file->name, verdict.parser.chain.offset, "%s",
				       verdict.what);
	if (verdict.result == 0 && header->cluster_id != storage->options.cluster_id)
		return recovery_refuse(recovery, STORAGE_E_WRONG_CLUSTER, file->name, 0,
				       "belongs to cluster %016" PRIx64 ", this member to %016" PRIx64
				       "; check the cluster's name and the data directory",
				       header->cluster_id, storage->options.cluster_id);
	if (verdict.result == 0) {
		int r = recovery_check_level(recovery, file->name, 0, header->level);
		if (r != 0)
			return r;
	}
	if (verdict.result == 0 && header->index != file->number) {
		verdict.result = STORAGE_E_CORRUPT;
		verdict.what = "holds another snapshot";
		verdict.parser.chain.offset = 0;
	}
	bool is_refused = verdict.result == 0 && storage->options.unusable_from > 0 &&
			  file->number >= storage->options.unusable_from;
	if (verdict.result == 0 && recovery->whole_index == 0)
		recovery->whole_index = file->number;
	if (is_refused) {
		verdict.result = STORAGE_E_CORRUPT;
		verdict.what = "the file is as it was written, but the state machine refuses the state in it";
		verdict.parser.chain.offset = 0;
	}
	struct storage_snapshot snapshot = {.damaged = verdict.result != 0,
					    .distrusted = is_refused,
					    .info = {.index = file->number,
						     .term = header->term,
						     .config_index = header->config_index,
						     .config_size = header->config_size,
						     .level = header->level,
						     .payload_bytes = verdict.parser.chain.payload_bytes,
						     .file_bytes = file->size}};
	if (snapshots_reserve(storage) < 0)
		return recovery_refuse_error(recovery, file->name, 0, -ENOMEM);
	snapshots_add(storage, &snapshot);
	/* Of damage to the bytes, which may mean that something is lost, rather than that the owner refuses what they say. */
	if (snapshot.damaged && (!recovery->damaged || (recovery->damage_is_state && !is_refused && !is_spare))) {
		recovery->damaged = file;
		recovery->damage = verdict;
		recovery->damage_is_state = is_refused;
	}
	if (verdict.result < 0 && !is_spare && !recovery->unread) {
		recovery->unread = file;
		recovery->unread_verdict = verdict;
	}
	if (!snapshot.damaged && !is_spare)
		recovery->snapshot_index = snapshot.info.index;
	return 0;
}

int recovery_read_snapshots(struct recovery *recovery)
{
	const struct file *newest = NULL;
	int r = 0;
	for (size_t i = recovery->files.count; i-- > recovery->files.n_segments && r == 0;) {
		const struct file *file = &recovery->files.items[i]; /* the newest first */
		if (file->kind != FILE_SNAPSHOT)
			continue;
		newest = newest ? newest : file;
		r = read_snapshot(recovery, file);
	}
	/* They are read all the same: it may be another cluster's, or a newer program's, and it says who the members are. */
	if (r == 0 && newest && recovery->files.n_segments == 0)
		return recovery_refuse(recovery, STORAGE_E_CORRUPT, newest->name, 0,
				       "exists, but no segment: the log is lost, and with it what the member "
				       "promised to the others");
	return r;
}

int recovery_refuse_unread(struct recovery *recovery)
{
	return recovery_refuse_error(recovery, recovery->unread->name, recovery->unread_verdict.parser.chain.offset,
				     recovery->unread_verdict.result);
}

/* Does the log lead to the snapshot, or over it? */
static bool log_holds(const struct storage *storage, const struct storage_snapshot_info *info)
{
	if (info->index > storage_last_index(storage))
		return false;
	uint64_t term =
		info->index == storage->base_index ? storage->base_term : log_index_term(&storage->index, info->index);
	return term == info->term;
}

int recovery_judge_snapshots(struct recovery *recovery)
{
	struct storage *storage = recovery->storage;
	struct storage_state *state = recovery->state;
	struct storage_snapshot_info newest = {.index = 0};
	bool found = storage_snapshot_newest(storage, &newest);
	bool passed_over = recovery->damaged && recovery->damaged->number > newest.index;
	bool is_needed = storage->base_index > newest.index;
	/* The log ends before it: either it was never told to begin anew behind that snapshot, or what told it so was its last record
	 * and was cut like a torn one. Then the member would forget what it acknowledged, and what it writes from now on would be
	 * replaced by that snapshot if it is ever read again. Not so if it is whole and the owner refuses it: the log begins anew only
	 * behind one that the owner has taken, so it never did behind this one. */
	bool is_beyond =
		passed_over && !recovery->damage_is_state && recovery->damaged->number > storage_last_index(storage);
	/* That it cannot be read now does not mean that it is damaged. */
	if ((is_needed || is_beyond) && recovery->unread)
		return recovery_refuse_unread(recovery);
	if (is_needed && recovery->damaged)
		return recovery_refuse(recovery, STORAGE_E_CORRUPT, recovery->damaged->name,
				       recovery->damage.parser.chain.offset,
				       "%s, and the log only begins behind %" PRIu64
				       ": what was before is lost. Do not empty this directory: the member would "
				       "forget what it promised to the others",
				       recovery->damage.what, storage->base_index);
	if (is_beyond)
		return recovery_refuse(
			recovery, STORAGE_E_CORRUPT, recovery->damaged->name, recovery->damage.parser.chain.offset,
			"%s, and the log ends before it, at %" PRIu64
			": what the member had may be lost. Do not empty this directory: the member would "
			"forget what it promised to the others",
			recovery->damage.what, storage_last_index(storage));
	if (is_needed)
		return recovery_refuse(recovery, STORAGE_E_CORRUPT, recovery->files.items[0].name, 0,
				       "the log begins behind %" PRIu64
				       ", but there is no snapshot that reaches so far",
				       storage->base_index);
	if (passed_over)
		(void)snprintf(state->snapshot_damage, sizeof(state->snapshot_damage), "%s offset %" PRIu64 ": %s",
			       recovery->damaged->name, recovery->damage.parser.chain.offset, recovery->damage.what);
	if (!found)
		return 0;
	state->snapshot_index = newest.index;
	state->snapshot_term = newest.term;
	state->snapshot_beyond_log = !log_holds(storage, &newest);
	return 0;
}
