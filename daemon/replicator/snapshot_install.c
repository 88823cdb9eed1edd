/*
 * Snapshots into this member: received from a leader piece by piece, verified and made durable by the storage, loaded into
 * the state machine, and then told to the core, upon which the log begins behind it; and the newest one of the disk loaded
 * at the start. The machine comes before the core: that the file is as it was written does not say that the state in it is
 * one, and a log that was let go for it does not come back.
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

/* What the machine says of bytes that are as they were written. */
static int machine_result(int r)
{
	if (r == -EPROTONOSUPPORT)
		return STORAGE_E_VERSION;
	return r < 0 && r != -ENOMEM ? REPLICA_E_REFUSED : r;
}

static const char *load_result_name(int r)
{
	if (r == REPLICA_E_REFUSED)
		return "the file is as it was written, but the state machine refuses the state in it";
	return r > 0 ? storage_result_name(r) : strerror(-r);
}

static void restoring_close(struct replica *replica)
{
	replica->restoring.reader = snapshot_reader_free(replica->restoring.reader);
}

/* The machine's state stays as it is. */
static void restoring_drop(struct replica *replica)
{
	(void)replica->machine->restore_end(replica->machine_arg, false);
	restoring_close(replica);
}

/* The machine has all of it. If it says so too, its state is the snapshot's. */
static int restoring_end(struct replica *replica)
{
	int r = machine_result(replica->machine->restore_end(replica->machine_arg, true));
	restoring_close(replica);
	if (r == 0)
		replica_note_time(replica, replica->restoring.time_ms);
	return r;
}

/* Feeds up to limit bytes. 0: *ret_done says whether that was all. Otherwise nothing is to be fed any more. */
static int restoring_feed(struct replica *replica, size_t limit, bool *ret_done)
{
	struct replica_restoring *restoring = &replica->restoring;
	*ret_done = false;
	for (size_t fed = 0; fed < limit;) {
		const uint8_t *buf;
		size_t len;
		int r = snapshot_reader_next(restoring->reader, &buf, &len);
		if (r != 0)
			return r;
		if (len == 0) {
			*ret_done = true;
			return 0;
		}
		r = machine_result(replica->machine->restore_feed(replica->machine_arg, buf, len));
		if (r != 0)
			return r;
		fed += len;
	}
	return 0;
}

/* 0, REPLICA_E_REFUSED, or STORAGE_E_VERSION: the file's header, which was looked at before, may say less than the membership asks
 * for. */
static int read_meta(const struct replica *replica, const uint8_t *bytes, size_t len,
		     struct replica_restoring *restoring)
{
	if (!snapshot_meta_decode(bytes, len, &restoring->time_ms, &restoring->config))
		return REPLICA_E_REFUSED;
	return restoring->config.level > replica->options.level_max ? STORAGE_E_VERSION : 0;
}

/* Opens the snapshot at index and reads its configuration. */
static int restoring_open(struct replica *replica, uint64_t index)
{
	struct replica_restoring *restoring = &replica->restoring;
	struct storage_snapshot_info info;
	const uint8_t *config;
	*restoring = (struct replica_restoring){.index = index};
	int r = snapshot_reader_new(replica->storage, index, &restoring->reader, &info, &config);
	if (r != 0)
		return r;
	r = read_meta(replica, config, info.config_size, restoring);
	restoring->config_index = info.config_index;
	restoring->term = info.term;
	if (r != 0)
		restoring_close(replica);
	return r;
}

static int load_whole(struct replica *replica)
{
	bool done;
	int r = machine_result(replica->machine->restore_begin(replica->machine_arg, replica->restoring.index));
	if (r != 0) {
		restoring_close(replica);
		return r;
	}
	r = restoring_feed(replica, SIZE_MAX, &done);
	if (r == 0)
		return restoring_end(replica);
	restoring_drop(replica);
	return r;
}

int replica_load_snapshot(struct replica *replica, uint64_t index, struct raft_config *ret_config,
			  uint64_t *ret_config_index, char *message)
{
	if (replica->machine->restore_begin == NULL) {
		(void)snprintf(message, REPLICATOR_MESSAGE_MAX,
			       "the data directory holds a snapshot, and this program cannot load any");
		return -EOPNOTSUPP;
	}
	int r = restoring_open(replica, index);
	if (r == 0)
		r = load_whole(replica);
	if (r != 0)
		(void)snprintf(message, REPLICATOR_MESSAGE_MAX, "cannot load the snapshot of entry %llu: %s",
			       (unsigned long long)index, load_result_name(r));
	if (r != 0)
		return r == REPLICA_E_REFUSED ? r : replica_result_from_storage(r);
	*ret_config = replica->restoring.config;
	*ret_config_index = replica->restoring.config_index;
	replica->applied = index;
	return 0;
}

