/*
 * Taking snapshots: from the state machine to the disk, some bytes a turn, and then letting go of the log before them.
 *
 * The machine hands out its state in constant time and unchanged by what is applied later; its bytes are produced here
 * in slices on the owner's thread and written by the disk's background lane. Nobody waits for it, and no thread shares
 * anything, so the simulator runs the same.
 *
 * What this must not know: what the bytes mean.
 */
#include "replica_internal.h"
#include "snapshot_meta.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdlib.h>

static void taking_end(struct replica *replica)
{
	struct replica_taking *taking = &replica->taking;
	if (taking->snapshot != NULL)
		replica->machine->snapshot_free(replica->machine_arg, taking->snapshot);
	free(taking->buf);
	taking->snapshot = NULL;
	taking->buf = NULL;
}

void replica_taking_fini(struct replica *replica)
{
	taking_end(replica);
}

void replica_set_snapshot_limits(struct replica *replica, uint64_t log_bytes, uint32_t log_percent)
{
	replica->options.snapshot_log_bytes = log_bytes;
	replica->options.snapshot_log_percent = log_percent;
}

int replica_snapshot(struct replica *replica)
{
	if (replica->failed != 0)
		return replica->failed;
	if (replica->machine->snapshot_take == NULL)
		return -EOPNOTSUPP;
	if (!storage_has_room(replica->storage))
		return REPLICATOR_E_DISK_FULL;
	replica->taking.wanted = true;
	replica->work_left = true;
	return 0;
}

/* Log first and state second: small states are written again only after a good piece of log, large ones after as much log
 * as they are large, so that log and snapshots together stay within a multiple of the state. */
static uint64_t log_share(const struct replica *replica, const struct storage_snapshot_info *newest)
{
	uint64_t share = newest->file_bytes / 100 * replica->options.snapshot_log_percent;
	return share > replica->options.snapshot_log_bytes ? share : replica->options.snapshot_log_bytes;
}

uint64_t replica_snapshot_due_bytes(const struct replica *replica)
{
	struct storage_snapshot_info newest = {0};
	(void)storage_snapshot_newest(replica->storage, &newest); /* none: all zero */
	return log_share(replica, &newest);
}

static uint64_t log_bytes(const struct replica *replica)
{
	struct storage_stats stats;
	storage_get_stats(replica->storage, &stats);
	return stats.log_bytes_since_snapshot + stats.queued_bytes;
}

/* Whether there is something that the newest snapshot lacks. */
static bool has_news(const struct replica *replica, struct storage_snapshot_info *ret_newest)
{
	*ret_newest = (struct storage_snapshot_info){0};
	bool any = storage_snapshot_newest(replica->storage, ret_newest);
	return replica->applied > 0 && (!any || replica->applied > ret_newest->index);
}

static bool is_due(const struct replica *replica)
{
	struct storage_snapshot_info newest;
	if (!has_news(replica, &newest))
		return false;
	if (replica->taking.wanted || newest.index < replica->damaged_at ||
	    (newest.index < replica->damaged_until && replica->applied >= replica->damaged_until))
		return true;
	return log_bytes(replica) >= log_share(replica, &newest);
}

/* The disk holds a multiple of the state, whatever the load: when the log outgrows its share twice before the snapshot that
 * lets go of it is durable, the clients wait for the disk. Followers take a little more than leaders, who should be the ones
 * to wait. Without news no snapshot would come: then what waits is what must be committed first, and its bound is the
 * leader's for uncommitted entries. */
static enum replica_log_size measure_log(const struct replica *replica)
{
	struct storage_snapshot_info newest;
	if (!has_news(replica, &newest))
		return REPLICA_LOG_FITS;
	uint64_t share = log_share(replica, &newest), bytes = log_bytes(replica);
	if (bytes / 5 >= share / 2)
		return REPLICA_LOG_LIMIT;
	return bytes / 2 >= share ? REPLICA_LOG_LONG : REPLICA_LOG_FITS;
}

