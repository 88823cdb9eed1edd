/*
 * Bounded queues and memory: what a member holds back for others, for its disk
 * and in its caches has limits, whatever the clients and the network do.
 */
#include "check.h"

#include "daemon/storage/snapshots.h"
#include "daemon/transport/wire.h"
#include "kv/limits.h"

#include <inttypes.h>

#define LOGS_KEPT 4u
#define FILES_SPARE 12u

#define ASKS_MAX 16u /* for one piece, within two election timeouts */
#define RECORD_OVERHEAD                                                                                                \
	8192u		   /* headers and padding of the records under way  \
                               */
#define CACHE_SLACK 65536u /* the cache grows and shrinks by chunks */

/* What of the entries after `match` a follower has already, from another leader: its disk may be slow to confirm it. */
static uint64_t bytes_there(const struct sim *sim, unsigned leader, const struct raft_progress *peer)
{
	const struct sim_checks *checks = sim->checks;
	unsigned number = (unsigned)peer->id - 1;
	const struct sim_watch *watch = &checks->members[number];
	const struct sim_log *mine = &checks->members[leader].log;
	const struct sim_log *log = sim->members[number].up ? &watch->log : &watch->shadow.log;
	uint64_t index = log->last < peer->next - 1 ? log->last : peer->next - 1;
	while (index > peer->match && sim_log_at(checks, log, index) != sim_log_at(checks, mine, index))
		index--;
	if (index <= peer->match)
		return 0;
	return sim_entry(checks, sim_log_at(checks, mine, index))->bytes -
	       sim_entry(checks, sim_log_at(checks, mine, peer->match))->bytes;
}

/* Bytes on their way to a follower: the window, or one message, which may always be under way. */
static uint64_t window_limit(const struct raft_options *options)
{
	uint64_t message = options->batch_bytes_max > SIM_COMMAND_MAX ? options->batch_bytes_max : SIM_COMMAND_MAX;
	uint64_t window = options->window_bytes_max > message ? options->window_bytes_max : message;
	return 2 * window;
}

/* While the leader still looks for the place where the logs agree, what lies before that place is not under way. */
static void check_windows(struct sim *sim, unsigned number, const struct raft_options *options,
			  const struct raft_status *status)
{
	uint64_t limit = window_limit(options);
	for (unsigned k = 0; k < status->n_peers; k++) {
		const struct raft_progress *peer = &status->peers[k];
		/* Of a member that came back with another directory the leader may count what it never sent: an answer to an
		 * earlier message of it ends the search too early. */
		if (peer->probing || !peer->voter || peer->inflight_bytes <= limit)
			continue;
		uint64_t there = bytes_there(sim, number, peer);
		if (peer->inflight_bytes > limit + there)
			sim_fail(sim, "member %u has %" PRIu64 " bytes under way to member %" PRIu64 ", above %" PRIu64,
				 number + 1, peer->inflight_bytes - there, peer->id, limit);
	}
}

/* Entries of its own term that a leader took, and that are not committed or not on its own disk. */
static void check_waiting(struct sim *sim, unsigned number, const struct raft_options *options,
			      const struct raft_status *status)
{
	const struct sim_checks *checks = sim->checks;
	const struct sim_log *log = &checks->members[number].log;
	uint32_t first = sim_check_term(sim, status->hard_state.term)->first_entry;
	uint64_t from = status->durable_index < status->commit ? status->durable_index : status->commit;
	if (sim_entry_known(checks, first) && sim_entry(checks, first)->index > from)
		from = sim_entry(checks, first)->index - 1;
	uint64_t bytes = sim_entry(checks, sim_log_last(checks, log))->bytes -
			 sim_entry(checks, sim_log_at(checks, log, from))->bytes;
	if (bytes > options->uncommitted_bytes_max + SIM_PROPOSAL_MAX)
		sim_fail(sim, "member %u leads and %" PRIu64 " bytes wait for the others or its disk, above %" PRIu64,
			 number + 1, bytes, options->uncommitted_bytes_max);
}

