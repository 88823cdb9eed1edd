/*
 * Snapshots into this member: received from a leader piece by piece, verified and made durable by the storage, told to
 * the core, and loaded into the state machine; and the newest one of the disk loaded at the start.
 *
 * The receiver asks for what it wants next, at most two pieces ahead, and asks again when nothing comes: memory stays
 * bounded on both sides, and after a lost connection, or a restart of either side, the transfer goes on where it was.
 * While the state machine is being loaded nothing is applied.
 *
 * What this must not know: what the bytes mean.
 */
#include "replica_internal.h"
#include "snapshot_meta.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PIECES_AHEAD 2u

/* Receiving ------------------------------------------------------------------------------------------- */

static void ask(struct replica *replica, uint64_t offset)
{
	struct replica_receiving *receiving = &replica->receiving;
	struct wire_message wire = replica_wire_message(replica, WIRE_SNAPSHOT_REQUEST, receiving->from);
	wire.snapshot_request.index = receiving->index;
	wire.snapshot_request.term = receiving->term;
	wire.snapshot_request.offset = offset;
	wire.snapshot_request.size = WIRE_CHUNK_BYTES_MAX;
	replica_send_wire(replica, &wire);
}

/* Asks for what lies ahead of the wanted offset and was not asked for yet. */
static void ask_ahead(struct replica *replica, uint64_t wanted)
{
	struct replica_receiving *receiving = &replica->receiving;
	uint64_t limit = wanted + PIECES_AHEAD * WIRE_CHUNK_BYTES_MAX;
	if (receiving->requested < wanted)
		receiving->requested = wanted;
	while (receiving->requested < limit && receiving->requested < receiving->total) {
		ask(replica, receiving->requested);
		receiving->requested += WIRE_CHUNK_BYTES_MAX;
	}
	receiving->again_us = replica->now_us + 2 * replica->options.raft.election_timeout_max_us;
}

static void receiving_end(struct replica *replica)
{
	replica->receiving = (struct replica_receiving){0};
}

int replica_on_snapshot_chunk(struct replica *replica, const struct wire_message *wire)
{
	struct replica_receiving *receiving = &replica->receiving;
	struct storage_snapshot_progress progress;
	size_t taken = 0;
	if (receiving->index == 0 || wire->snapshot_chunk.index != receiving->index ||
	    wire->snapshot_chunk.term != receiving->term)
		return 0;
	storage_received(replica->storage, &progress);
	if (progress.phase != STORAGE_SNAPSHOT_WRITING || wire->snapshot_chunk.offset != progress.offset)
		return 0; /* it came twice, or one before it was lost */
	int r = storage_receive_write(replica->storage, wire->snapshot_chunk.offset, wire->snapshot_chunk.data,
				      wire->snapshot_chunk.size, &taken);
	if (r == 0) {
		/* What was not taken is asked for again, when the disk has caught up. */
		if (taken < wire->snapshot_chunk.size)
			receiving->requested = wire->snapshot_chunk.offset + taken;
		else
			ask_ahead(replica, wire->snapshot_chunk.offset + taken);
		return 0;
	}
	if (r > 0)
		replica_log_about(replica, (struct replica_about){receiving->index, wire->from}, 4, "snapshot-refused",
				  "the snapshot of entry %llu from member %llu: %s",
				  (unsigned long long)receiving->index, (unsigned long long)wire->from,
				  storage_result_name(r));
	if (r == STORAGE_E_VERSION) {
		replica_fail_level(replica, 0);
		return replica->failed;
	}
	receiving_end(replica);
	return r > 0 ? 0 : r; /* the next offer begins anew */
}

/* Loading --------------------------------------------------------------------------------------------- */

static int restoring_fail(struct replica *replica, int r)
{
	struct replica_restoring *restoring = &replica->restoring;
	replica_log_about(
		replica, (struct replica_about){.index = restoring->index}, 2, "snapshot-unreadable",
		"cannot load the snapshot of entry %llu, at offset %llu: %s", (unsigned long long)restoring->index,
		(unsigned long long)(restoring->reader != NULL ? snapshot_reader_offset(restoring->reader) : 0),
		r > 0 ? storage_result_name(r) : strerror(-r));
	(void)replica->machine->restore_end(replica->machine_arg, false); /* the state is as before */
	restoring->reader = snapshot_reader_free(restoring->reader);
	return r > 0 ? -EIO : r;
}