/* Installing ------------------------------------------------------------------------------------------ */

/* What the core is told when the machine has loaded it. */
static struct raft_event installed_event(const struct replica *replica)
{
	const struct replica_restoring *restoring = &replica->restoring;
	return (struct raft_event){
		.type = RAFT_EVENT_SNAPSHOT_INSTALLED,
		.now_us = replica->now_us,
		.snapshot = {.index = restoring->index,
			     .term = restoring->received.term,
			     .leader_term = restoring->received.leader_term,
			     .config_index = restoring->config_index,
			     .config = &restoring->config},
	};
}

/* False: it is stale, or the log has all of it, and is applied. */
static bool is_to_be_loaded(const struct replica *replica, const struct raft_event *event)
{
	return raft_snapshot_check(replica->core, event) == RAFT_OK &&
	       raft_term_at(replica->core, event->snapshot.index) != event->snapshot.term;
}

/* Not to be loaded; but that it holds what is in the log may be news: that is committed. */
static int tell_core(struct replica *replica, const struct raft_event *event)
{
	if (raft_snapshot_check(replica->core, event) != RAFT_OK || !replica_has_room(replica, event))
		return 0;
	int r = replica_step(replica, event, NULL, NULL);
	return r < 0 ? r : 0;
}

/* The next offers of it are passed over for a while, and for longer if it is the same again. */
static void wait_after(struct replica *replica, const struct replica_receiving *received)
{
	struct replica_refused *refused = &replica->refused;
	bool again = refused->index == received->index && refused->from == received->from;
	unsigned times = again ? refused->times + 1 : 1;
	unsigned doublings = times - 1 < REPLICA_REFUSED_DOUBLINGS ? times - 1 : REPLICA_REFUSED_DOUBLINGS;
	*refused = (struct replica_refused){.index = received->index,
					    .from = received->from,
					    .times = times,
					    .after_us = replica->now_us +
							((uint64_t)REPLICA_SNAPSHOT_RETRY_US << doublings)};
	replica->receive_after_us = replica->now_us + REPLICA_SNAPSHOT_RETRY_US;
}

/* Nothing rests on it yet: the log and the state are as they were. */
static void refuse(struct replica *replica, const struct replica_receiving *received)
{
	unsigned long long from = received->from;
	wait_after(replica, received);
	(void)storage_snapshot_distrust(replica->storage,
					received->index); /* else it is looked at again after the pause */
	replica_log_about(replica, (struct replica_about){received->index, from}, 2, "snapshot-refused",
			  "the snapshot of entry %llu from member %llu is as it was sent, but the state machine "
			  "refuses the state in "
			  "it. Nothing was changed here, and it is asked for again in %llu s. Member %llu may have a "
			  "damaged memory: "
			  "restart it, and it begins with what it can load itself",
			  (unsigned long long)received->index, from,
			  (unsigned long long)((replica->refused.after_us - replica->now_us) / 1000000u), from);
}

/* It could not be opened or loaded, and is closed. Returns why the member must stop, or 0. */
static int give_up(struct replica *replica, int r)
{
	struct replica_restoring *restoring = &replica->restoring;
	const struct replica_receiving received = restoring->received;
	unsigned level = restoring->config.level;
	if (r == REPLICA_E_REFUSED) {
		refuse(replica, &received);
		return 0;
	}
	replica_log_about(replica, (struct replica_about){received.index, received.from}, 4, "snapshot-refused",
			  "the received snapshot of entry %llu: %s", (unsigned long long)received.index,
			  load_result_name(r));
	if (r == -ENOMEM)
		wait_after(replica, &received);
	if (r == STORAGE_E_VERSION)
		replica_fail_level(replica, level > replica->options.level_max ? level : 0);
	if (r == STORAGE_E_CORRUPT) /* it has rotted here: the next offer brings it once more */
		(void)storage_snapshot_distrust(replica->storage, received.index);
	return r == STORAGE_E_VERSION ? replica->failed : r == -EIO ? r : 0;
}