/* What the log may grow to before the next snapshot is due. */
static uint64_t log_share(const struct sim *sim, const struct storage_snapshot_info *newest)
{
	uint64_t configured = sim->plan.snapshot_log_bytes;
	return newest->file_bytes > configured ? newest->file_bytes : configured;
}

/* The log behind the newest snapshot, however slow the disk that the next one is written to. Without something applied that the
 * newest lacks there is no next one, and what waits to be committed has bounds of its own; so does what arrives in one turn. A
 * member that could not read its snapshots begins with a log that was allowed to be longer; and it has one when its newest snapshot
 * is another one than before, smaller, because the state has shrunk or the large one has turned out to be damaged. */
static void check_log_size(struct sim *sim, unsigned number, const struct raft_options *options,
			   const struct storage_stats *stats)
{
	struct storage_snapshot_info newest = {0};
	struct replica *replica = sim->members[number].replica;
	(void)storage_snapshot_newest(replica_storage(replica), &newest); /* none: all of the log counts */
	uint64_t share = log_share(sim, &newest);
	uint64_t turn = 2 * (options->uncommitted_bytes_max + SIM_PROPOSAL_MAX) + 2 * options->window_bytes_max;
	struct sim_watch *watch = &sim->checks->members[number];
	if (newest.index != watch->log_snapshot && stats->log_bytes_since_snapshot <= watch->log_limit)
		watch->log_found = stats->log_bytes_since_snapshot;
	if (stats->log_bytes_since_snapshot < watch->log_found)
		watch->log_found = 0;
	uint64_t before = watch->log_found > share / 2 * 5 ? watch->log_found : share / 2 * 5;
	uint64_t limit = before + turn + RECORD_OVERHEAD;
	watch->log_snapshot = newest.index;
	watch->log_limit = limit;
	if (stats->log_bytes_since_snapshot > limit)
		sim_fail(sim, "member %u has %" PRIu64 " bytes of log since its newest snapshot, above %" PRIu64, number + 1,
			 stats->log_bytes_since_snapshot, limit);
}

/* A leader whose log has outgrown its share twice takes no writes before the snapshot that lets go of it is durable. It measures once a
 * turn: what it took a whole turn later, with the same newest snapshot, is too much. */
void sim_check_write_taken(struct sim *sim, unsigned number)
{
	struct storage_snapshot_info newest = {0};
	struct storage_stats stats;
	struct sim_watch *watch = &sim->checks->members[number];
	const struct storage *storage = replica_storage(sim->members[number].replica);
	storage_get_stats(storage, &stats);
	(void)storage_snapshot_newest(storage, &newest);
	uint64_t share = log_share(sim, &newest);
	uint64_t term = watch->before.hard_state.term;
	if (stats.log_bytes_since_snapshot / 2 < share || watch->applied <= newest.index)
		return;
	if (watch->log_long.turn == 0 || watch->log_long.snapshot != newest.index || watch->log_long.term != term) {
		watch->log_long.snapshot = newest.index;
		watch->log_long.term = term;
		watch->log_long.turn = watch->turns;
	} else if (watch->turns > watch->log_long.turn + 1) {
		sim_fail(sim,
			 "member %u takes a write with %" PRIu64 " bytes of log since its newest snapshot, whose share is %" PRIu64,
			 number + 1, stats.log_bytes_since_snapshot, share);
	}
}

/* A piece of a snapshot that the disk is not ready for, or that was lost, is asked for again after a while, not all the time. */
void sim_check_asks(struct sim *sim, unsigned from, const struct wire_message *message)
{
	struct sim_watch *watch = &sim->checks->members[from];
	uint64_t window_us = 2 * (sim->plan.election_min_us + sim->plan.election_spread_us);
	if (message->type != WIRE_SNAPSHOT_REQUEST)
		return;
	uint64_t index = message->snapshot_request.index, offset = message->snapshot_request.offset;
	if (watch->asked.index != index || watch->asked.offset != offset ||
	    sim->now_us - watch->asked.since_us > window_us) {
		watch->asked.index = index;
		watch->asked.offset = offset;
		watch->asked.since_us = sim->now_us;
		watch->asked.times = 0;
	}
	if (++watch->asked.times > ASKS_MAX)
		sim_fail(sim, "member %u asks again and again for the piece at %" PRIu64 " of the snapshot of entry %" PRIu64,
			 from + 1, offset, index);
}

