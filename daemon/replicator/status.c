/* What a replica tells about itself: status, membership, entries of its log. It changes nothing. */
#include "replica_internal.h"

#include <errno.h>
#include <string.h>

static void replica_peer_status(const struct replica *replica, const struct raft_progress *progress,
				struct replicator_peer_status *ret)
{
	struct transport_peer_stats stats = {0};
	bool known = replica->transport->ops->peer_stats(replica->transport, progress->id, &stats);
	*ret = (struct replicator_peer_status){
		.id = progress->id,
		.voter = progress->voter,
		.connected = known && stats.connected,
		.match = progress->match,
		.dropped_frames = known ? stats.dropped_frames : 0,
		.silent_us = progress->last_contact_us == 0		   ? UINT64_MAX
			     : replica->now_us > progress->last_contact_us ? replica->now_us - progress->last_contact_us
									   : 0,
	};
}

static uint64_t left_us(const struct replica *replica, uint64_t until_us)
{
	return until_us > replica->now_us ? until_us - replica->now_us : 0;
}

void replica_get_status(const struct replica *replica, struct replicator_status *ret_status)
{
	struct raft_status core;
	struct storage_stats disk;
	struct storage_snapshot_info newest = {0};
	struct storage_snapshot_progress received = {0};

	raft_get_status(replica->core, &core);
	storage_get_stats(replica->storage, &disk);
	(void)storage_snapshot_newest(replica->storage, &newest); /* none: all zero */
	if (replica->receiving.index != 0)
		storage_received(replica->storage, &received);
	*ret_status = (struct replicator_status){
		.id = core.id,
		.cluster = replica->options.cluster,
		.incarnation = replica->incarnation,
		.role = (unsigned)core.role,
		.leader = core.leader,
		.term = core.hard_state.term,
		.first_index = core.base_index + 1,
		.last_index = core.last_index,
		.durable_index = core.durable_index,
		.commit = core.commit,
		.applied = replica->applied,
		.elections = replica->elections,
		.proposals = replica->proposals,
		.lease = replica->options.raft.lease,
		.lease_us = left_us(replica, core.lease_us),
		.promise_us = left_us(replica, core.promise_us),
		.leased_reads = replica->leased_reads,
		.bad_frames = replica->bad_frames,
		.flushes = disk.flushes,
		.flushed_entries = disk.flushed_entries,
		.flushed_bytes = disk.flushed_bytes,
		.sync_us_total = disk.sync_us_total,
		.sync_us_max = disk.sync_us_max,
		.disk_bytes = disk.disk_bytes,
		.log_cache_bytes = disk.cache_bytes,
		.snapshot_bytes = newest.file_bytes,
		.snapshot_index = newest.index,
		.snapshots = replica->snapshots_taken,
		.installed = replica->snapshots_installed,
		.snapshotting = replica->taking.snapshot != NULL,
		.transfer_bytes = received.offset,
		.transfer_total = replica->receiving.total,
		.level = core.level,
		.level_max = replica->options.level_max,
		.blank = core.config_index == 0 && core.n_peers == 0 && !core.member,
		.voter = core.self_voter,
		.n_voters = core.n_voters,
		.n_peers = core.n_peers,
	};
	for (unsigned k = 0; k < core.n_peers; k++)
		replica_peer_status(replica, &core.peers[k], &ret_status->peers[k]);
}

_Static_assert(REPLICATOR_SYNC_BUCKETS == sizeof((struct storage_stats *)NULL)->sync_histogram / sizeof(uint64_t),
	       "all of the storage's buckets");

static void replica_peer_metrics(const struct replica *replica, const struct raft_progress *progress, uint64_t now_us,
				 struct replicator_peer_metrics *ret)
{
	struct transport_peer_stats stats = {0};
	(void)replica->transport->ops->peer_stats(replica->transport, progress->id, &stats); /* unknown: all zero */
	uint64_t heard_us = progress->last_contact_us;
	*ret = (struct replicator_peer_metrics){
		.id = progress->id,
		.silence_us = heard_us == 0	  ? UINT64_MAX
			      : now_us > heard_us ? now_us - heard_us
						  : 0,
		.inflight_bytes = progress->inflight_bytes,
		.needs_snapshot = progress->snapshot,
		.sent_frames = stats.sent_frames,
		.sent_bytes = stats.sent_bytes,
		.dropped_full = stats.dropped_frames - stats.dropped_unconnected,
		.dropped_unconnected = stats.dropped_unconnected,
	};
}

