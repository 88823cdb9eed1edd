/*
 * What a monitor asks a member, its metrics, and its log from before the beginning. Compared with what the checks know, and with what
 * else the member says.
 */
#include "operator.h"

#include "check.h"

#include <inttypes.h>

#define LOG_ENTRIES 4u

static unsigned count(uint32_t set)
{
	return (unsigned)__builtin_popcount(set);
}

/* Metrics --------------------------------------------------------------------------------------------- */

static void check_membership(const struct sim *sim, unsigned number, const struct replicator_metrics *metrics)
{
	const struct sim_view *view = &sim->members[number].view;
	uint32_t peers = 0;
	for (unsigned k = 0; k < metrics->n_peers; k++)
		peers |= 1u << (metrics->peers[k].id - 1);
	if (metrics->n_voters != count(view->voters) || metrics->n_peers != count(peers) ||
	    peers != (view->members & ~(1u << number)))
		sim_fail(sim, "member %u counts %u voters and the peers %x, its log has voters %x of %x", number + 1,
			 metrics->n_voters, peers, view->voters, view->members);
}

static void check_peers(const struct sim *sim, unsigned number, const struct replicator_metrics *metrics,
			uint64_t age_us)
{
	struct replicator_status status;
	replica_get_status(sim->members[number].replica, &status);
	for (unsigned k = 0; k < metrics->n_peers; k++) {
		const struct replicator_peer_metrics *peer = &metrics->peers[k];
		bool leads = status.role == RAFT_LEADER;
		if (peer->id != status.peers[k].id ||
		    peer->dropped_full + peer->dropped_unconnected != status.peers[k].dropped_frames)
			sim_fail(sim,
				 "member %u counts %" PRIu64 " and %" PRIu64 " frames that were dropped, and %" PRIu64,
				 number + 1, peer->dropped_full, peer->dropped_unconnected,
				 status.peers[k].dropped_frames);
		if (peer->silence_us != UINT64_MAX && peer->silence_us > age_us)
			sim_fail(sim, "member %u says that it heard member %" PRIu64 " before it was started",
				 number + 1, peer->id);
		if (leads && peer->needs_snapshot && status.peers[k].match + 1 >= status.first_index)
			sim_fail(sim,
				 "member %u says that member %" PRIu64
				 " needs a snapshot, and it has all in front of its log's beginning",
				 number + 1, peer->id);
	}
}

static void check_disk(const struct sim *sim, unsigned number, const struct replicator_metrics *metrics)
{
	const struct sim_member *member = &sim->members[number];
	struct replicator_status status;
	uint64_t flushes = 0;
	replica_get_status(member->replica, &status);
	for (unsigned k = 0; k < REPLICATOR_SYNC_BUCKETS; k++)
		flushes += metrics->sync_buckets[k];
	if (flushes != status.flushes)
		sim_fail(sim, "member %u counts %" PRIu64 " syncs by how long they took, %" PRIu64 " in all",
			 number + 1, flushes, status.flushes);
	if (metrics->disk_full && !sim_platter_excused(member->disk_files))
		sim_fail(sim, "member %u says that its disk is full, and it is not", number + 1);
	if (status.durable_index < status.last_index && metrics->write_queue_bytes == 0)
		sim_fail(sim, "member %u says that nothing waits to be written, and entries after %" PRIu64 " do",
			 number + 1, status.durable_index);
	if (metrics->log_segments == 0 || metrics->snapshot_due_bytes < member->snapshot_log_bytes)
		sim_fail(sim, "member %u has %" PRIu64 " segments, and a snapshot is due after %" PRIu64 " bytes",
			 number + 1, metrics->log_segments, metrics->snapshot_due_bytes);
}

static void look_at_metrics(const struct sim *sim, unsigned number)
{
	const struct sim_member *member = &sim->members[number];
	struct replicator_metrics metrics;
	struct raft_status core;
	uint64_t now_us = sim_clock_us(sim, number);
	replica_get_metrics(member->replica, now_us, &metrics);
	raft_get_status(replica_core(member->replica), &core);
	check_membership(sim, number, &metrics);
	check_peers(sim, number, &metrics, now_us - member->started_us);
	check_disk(sim, number, &metrics);
	if (metrics.transferring && core.role != RAFT_LEADER)
		sim_fail(sim, "member %u says that it hands over, and leads nobody", number + 1);
	if (core.role == RAFT_LEADER && (metrics.leader_changes == 0 || (metrics.n_peers > 0 && metrics.beat == 0)))
		sim_fail(sim, "member %u leads, and counts %" PRIu64 " leaders and %" PRIu64 " beats", number + 1,
			 metrics.leader_changes, metrics.beat);
}

/* The log ---------------------------------------------------------------------------------------------- */

/* From before its beginning: what is there begins where the status says. Behind its end there is nothing. */
static void look_before_log(const struct sim *sim, unsigned number, struct sim_random *random)
{
	struct replica *replica = sim->members[number].replica;
	struct raft_entry entries[LOG_ENTRIES];
	struct replicator_status status;
	uint32_t n = 0;
	replica_get_status(replica, &status);
	uint64_t first = sim_random_below(random, status.first_index + 1);
	if (replica_read_log(replica, first, entries, LOG_ENTRIES, SIM_PAGE_BYTES, &n) != 0)
		return; /* its disk fails */
	uint32_t entry = n == 0 ? 0 : sim_entry_find(sim->checks, status.first_index, entries[0].term);
	if ((n == 0) != (status.last_index < status.first_index) ||
	    (n > 0 && status.first_index > sim->checks->floor &&
	     (entry == 0 || sim_entry(sim->checks, entry)->hash !=
				    XXH3_64bits_withSeed(entries[0].data, entries[0].size, entries[0].type))))
		sim_fail(sim, "member %u shows %u entries of its log from %" PRIu64 " on, and it begins at %" PRIu64,
			 number + 1, n, first, status.first_index);
}

void sim_operator_measure(struct sim *sim, unsigned member, struct sim_random *random)
{
	look_at_metrics(sim, member);
	look_before_log(sim, member, random);
}

/* Its configuration file says something else, and it is told to read it again. */
int sim_operator_reload(struct sim *sim, unsigned number, uint64_t seed)
{
	struct sim_member *member = &sim->members[number];
	struct sim_random random = {seed};
	if (!sim_member_listens(sim, number))
		return 0;
	member->snapshot_log_bytes =
		sim->plan.snapshot_log_bytes / 4 + sim_random_below(&random, sim->plan.snapshot_log_bytes * 3 / 4);
	sim_note(sim, "%u takes snapshots after %" PRIu64 " bytes", number + 1, member->snapshot_log_bytes);
	replica_set_snapshot_limits(member->replica, member->snapshot_log_bytes,
				    (uint32_t)sim_random_below(&random, 101));
	return 1;
}