void sim_check_bounds_started(struct sim *sim, unsigned number)
{
	struct storage_stats stats;
	storage_get_stats(replica_storage(sim->members[number].replica), &stats);
	sim->checks->members[number].log_found = stats.log_bytes_since_snapshot;
	sim->checks->members[number].log_limit = 0;
	sim->checks->members[number].log_long.turn = 0;
	sim->checks->members[number].asked.times = 0;
}

/* Entries that are not durable here. A leader takes proposals as long as all that waits is no more than it may have uncommitted, and
 * one when nothing waits. A follower is sent no more than its window behind what it confirmed, which is on its disk. Both at
 * once: what a deposed leader had handed to its disk stays under way when the next one cuts it from the log. */
static uint64_t queue_limit(const struct raft_options *options)
{
	return options->uncommitted_bytes_max + SIM_PROPOSAL_MAX + window_limit(options) + RECORD_OVERHEAD;
}

void sim_check_bounds(struct sim *sim, unsigned number, const struct raft_status *status)
{
	const struct raft_options options = sim_raft_options(sim, number);
	struct storage_stats stats;
	storage_get_stats(replica_storage(sim->members[number].replica), &stats);
	uint64_t queue = queue_limit(&options);
	if (stats.queued_bytes > queue)
		sim_fail(sim, "member %u has %" PRIu64 " bytes queued for its disk, above %" PRIu64, number + 1,
			 stats.queued_bytes, queue);
	uint64_t cache = sim->plan.cache_bytes + 4 * stats.queued_bytes + CACHE_SLACK;
	if (stats.cache_bytes > cache)
		sim_fail(sim, "member %u keeps %" PRIu64 " bytes of its log in memory, above %" PRIu64, number + 1,
			 stats.cache_bytes, cache);
	check_log_size(sim, number, &options, &stats);
	if (status->role == RAFT_LEADER) {
		check_windows(sim, number, &options, status);
		check_waiting(sim, number, &options, status);
	}
}

void sim_check_store(struct sim *sim, unsigned number)
{
	const struct kv_store *store = sim->members[number].store;
	struct replicator_status status;
	struct kv_stats stats;
	kv_store_check(store);
	kv_store_stats(store, &stats);
	replica_get_status(sim->members[number].replica, &status);
	if (stats.applied > status.applied || status.applied > status.commit)
		sim_fail(sim, "member %u: store at %" PRIu64 ", applied %" PRIu64 ", commit %" PRIu64, number + 1,
			 stats.applied, status.applied, status.commit);
	if (stats.keys > sim->plan.keys + SIM_ROGUE_KEYS_MAX || stats.sessions > KV_SESSIONS_MAX ||
	    stats.memory_bytes < stats.key_bytes + stats.value_bytes)
		sim_fail(sim, "member %u: a store of %" PRIu64 " keys and %" PRIu64 " sessions in %" PRIu64 " bytes",
			 number + 1, stats.keys, stats.sessions, stats.memory_bytes);
}

/* When nothing hinders: log is kept since the older of two snapshots, and while the next one is written. Files are whole segments,
 * and there are spare ones. */
void sim_check_disk(struct sim *sim, unsigned number)
{
	struct replica_options options = sim_member_options(sim, number);
	struct storage_stats stats;
	storage_get_stats(replica_storage(sim->members[number].replica), &stats);
	uint64_t log =
		options.snapshot_log_bytes > stats.snapshot_bytes ? options.snapshot_log_bytes : stats.snapshot_bytes;
	/* A snapshot is due when entries are applied: what waits to be committed comes on top, behind each of the two. */
	log += options.raft.uncommitted_bytes_max + SIM_PROPOSAL_MAX;
	uint64_t limit = LOGS_KEPT * log + stats.snapshot_bytes + FILES_SPARE * options.storage.segment_size;
	if (stats.disk_bytes > limit)
		sim_fail(sim, "member %u takes %" PRIu64 " bytes of its disk after the calm, above %" PRIu64,
			 number + 1, stats.disk_bytes, limit);
}