void replica_get_metrics(const struct replica *replica, uint64_t now_us, struct replicator_metrics *ret_metrics)
{
	struct raft_status core;
	struct storage_stats disk;

	raft_get_status(replica->core, &core);
	storage_get_stats(replica->storage, &disk);
	*ret_metrics = (struct replicator_metrics){
		.n_voters = core.n_voters,
		.beat = core.beat,
		.leader_changes = replica->leader_changes,
		.transferring = core.transferring,
		.disk_full = disk.full,
		.received_frames = replica->received_frames,
		.received_bytes = replica->received_bytes,
		.stale_frames = replica->stale_frames,
		.uncommitted_bytes = core.uncommitted_bytes,
		.uncommitted_bytes_max = replica->options.raft.uncommitted_bytes_max,
		.window_bytes_max = replica->options.raft.window_bytes_max,
		.write_queue_bytes = disk.queued_bytes,
		.log_cache_bytes_max = replica->options.storage.cache_bytes_max,
		.log_segments = disk.segments,
		.log_bytes_since_snapshot = disk.log_bytes_since_snapshot,
		.snapshot_due_bytes = replica_snapshot_due_bytes(replica),
		.reads_waiting = replica->reads.count,
		.write_age_us = storage_oldest_write_age_us(replica->storage),
		.n_peers = core.n_peers,
	};
	memcpy(ret_metrics->sync_buckets, disk.sync_histogram, sizeof disk.sync_histogram);
	for (unsigned k = 0; k < core.n_peers; k++)
		replica_peer_metrics(replica, &core.peers[k], now_us, &ret_metrics->peers[k]);
}

unsigned replica_get_beats(const struct replica *replica, uint64_t now_us, uint64_t after,
			   struct replicator_beat *ret_beats, unsigned max)
{
	const struct raft_beat *from;
	unsigned n = 0;
	for (; n < max && (from = raft_next_beat(replica->core, after)) != NULL; n++) {
		struct replicator_beat *to = &ret_beats[n];
		after = from->number;
		*to = (struct replicator_beat){
			.number = from->number,
			.term = from->term,
			.age_us = now_us > from->began_us ? now_us - from->began_us : 0,
			.quorum = from->quorum,
			.quorum_us = from->quorum_us,
			.n_answers = from->n_answers,
		};
		for (unsigned k = 0; k < from->n_answers; k++) {
			to->answers[k].id = from->answers[k].id;
			to->answers[k].after_us = from->answers[k].after_us;
		}
	}
	return n;
}

int replica_read_log(struct replica *replica, uint64_t first_index, struct raft_entry *ret_entries,
		     uint32_t max_entries, uint64_t bytes_max, uint32_t *ret_n)
{
	struct raft_status status;
	raft_get_status(replica->core, &status);
	if (first_index > status.last_index || max_entries == 0) {
		*ret_n = 0;
		return 0;
	}
	if (first_index <= status.base_index)
		first_index = status.base_index + 1;
	int r = storage_read(replica->storage, first_index, max_entries, bytes_max, ret_entries, ret_n);
	return r > 0 ? -EIO : r;
}

void replica_get_membership(const struct replica *replica, struct replicator_membership *ret_membership)
{
	struct raft_status status;
	struct replicator_membership membership = {0};
	const struct raft_config *config = replica_config(replica, &membership.index);
	raft_get_status(replica->core, &status);
	if (config != NULL) {
		membership.committed = !status.config_pending;
		membership.n_members = config->n_members;
	}
	for (unsigned k = 0; k < membership.n_members; k++) {
		const struct raft_config_member *from = &config->members[k];
		struct replicator_member *to = &membership.members[k];
		to->id = from->id;
		to->role = (unsigned)from->role;
		to->incarnation = from->incarnation;
		memcpy(to->peer, from->peer_endpoint, sizeof from->peer_endpoint);
		memcpy(to->client, from->client_endpoint, sizeof from->client_endpoint);
	}
	*ret_membership = membership;
}