static void tend_log_size(struct replica *replica)
{
	enum replica_log_size before = replica->taking.log_size;
	replica->taking.log_size = measure_log(replica);
	if (before != REPLICA_LOG_FITS || replica->taking.log_size == REPLICA_LOG_FITS)
		return;
	replica->taking.moved_us = replica->now_us;
	replica_log(
		replica, 5, "log-outgrown",
		"the log has outgrown its share of the disk: new entries wait for the snapshot that is being written");
}

bool replica_log_waits_in_vain(const struct replica *replica)
{
	return replica->taking.log_size != REPLICA_LOG_FITS &&
	       replica->now_us - replica->taking.moved_us > replica->options.raft.election_timeout_max_us;
}

/* 0 also when there is no memory or no room for it now, or what was received of one is still being removed: it is tried again
 * later. */
static int taking_begin(struct replica *replica)
{
	struct replica_taking *taking = &replica->taking;
	uint8_t bytes[SNAPSHOT_META_SIZE_MAX];
	struct storage_snapshot_begin begin = {
		.index = replica->applied, .term = raft_term_at(replica->core, replica->applied), .config = bytes};
	const struct raft_config *config = raft_config_at(replica->core, replica->applied, &begin.config_index);
	begin.config_size = snapshot_meta_encode(replica->last_time_ms, config, bytes);
	begin.level = config != NULL ? config->level : RAFT_LEVEL_MIN;
	raft_assert(begin.term > 0);
	taking->retry_us = replica->now_us + REPLICA_SNAPSHOT_RETRY_US;
	replica_drop_outrun(replica);
	taking->buf = malloc(REPLICA_SNAPSHOT_SLICE);
	taking->snapshot = taking->buf != NULL ? replica->machine->snapshot_take(replica->machine_arg) : NULL;
	int r = taking->snapshot != NULL ? storage_snapshot_begin(replica->storage, &begin) : -ENOMEM;
	if (r != 0) {
		taking_end(replica);
		return r == -ENOMEM || r > 0 ? 0 : r;
	}
	taking->filled = taking->taken = 0;
	taking->next_us = replica->now_us;
	taking->read_all = taking->wanted = false;
	replica_log_about(replica, (struct replica_about){.index = begin.index}, 6, "snapshot",
			  "writes a snapshot of the state as of entry %llu", (unsigned long long)begin.index);
	return 0;
}

static bool needs_slice(const struct replica_taking *taking)
{
	return taking->snapshot != NULL && taking->taken == taking->filled && !taking->read_all;
}

uint64_t replica_taking_deadline_us(const struct replica *replica)
{
	return needs_slice(&replica->taking) ? replica->taking.next_us : UINT64_MAX;
}

static void produce_slice(struct replica *replica)
{
	struct replica_taking *taking = &replica->taking;
	taking->filled = replica->machine->snapshot_read(replica->machine_arg, taking->snapshot, taking->buf,
							 REPLICA_SNAPSHOT_SLICE);
	taking->taken = 0;
	taking->read_all = taking->filled == 0;
	taking->next_us = replica->now_us + (taking->log_size == REPLICA_LOG_FITS ? REPLICA_SNAPSHOT_PACE_US : 0);
}

/* Hands on what was produced; produces more when all of it was taken. */
static int taking_feed(struct replica *replica)
{
	struct replica_taking *taking = &replica->taking;
	size_t n = 0;
	int r = 0;
	if (needs_slice(taking)) {
		if (replica->now_us < taking->next_us)
			return 0;
		produce_slice(replica);
	}
	if (taking->taken < taking->filled) {
		r = storage_snapshot_write(replica->storage, taking->buf + taking->taken,
					   taking->filled - taking->taken, &n);
		taking->taken += n;
		if (n > 0)
			taking->moved_us = replica->now_us;
		if (n > 0 && taking->taken < taking->filled)
			replica->work_left = true; /* otherwise the deadline, or the disk's completion, calls again */
	} else {
		r = storage_snapshot_finish(replica->storage);
		taking->finishing = true;
		taking_end(replica);
	}
	raft_assert(r <= 0); /* one that was given up is not fed */
	return r;
}