/* Feeds up to limit bytes. 0: *ret_done says whether that was all. */
static int restoring_feed(struct replica *replica, size_t limit, bool *ret_done)
{
	struct replica_restoring *restoring = &replica->restoring;
	for (size_t fed = 0; fed < limit;) {
		const uint8_t *buf;
		size_t len;
		int r = snapshot_reader_next(restoring->reader, &buf, &len);
		if (r == 0 && len > 0)
			r = replica->machine->restore_feed(replica->machine_arg, buf, len);
		if (r != 0)
			return restoring_fail(replica, r);
		if (len == 0) {
			*ret_done = true;
			r = replica->machine->restore_end(replica->machine_arg, true);
			restoring->reader = snapshot_reader_free(restoring->reader);
			if (r < 0)
				replica_log(replica, 2, "snapshot-unreadable",
					    "the state machine refuses the snapshot of entry %llu: %s",
					    (unsigned long long)restoring->index, strerror(-r));
			return r;
		}
		fed += len;
	}
	*ret_done = false;
	return 0;
}

/* 0, -EBADMSG, or STORAGE_E_VERSION: the file's header, which was looked at before, may say less than the membership asks for. */
static int read_meta(struct replica *replica, const uint8_t *bytes, size_t len, struct raft_config *ret_config)
{
	uint64_t time_ms;
	if (!snapshot_meta_decode(bytes, len, &time_ms, ret_config))
		return -EBADMSG;
	if (ret_config->level > replica->options.level_max)
		return STORAGE_E_VERSION;
	replica_note_time(replica, time_ms);
	return 0;
}

/* Opens the snapshot at index and reads its configuration. */
static int restoring_begin(struct replica *replica, uint64_t index, struct raft_config *ret_config,
			   uint64_t *ret_config_index, uint64_t *ret_term)
{
	struct replica_restoring *restoring = &replica->restoring;
	struct storage_snapshot_info info;
	const uint8_t *config;
	int r = snapshot_reader_new(replica->storage, index, &restoring->reader, &info, &config);
	if (r != 0)
		return r;
	r = read_meta(replica, config, info.config_size, ret_config);
	*ret_config_index = info.config_index;
	*ret_term = info.term;
	restoring->index = index;
	if (r != 0)
		restoring->reader = snapshot_reader_free(restoring->reader);
	return r;
}

int replica_load_snapshot(struct replica *replica, uint64_t index, struct raft_config *ret_config,
			  uint64_t *ret_config_index, char *message)
{
	uint64_t term;
	bool done = false;
	if (replica->machine->restore_begin == NULL) {
		(void)snprintf(message, REPLICATOR_MESSAGE_MAX,
			       "the data directory holds a snapshot, and this program cannot load any");
		return -EOPNOTSUPP;
	}
	int r = restoring_begin(replica, index, ret_config, ret_config_index, &term);
	if (r == 0)
		r = replica->machine->restore_begin(replica->machine_arg);
	if (r == 0)
		r = restoring_feed(replica, SIZE_MAX, &done);
	if (r != 0) {
		(void)snprintf(message, REPLICATOR_MESSAGE_MAX, "cannot load the snapshot of entry %llu: %s",
			       (unsigned long long)index, r > 0 ? storage_result_name(r) : strerror(-r));
		if (r == STORAGE_E_VERSION)
			return replica_result_from_storage(r);
		return r > 0 || r == -EBADMSG ? REPLICATOR_E_DAMAGED : r;
	}
	replica->applied = index;
	return 0;
}

/* Installing ------------------------------------------------------------------------------------------ */

/* The file of that snapshot is durable here: the core decides what it means for the log. */
static int install(struct replica *replica, struct replica_receiving received)
{
	struct raft_config config;
	struct raft_event event = {
		.type = RAFT_EVENT_SNAPSHOT_INSTALLED,
		.now_us = replica->now_us,
		.snapshot = {.index = received.index,
			     .term = received.term,
			     .leader_term = received.leader_term,
			     .config = &config},
	};
	uint64_t term;
	receiving_end(replica);
	int r = restoring_begin(replica, received.index, &config, &event.snapshot.config_index, &term);
	if (r != 0) {
		replica_log_about(replica, (struct replica_about){.index = received.index}, 4, "snapshot-refused",
				  "the received snapshot of entry %llu: %s", (unsigned long long)received.index,
				  r > 0 ? storage_result_name(r) : strerror(-r));
		if (r == STORAGE_E_VERSION)
			replica_fail_level(replica, config.level);
		if (r == STORAGE_E_CORRUPT) /* it has rotted here: the next offer brings it once more */
			(void)storage_snapshot_distrust(replica->storage, received.index);
		return r == STORAGE_E_VERSION ? replica->failed : r == -EIO ? r : 0;
	}
	if (!replica_has_room(replica, &event)) {
		replica->restoring.reader = snapshot_reader_free(replica->restoring.reader);
		return 0; /* at the next offer */
	}
	r = replica_step(replica, &event, NULL, NULL);
	struct raft_status status;
	raft_get_own_status(replica->core, &status);
	if (r != RAFT_OK || status.base_index != received.index) {
		/* Stale by now, or the log has all of it: it is applied from there. */
		replica->restoring.reader = snapshot_reader_free(replica->restoring.reader);
		return r < 0 ? r : 0;
	}
	storage_snapshot_abort(replica->storage); /* one of this member's own, older state may be under way */
	replica->snapshots_installed++;
	replica_log_about(replica, (struct replica_about){.index = received.index}, 5, "snapshot-installed",
			  "installs the snapshot of entry %llu, term %llu", (unsigned long long)received.index,
			  (unsigned long long)received.term);
	return replica->machine->restore_begin(replica->machine_arg);
}