/* The file of that snapshot is durable here: the machine looks at what is in it before anything rests on it. */
static int install(struct replica *replica, struct replica_receiving received)
{
	receiving_end(replica);
	int r = restoring_open(replica, received.index);
	replica->restoring.received = received;
	if (r != 0)
		return give_up(replica, r);
	struct raft_event event = installed_event(replica);
	if (raft_snapshot_check(replica->core, &event) == RAFT_E_INVALID) {
		restoring_close(replica);
		return give_up(replica, REPLICA_E_REFUSED);
	}
	if (!is_to_be_loaded(replica, &event)) {
		restoring_close(replica);
		return tell_core(replica, &event);
	}
	if (!replica_has_room(replica, &event)) {
		restoring_close(replica);
		return 0; /* at the next offer */
	}
	storage_snapshot_abort(replica->storage); /* one of this member's own, older state may be under way */
	r = machine_result(replica->machine->restore_begin(replica->machine_arg, received.index));
	if (r != 0) {
		restoring_close(replica);
		return give_up(replica, r);
	}
	replica->work_left = true;
	return 0;
}

/* The machine has all of it, and is asked before the core: it may refuse, and then nothing has happened. What it has taken the core
 * takes as well. */
static int finish(struct replica *replica, const struct raft_event *event)
{
	uint64_t index = event->snapshot.index;
	struct raft_status status;
	int r = restoring_end(replica);
	if (r != 0)
		return give_up(replica, r);
	r = replica_step(replica, event, NULL, NULL);
	if (r < 0)
		return r;
	raft_get_own_status(replica->core, &status);
	raft_assert(r == RAFT_OK && status.base_index == index && replica->applied < index);
	replica->applied = index;
	replica->refused = (struct replica_refused){0};
	replica->snapshots_installed++;
	replica_log_about(replica, (struct replica_about){.index = index}, 5, "snapshot-installed",
			  "installs the snapshot of entry %llu, term %llu", (unsigned long long)index,
			  (unsigned long long)event->snapshot.term);
	return 0;
}

/* A slice. Meanwhile the log may have caught up, or this member have become leader: then the log is applied. */
static int restoring_go_on(struct replica *replica)
{
	struct raft_event event = installed_event(replica);
	bool done = false;
	int r;
	replica->work_left = true;
	if (!is_to_be_loaded(replica, &event)) {
		restoring_drop(replica);
		return tell_core(replica, &event);
	}
	r = restoring_feed(replica, REPLICA_SNAPSHOT_SLICE, &done);
	if (r == 0 && !done)
		return 0;
	if (r == 0 && replica_has_room(replica, &event))
		return finish(replica, &event);
	restoring_drop(replica);
	return r != 0 ? give_up(replica, r) : 0; /* without room: at the next offer */
}

/* It was received whole before, and could not be installed then. */
static bool is_here(const struct replica *replica, const struct replica_receiving *offered)
{
	struct storage_snapshot_info newest;
	return storage_snapshot_newest(replica->storage, &newest) && newest.index == offered->index &&
	       newest.term == offered->term;
}

static bool is_refused(const struct replica *replica, const struct replica_receiving *offered)
{
	const struct replica_refused *refused = &replica->refused;
	return refused->index == offered->index && refused->from == offered->from &&
	       replica->now_us < refused->after_us;
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
		receiving->total = wire->snapshot_offer.size; /* of that member's file */
		return 0; /* it is under way; what was lost is asked for again in time */
	}
	struct replica_receiving offered = {.index = wire->snapshot_offer.index,
					    .term = wire->snapshot_offer.term,
					    .total = wire->snapshot_offer.size,
					    .from = wire->from,
					    .leader_term = wire->term};
	if (is_refused(replica, &offered))
		return 0;
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

/* It is not offered any more, so nothing would ever end it; and while it is there this member writes none of the same entry. */
void replica_drop_outrun(struct replica *replica)
{
	struct storage_snapshot_progress progress;
	storage_received(replica->storage, &progress);
	if (progress.phase != STORAGE_SNAPSHOT_WRITING || progress.index > replica->applied)
		return;
	storage_receive_abort(replica->storage);
	receiving_end(replica);
}

void replica_installing_fini(struct replica *replica)
{
	replica->restoring.reader = snapshot_reader_free(replica->restoring.reader);
}