/* Up to where the log is no longer needed: the older of the two newest snapshots. Starting from that one would lead over
 * the log behind it, so when that is damaged, the newest. */
static bool is_superfluous(struct replica *replica, uint64_t *ret_index, uint64_t *ret_term)
{
	struct storage_snapshot_info newest;
	if (replica->damaged_until == 0 || !storage_snapshot_newest(replica->storage, &newest) ||
	    newest.index < replica->damaged_at)
		return storage_snapshot_keeps(replica->storage, ret_index, ret_term);
	*ret_index = newest.index;
	*ret_term = newest.term;
	return true;
}

static int compact(struct replica *replica)
{
	uint64_t index, term;
	struct raft_status status;
	if (!is_superfluous(replica, &index, &term))
		return 0;
	raft_get_own_status(replica->core, &status);
	/* What the log's own disk does not hold yet would rest on that one file alone. */
	if (index <= status.base_index || index > replica->applied || index > status.durable_index)
		return 0;
	int r = storage_compact(replica->storage, index, term);
	if (r == 0) {
		if (index >= replica->damaged_until)
			replica->damaged_until = replica->damaged_at = 0;
		raft_compact(replica->core, index);
		replica_log_about(replica, (struct replica_about){.index = index}, 7, "compacted",
				  "the log begins after entry %llu now", (unsigned long long)index);
	}
	return r;
}

static void note_given_up(struct replica *replica, const struct storage_snapshot_progress *progress)
{
	if (progress->result != STORAGE_E_FULL)
		return; /* a newer one came from the leader */
	replica->taking.retry_us = replica->now_us + REPLICA_SNAPSHOT_RETRY_US;
	if (!replica->taking.no_room)
		replica_log(replica, 4, "snapshot-no-room",
			    "the disk has no room for the snapshot: tried again every second, until there is");
	replica->taking.no_room = true;
}

static void note_finished(struct replica *replica, const struct storage_snapshot_progress *progress)
{
	struct storage_snapshot_info newest;
	if (!replica->taking.finishing || progress->phase != STORAGE_SNAPSHOT_IDLE)
		return;
	replica->taking.finishing = false;
	if (progress->result != 0 || !storage_snapshot_newest(replica->storage, &newest)) {
		note_given_up(replica, progress);
		return;
	}
	replica->snapshots_taken++;
	replica->taking.no_room = false;
	replica->taking.retry_us = replica->now_us; /* the next one is due when there is enough new log, not before */
	replica_log_about(replica, (struct replica_about){.index = newest.index}, 6, "snapshot-durable",
			  "the snapshot of entry %llu is on the disk, %llu bytes", (unsigned long long)newest.index,
			  (unsigned long long)newest.file_bytes);
}

int replica_tend_taking(struct replica *replica)
{
	struct storage_snapshot_progress progress;
	int r = 0;
	if (replica->machine->snapshot_take == NULL)
		return 0;
	storage_snapshot_written(replica->storage, &progress);
	if (replica->taking.snapshot != NULL && progress.phase != STORAGE_SNAPSHOT_WRITING) {
		taking_end(replica); /* the storage gave it up */
		note_given_up(replica, &progress);
	}
	note_finished(replica, &progress);
	if (replica->taking.snapshot != NULL)
		r = taking_feed(replica);
	else if (progress.phase == STORAGE_SNAPSHOT_IDLE && replica->restoring.reader == NULL &&
		 replica->now_us >= replica->taking.retry_us && is_due(replica))
		r = taking_begin(replica);
	if (r == 0)
		r = compact(replica);
	tend_log_size(replica);
	return r;
}
