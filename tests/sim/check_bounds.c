/*
 * Bounded queues and memory: what a member holds back for others, for its disk
 * and in its caches has limits, whatever the clients and the network do.
 */
#include "check.h"

#include "kv/limits.h"

#include <inttypes.h>

#define RECORD_OVERHEAD                                                                                                \
	8192u		   /* headers and padding of the records under way  \
                               */
#define CACHE_SLACK 65536u /* the cache grows and shrinks by chunks */

/* Bytes on their way to a follower: the window, or one message, which may
 * always be under way. While the leader still looks for the place where the
 * logs agree, what lies before that place is not under way. */
static void check_windows(struct sim *sim, unsigned number, const struct raft_options *options,
			  const struct raft_status *status)
{
	uint64_t message = options->batch_bytes_max > SIM_COMMAND_MAX ? options->batch_bytes_max : SIM_COMMAND_MAX;
	uint64_t window = options->window_bytes_max > message ? options->window_bytes_max : message;
	uint64_t limit = 2 * window;
	for (unsigned k = 0; k < status->n_peers; k++)
		if (!status->peers[k].probing && status->peers[k].inflight_bytes > limit)
			sim_fail(sim, "member %u has %" PRIu64 " bytes under way to member %" PRIu64 ", above %" PRIu64,
				 number + 1, status->peers[k].inflight_bytes, status->peers[k].id, limit);
}

/* Entries of its own term that a leader took and has not committed. */
static void check_uncommitted(struct sim *sim, unsigned number, const struct raft_options *options,
			      const struct raft_status *status)
{
	const struct sim_checks *checks = sim->checks;
	const struct sim_log *log = &checks->members[number].log;
	uint32_t first = sim_check_term(sim, status->hard_state.term)->first_entry;
	uint64_t from = checks->entries[first].index - 1;
	if (from < status->commit)
		from = status->commit;
	uint64_t bytes =
		checks->entries[sim_log_at(log, log->last)].bytes - checks->entries[sim_log_at(log, from)].bytes;
	if (bytes > options->uncommitted_bytes_max + SIM_PROPOSAL_MAX)
		sim_fail(sim, "member %u leads and has %" PRIu64 " bytes uncommitted, above %" PRIu64, number + 1,
			 bytes, options->uncommitted_bytes_max);
}

void sim_check_bounds(struct sim *sim, unsigned number, const struct raft_status *status)
{
	struct replica_options options = sim_member_options(sim, number);
	struct storage_stats stats;
	storage_get_stats(replica_storage(sim->members[number].replica), &stats);
	uint64_t queue = 2 * (options.raft.uncommitted_bytes_max + SIM_PROPOSAL_MAX) + RECORD_OVERHEAD;
	if (stats.queued_bytes > queue)
		sim_fail(sim, "member %u has %" PRIu64 " bytes queued for its disk, above %" PRIu64, number + 1,
			 stats.queued_bytes, queue);
	uint64_t cache = options.storage.cache_bytes_max + 4 * stats.queued_bytes + CACHE_SLACK;
	if (stats.cache_bytes > cache)
		sim_fail(sim, "member %u keeps %" PRIu64 " bytes of its log in memory, above %" PRIu64, number + 1,
			 stats.cache_bytes, cache);
	if (status->role == RAFT_LEADER) {
		check_windows(sim, number, &options.raft, status);
		check_uncommitted(sim, number, &options.raft, status);
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
	if (stats.keys > SIM_KEYS || stats.sessions > KV_SESSIONS_MAX ||
	    stats.memory_bytes < stats.key_bytes + stats.value_bytes)
		sim_fail(sim, "member %u: a store of %" PRIu64 " keys and %" PRIu64 " sessions in %" PRIu64 " bytes",
			 number + 1, stats.keys, stats.sessions, stats.memory_bytes);
}