/* It was received whole before, and could not be installed then. */
static bool is_here(const struct replica *replica, const struct replica_receiving *offered)
{
	struct storage_snapshot_info newest;
	return storage_snapshot_newest(replica->storage, &newest) && newest.index == offered->index &&
	       newest.term == offered->term;
}

int replica_on_snapshot_offer(struct replica *replica, const struct wire_message *wire)
{
	struct replica_receiving *receiving = &replica->receiving;
	struct raft_status status;
	uint64_t wanted = 0;
	raft_get_own_status(replica->core, &status);
	if (replica->machine->restore_begin == NULL || replica->restoring.reader != NULL ||
	    wire->term < status.hard_state.term || status.role == RAFT_LEADER ||
	    wire->snapshot_offer.index <= status.commit)
		return 0;
	if (receiving->index == wire->snapshot_offer.index && receiving->term == wire->snapshot_offer.term) {
		receiving->from = wire->from;
		receiving->leader_term = wire->term;
		return 0; /* it is under way; what was lost is asked for again in time */
	}
	struct replica_receiving offered = {.index = wire->snapshot_offer.index,
					    .term = wire->snapshot_offer.term,
					    .total = wire->snapshot_offer.size,
					    .from = wire->from,
					    .leader_term = wire->term};
	if (is_here(replica, &offered))
		return install(replica, offered);
	if (replica->now_us < replica->receive_after_us)
		return 0;
	int r = storage_receive_begin(replica->storage, wire->snapshot_offer.index, wire->snapshot_offer.term, &wanted);
	if (r != 0)
		return r > 0 || r == -ENOMEM || r == -EINVAL ? 0 : r; /* busy, or no room: the offer is repeated */
	offered.requested = wanted;
	*receiving = offered;
	replica_log_about(replica, (struct replica_about){receiving->index, receiving->from}, 6, "snapshot-receive",
			  "receives the snapshot of entry %llu, %llu bytes, from member %llu, beginning at byte %llu",
			  (unsigned long long)receiving->index, (unsigned long long)receiving->total,
			  (unsigned long long)receiving->from, (unsigned long long)wanted);
	ask_ahead(replica, wanted);
	return 0;
}

static int restoring_go_on(struct replica *replica)
{
	bool done = false;
	int r = restoring_feed(replica, REPLICA_SNAPSHOT_SLICE, &done);
	replica->work_left = true;
	if (r == 0 && done) {
		raft_assert(replica->restoring.index > replica->applied);
		replica->applied = replica->restoring.index;
	}
	return r;
}

int replica_tend_installing(struct replica *replica)
{
	struct replica_receiving *receiving = &replica->receiving;
	struct storage_snapshot_progress progress;
	if (replica->restoring.reader != NULL)
		return restoring_go_on(replica);
	if (receiving->index == 0)
		return 0;
	storage_received(replica->storage, &progress);
	if (progress.phase == STORAGE_SNAPSHOT_IDLE) {
		if (progress.result == 0)
			return install(replica, *receiving);
		if (progress.result == STORAGE_E_FULL)
			replica->receive_after_us = replica->now_us + REPLICA_SNAPSHOT_RETRY_US;
		receiving_end(replica); /* no room, or not what it should be: offered again */
		return 0;
	}
	if (progress.phase != STORAGE_SNAPSHOT_WRITING || progress.waits) {
		/* The disk is at work, and its completion calls again: what is asked for meanwhile could not be taken. */
		receiving->again_us = replica->now_us + 2 * replica->options.raft.election_timeout_max_us;
		return 0;
	}
	if (replica->now_us >= receiving->again_us || receiving->requested <= progress.offset) {
		receiving->requested = progress.offset;
		ask_ahead(replica, progress.offset);
	}
	return 0;
}

void replica_installing_fini(struct replica *replica)
{
	replica->restoring.reader = snapshot_reader_free(replica->restoring.reader);
}
