/*
 * What raftd measures about itself, for Prometheus: the families, in the order in which they are served, and how each is
 * filled. Names and meanings are also in daemon/metrics/README.md; a test compares the two.
 *
 * Rendered only when somebody asks. What this must not know: HTTP, who asks.
 */
#include "server.h"

#include "daemon/assert.h"
#include "daemon/metrics/process.h"
#include "daemon/service/service.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SOCKET_MODE 0660u

enum family {
	BUILD_INFO,
	MEMBER_INFO,
	ROLE,
	IS_LEADER,
	HAS_LEADER,
	LEADER,
	TERM,
	ELECTIONS,
	LEADER_CHANGES,
	BEATS,
	TRANSFERRING,
	FEATURE_LEVEL,
	FEATURE_LEVEL_KNOWN,
	MEMBERS,
	VOTERS,
	FIRST_INDEX,
	LAST_INDEX,
	DURABLE_INDEX,
	COMMIT_INDEX,
	APPLIED_INDEX,
	PEER_VOTER,
	PEER_CONNECTED,
	PEER_MATCH_INDEX,
	PEER_LAG,
	PEER_INFLIGHT,
	PEER_INFLIGHT_MAX,
	PEER_NEEDS_SNAPSHOT,
	PEER_SILENCE,
	SENT_MESSAGES,
	SENT_BYTES,
	DROPPED_MESSAGES,
	RECEIVED_MESSAGES,
	RECEIVED_BYTES,
	REFUSED_MESSAGES,
	QUEUE_ITEMS,
	QUEUE_ITEMS_MAX,
	QUEUE_BYTES,
	QUEUE_BYTES_MAX,
	SYNC_SECONDS,
	SYNC_MAX,
	WRITE_AGE,
	WRITTEN_ENTRIES,
	WRITTEN_BYTES,
	DISK_FULL,
	DISK_BYTES,
	LOG_SEGMENTS,
	LOG_BYTES,
	LOG_BYTES_DUE,
	SNAPSHOTS,
	SNAPSHOTS_INSTALLED,
	SNAPSHOT_INDEX,
	SNAPSHOT_BYTES,
	SNAPSHOT_WRITING,
	SNAPSHOT_RECEIVED,
	SNAPSHOT_RECEIVING,
	PROPOSALS,
	APPENDED_ENTRIES,
	LEASED_READS,
	LEASE,
	READS,
	CLIENT_FRAMES,
	CLIENT_BYTES,
	CLIENT_REFUSED,
	CLIENT_DROPPED,
	KEYS,
	STORE_BYTES,
	SESSIONS,
	TURN_SECONDS,
	TURN_MAX,
	JOURNAL_LINES,
	JOURNAL_SUPPRESSED,
	JOURNAL_MAX,
	RENDER_MAX,
	N_FAMILIES
};

static const struct metrics_family families[N_FAMILIES] = {
	[BUILD_INFO] = {"raftkv_build_info", METRICS_GAUGE, "Always 1; the version of the program."},
	[MEMBER_INFO] = {"raftkv_member_info", METRICS_GAUGE, "Always 1; the member's id and its cluster's name."},
	[ROLE] = {"raftkv_role", METRICS_GAUGE, "1 for the member's role now, 0 for the others."},
	[IS_LEADER] = {"raftkv_is_leader", METRICS_GAUGE, "1 while this member leads."},
	[HAS_LEADER] = {"raftkv_has_leader", METRICS_GAUGE, "1 while this member knows a leader."},
	[LEADER] = {"raftkv_leader", METRICS_GAUGE, "The id of the leader that this member knows, 0 for none."},
	[TERM] = {"raftkv_term", METRICS_GAUGE, "The term, which each election makes one larger."},
	[ELECTIONS] = {"raftkv_elections_total", METRICS_COUNTER, "Elections that this member has stood in."},
	[LEADER_CHANGES] = {"raftkv_leader_changes_total", METRICS_COUNTER,
			    "Leaders that this member has seen begin, itself included."},
	[BEATS] = {"raftkv_beats_total", METRICS_COUNTER,
		   "Beats of this member as leader: each heartbeat's time one, while it leads."},
	[TRANSFERRING] = {"raftkv_leader_transferring", METRICS_GAUGE,
			  "1 while this leader hands over to another member."},
	[FEATURE_LEVEL] = {"raftkv_feature_level", METRICS_GAUGE,
			   "The feature level of the cluster: what all of its members know."},
	[FEATURE_LEVEL_KNOWN] = {"raftkv_feature_level_known", METRICS_GAUGE,
				 "The newest feature level that this member knows."},
	[MEMBERS] = {"raftkv_members", METRICS_GAUGE, "Members of the cluster, learners included."},
	[VOTERS] = {"raftkv_voters", METRICS_GAUGE, "Members that vote."},
	[FIRST_INDEX] = {"raftkv_first_index", METRICS_GAUGE, "The first entry that the log still has."},
	[LAST_INDEX] = {"raftkv_last_index", METRICS_GAUGE, "The last entry of the log."},
	[DURABLE_INDEX] = {"raftkv_durable_index", METRICS_GAUGE, "The last entry that is on this member's disk."},
	[COMMIT_INDEX] = {"raftkv_commit_index", METRICS_GAUGE,
			  "The last entry that this member knows to be committed."},
	[APPLIED_INDEX] = {"raftkv_applied_index", METRICS_GAUGE, "The last entry that the store has applied."},
	[PEER_VOTER] = {"raftkv_peer_voter", METRICS_GAUGE, "1 when the other member votes."},
	[PEER_CONNECTED] = {"raftkv_peer_connected", METRICS_GAUGE,
			    "1 while there is a connection to the other member."},
	[PEER_MATCH_INDEX] = {"raftkv_peer_match_index", METRICS_GAUGE,
			      "On the leader: the last entry that the other member has on its disk."},
	[PEER_LAG] = {"raftkv_peer_lag_entries", METRICS_GAUGE, "On the leader: entries that the other member lacks."},
	[PEER_INFLIGHT] = {"raftkv_peer_inflight_bytes", METRICS_GAUGE,
			   "On the leader: entries sent to the other member and not acknowledged."},
	[PEER_INFLIGHT_MAX] = {"raftkv_peer_inflight_limit_bytes", METRICS_GAUGE,
			       "The bound of raftkv_peer_inflight_bytes."},
	[PEER_NEEDS_SNAPSHOT] = {"raftkv_peer_needs_snapshot", METRICS_GAUGE,
				 "On the leader: 1 when the other member needs more than the log has."},
	[PEER_SILENCE] = {"raftkv_peer_silence_seconds", METRICS_GAUGE,
			  "Since this member last heard the other one; left out if it never did."},
	[SENT_MESSAGES] = {"raftkv_peer_sent_messages_total", METRICS_COUNTER, "Messages sent to the other member."},
	[SENT_BYTES] = {"raftkv_peer_sent_bytes_total", METRICS_COUNTER, "Bytes sent to the other member."},
	[DROPPED_MESSAGES] = {"raftkv_peer_dropped_messages_total", METRICS_COUNTER,
			      "Messages to the other member that were dropped: queue_full, or unconnected. Raft "
			      "repeats what matters."},
	[RECEIVED_MESSAGES] = {"raftkv_received_messages_total", METRICS_COUNTER,
			       "Messages received from other members."},
	[RECEIVED_BYTES] = {"raftkv_received_bytes_total", METRICS_COUNTER, "Bytes received from other members."},
	[REFUSED_MESSAGES] = {"raftkv_refused_messages_total", METRICS_COUNTER,
			      "Messages received and refused: malformed, or of a directory that is no member."},
	[QUEUE_ITEMS] = {"raftkv_queue_items", METRICS_GAUGE,
			 "What waits: proposals for their commit, reads for their turn, clients for an answer."},
	[QUEUE_ITEMS_MAX] = {"raftkv_queue_limit_items", METRICS_GAUGE,
			     "The bound of raftkv_queue_items; a full queue answers busy."},
	[QUEUE_BYTES] = {"raftkv_queue_bytes", METRICS_GAUGE,
			 "Bytes that wait: uncommitted entries, entries to be written, entries kept in memory."},
	[QUEUE_BYTES_MAX] = {"raftkv_queue_limit_bytes", METRICS_GAUGE, "The bound of raftkv_queue_bytes."},
	[SYNC_SECONDS] = {"raftkv_sync_duration_seconds", METRICS_HISTOGRAM,
			  "How long the disk took for each write of the log with its fdatasync."},
	[SYNC_MAX] = {"raftkv_sync_longest_seconds", METRICS_GAUGE, "The longest of them since the start."},
	[WRITE_AGE] = {"raftkv_write_age_seconds", METRICS_GAUGE, "How long the oldest write waits for the disk now."},
	[WRITTEN_ENTRIES] = {"raftkv_written_entries_total", METRICS_COUNTER, "Entries written to the log."},
	[WRITTEN_BYTES] = {"raftkv_written_bytes_total", METRICS_COUNTER, "Bytes written to the log."},
	[DISK_FULL] = {"raftkv_disk_full", METRICS_GAUGE,
		       "1 while the disk has no room for the next segment of the log: writes that do not fit into this "
		       "one are refused."},
	[DISK_BYTES] = {"raftkv_disk_bytes", METRICS_GAUGE,
			"Size of the data directory: log, spare segments, snapshots."},
	[LOG_SEGMENTS] = {"raftkv_log_segments", METRICS_GAUGE, "Files of the log."},
	[LOG_BYTES] = {"raftkv_log_since_snapshot_bytes", METRICS_GAUGE,
		       "Written to the log since the newest snapshot was begun."},
	[LOG_BYTES_DUE] = {"raftkv_log_snapshot_due_bytes", METRICS_GAUGE,
			   "When raftkv_log_since_snapshot_bytes is above this, a snapshot is taken."},
	[SNAPSHOTS] = {"raftkv_snapshots_total", METRICS_COUNTER, "Snapshots taken by this member."},
	[SNAPSHOTS_INSTALLED] = {"raftkv_snapshots_installed_total", METRICS_COUNTER,
				 "Snapshots received from a leader and installed."},
	[SNAPSHOT_INDEX] = {"raftkv_snapshot_index", METRICS_GAUGE,
			    "The last entry in the newest snapshot, 0 for none."},
	[SNAPSHOT_BYTES] = {"raftkv_snapshot_bytes", METRICS_GAUGE, "Size of the newest snapshot."},
	[SNAPSHOT_WRITING] = {"raftkv_snapshot_writing", METRICS_GAUGE, "1 while a snapshot is being written."},
	[SNAPSHOT_RECEIVED] = {"raftkv_snapshot_received_bytes", METRICS_GAUGE,
			       "Of the snapshot that is being received: what is here."},
	[SNAPSHOT_RECEIVING] = {"raftkv_snapshot_receiving_bytes", METRICS_GAUGE,
				"Of the snapshot that is being received: its size, 0 for none."},
	[PROPOSALS] = {"raftkv_proposals_total", METRICS_COUNTER,
		       "Commands proposed by clients to this member, by what became of them."},
	[APPENDED_ENTRIES] = {"raftkv_appended_entries_total", METRICS_COUNTER,
			      "Entries appended by this member as leader."},
	[LEASED_READS] = {"raftkv_leased_reads_total", METRICS_COUNTER,
			  "Reads confirmed by a lease without a round, counted in batches as clients sent them."},
	[LEASE] = {"raftkv_lease_remaining_seconds", METRICS_GAUGE,
		   "On the leader: how long its lease lasts at least, 0 for none."},
	[READS] = {"raftkv_reads_total", METRICS_COUNTER,
		   "Reads by what became of them; stale ones are answered without a round."},
	[CLIENT_FRAMES] = {"raftkv_client_frames_total", METRICS_COUNTER,
			   "Frames of requests received from bridges and tools."},
	[CLIENT_BYTES] = {"raftkv_client_received_bytes_total", METRICS_COUNTER, "Bytes of these frames."},
	[CLIENT_REFUSED] = {"raftkv_client_refused_frames_total", METRICS_COUNTER,
			    "Frames of requests that were malformed or meant for another cluster."},
	[CLIENT_DROPPED] = {"raftkv_client_dropped_replies_total", METRICS_COUNTER,
			    "Frames of replies that could not be sent: the client is gone or does not read."},
	[KEYS] = {"raftkv_keys", METRICS_GAUGE, "Keys in the store."},
	[STORE_BYTES] = {"raftkv_store_memory_bytes", METRICS_GAUGE, "Memory of the store."},
	[SESSIONS] = {"raftkv_sessions", METRICS_GAUGE, "Sessions of clients in the store."},
	[TURN_SECONDS] = {"raftkv_loop_turn_duration_seconds", METRICS_HISTOGRAM,
			  "How long each turn of the event loop took: nothing else happens meanwhile."},
	[TURN_MAX] = {"raftkv_loop_stall_seconds", METRICS_GAUGE, "The longest turn since the start."},
	[JOURNAL_LINES] = {"raftkv_journal_lines_total", METRICS_COUNTER, "Lines written to the journal or stderr."},
	[JOURNAL_SUPPRESSED] = {"raftkv_journal_suppressed_lines_total", METRICS_COUNTER,
				"Lines left out as repetition."},
	[JOURNAL_MAX] = {"raftkv_journal_longest_write_seconds", METRICS_GAUGE,
			 "The longest that writing one line took: nothing else happens meanwhile."},
	[RENDER_MAX] = {"raftkv_metrics_longest_render_seconds", METRICS_GAUGE,
			"The longest that putting these metrics together took before."},
};

/* Groups of families ---------------------------------------------------------------------------------- */

struct view {
	const struct server *server;
	const struct replicator_status *status;
	struct replicator_metrics more;
	struct metrics_text *text;
};

static void single(const struct view *view, enum family family, uint64_t value)
{
	metrics_single(view->text, &families[family], value);
}

static void seconds(const struct view *view, enum family family, uint64_t value_us)
{
	metrics_single_seconds(view->text, &families[family], value_us);
}

static void begin(const struct view *view, enum family family)
{
	metrics_family(view->text, &families[family]);
}

static void labelled(const struct view *view, const char *name, const char *value, uint64_t number)
{
	metrics_value(view->text, METRICS_LABEL(name, value), number);
}

static void render_identity(const struct view *view)
{
	static const char *const roles[] = {"follower", "pre-candidate", "candidate", "leader", "learner"};
	char id[24];

	begin(view, BUILD_INFO);
	labelled(view, "version", RAFT_KV_VERSION, 1);
	(void)snprintf(id, sizeof id, "%" PRIu64, view->status->id);
	begin(view, MEMBER_INFO);
	metrics_value(view->text, METRICS_LABELS("member", id, "cluster", view->server->config->cluster_name), 1);
	begin(view, ROLE);
	for (unsigned k = 0; k < sizeof roles / sizeof roles[0]; k++)
		labelled(view, "role", roles[k], view->status->role == k);
}

static void render_consensus(const struct view *view)
{
	const struct replicator_status *status = view->status;

	single(view, IS_LEADER, status->role == 3);
	single(view, HAS_LEADER, status->leader != 0);
	single(view, LEADER, status->leader);
	single(view, TERM, status->term);
	single(view, ELECTIONS, status->elections);
	single(view, LEADER_CHANGES, view->more.leader_changes);
	single(view, BEATS, view->more.beat);
	single(view, TRANSFERRING, view->more.transferring);
	single(view, FEATURE_LEVEL, status->level);
	single(view, FEATURE_LEVEL_KNOWN, status->level_max);
	single(view, MEMBERS, server_count_members(view->server));
	single(view, VOTERS, view->more.n_voters);
	single(view, FIRST_INDEX, status->first_index);
	single(view, LAST_INDEX, status->last_index);
	single(view, DURABLE_INDEX, status->durable_index);
	single(view, COMMIT_INDEX, status->commit);
	single(view, APPLIED_INDEX, status->applied);
}

/* One number of another member. */
struct peer_view {
	const struct replicator_status *status;
	const struct replicator_peer_status *peer;
	const struct replicator_peer_metrics *more;
};

static uint64_t peer_value(enum family family, const struct peer_view *view)
{
	switch ((unsigned)family) {
	case PEER_VOTER:
		return view->peer->voter;
	case PEER_CONNECTED:
		return view->peer->connected;
	case PEER_MATCH_INDEX:
		return view->peer->match;
	case PEER_LAG:
		return view->status->last_index > view->peer->match ? view->status->last_index - view->peer->match : 0;
	case PEER_INFLIGHT:
		return view->more->inflight_bytes;
	case PEER_NEEDS_SNAPSHOT:
		return view->more->needs_snapshot;
	case SENT_MESSAGES:
		return view->more->sent_frames;
	case SENT_BYTES:
		return view->more->sent_bytes;
	default:
		raft_assert(false);
		return 0;
	}
}

static void render_peer_family(const struct view *view, enum family family)
{
	begin(view, family);
	for (unsigned k = 0; k < view->more.n_peers; k++) {
		struct peer_view peer = {view->status, &view->status->peers[k], &view->more.peers[k]};
		char id[24];
		(void)snprintf(id, sizeof id, "%" PRIu64, peer.peer->id);
		labelled(view, "peer", id, peer_value(family, &peer));
	}
}

static void render_peers(const struct view *view)
{
	static const enum family always[] = {PEER_VOTER, PEER_CONNECTED, SENT_MESSAGES, SENT_BYTES};
	static const enum family leading[] = {PEER_MATCH_INDEX, PEER_LAG, PEER_INFLIGHT, PEER_NEEDS_SNAPSHOT};
	char id[24];

	raft_assert(view->more.n_peers == view->status->n_peers);
	for (unsigned k = 0; k < sizeof always / sizeof always[0]; k++)
		render_peer_family(view, always[k]);
	/* Families that a member has only while it leads are left out by the others, not shown as zero. */
	for (unsigned k = 0; k < sizeof leading / sizeof leading[0] && view->status->role == 3; k++)
		render_peer_family(view, leading[k]);
	single(view, PEER_INFLIGHT_MAX, view->more.window_bytes_max);
	begin(view, PEER_SILENCE);
	for (unsigned k = 0; k < view->more.n_peers; k++) {
		const struct replicator_peer_metrics *peer = &view->more.peers[k];
		(void)snprintf(id, sizeof id, "%" PRIu64, peer->id);
		if (peer->silence_us != UINT64_MAX)
			metrics_seconds(view->text, METRICS_LABEL("peer", id), peer->silence_us);
	}
	begin(view, DROPPED_MESSAGES);
	for (unsigned k = 0; k < view->more.n_peers; k++) {
		const struct replicator_peer_metrics *peer = &view->more.peers[k];
		(void)snprintf(id, sizeof id, "%" PRIu64, peer->id);
		metrics_value(view->text, METRICS_LABELS("peer", id, "reason", "queue_full"), peer->dropped_full);
		metrics_value(view->text, METRICS_LABELS("peer", id, "reason", "unconnected"),
			      peer->dropped_unconnected);
	}
	single(view, RECEIVED_MESSAGES, view->more.received_frames);
	single(view, RECEIVED_BYTES, view->more.received_bytes);
	begin(view, REFUSED_MESSAGES);
	labelled(view, "reason", "malformed", view->status->bad_frames);
	labelled(view, "reason", "no_member", view->more.stale_frames);
}

static unsigned count_clients(const struct clients *clients)
{
	unsigned n = 0;
	for (unsigned k = 0; k < clients->n_slots; k++)
		n += clients->slots[k].used;
	return n;
}

static void render_queues(const struct view *view)
{
	const struct server *server = view->server;

	begin(view, QUEUE_ITEMS);
	labelled(view, "queue", "clients", count_clients(&server->clients));
	labelled(view, "queue", "proposals", server->proposals.count);
	labelled(view, "queue", "reads", server->reads_waiting);
	begin(view, QUEUE_ITEMS_MAX);
	labelled(view, "queue", "clients", CLIENTS_MAX);
	labelled(view, "queue", "proposals", SERVER_WAITING_MAX);
	labelled(view, "queue", "reads", SERVER_WAITING_MAX);
	begin(view, QUEUE_BYTES);
	labelled(view, "queue", "uncommitted", view->more.uncommitted_bytes);
	labelled(view, "queue", "log_writes", view->more.write_queue_bytes);
	labelled(view, "queue", "log_cache", view->status->log_cache_bytes);
	begin(view, QUEUE_BYTES_MAX);
	labelled(view, "queue", "uncommitted", view->more.uncommitted_bytes_max);
	labelled(view, "queue", "log_writes", view->more.uncommitted_bytes_max);
	labelled(view, "queue", "log_cache", view->more.log_cache_bytes_max);
}

static void render_disk(const struct view *view)
{
	const struct replicator_status *status = view->status;
	struct metrics_histogram syncs = {.sum_us = status->sync_us_total};

	_Static_assert(METRICS_BUCKETS == REPLICATOR_SYNC_BUCKETS && METRICS_BUCKET_SHIFT == 4, "the same buckets");
	memcpy(syncs.buckets, view->more.sync_buckets, sizeof syncs.buckets);
	begin(view, SYNC_SECONDS);
	metrics_histogram(view->text, &syncs);
	seconds(view, SYNC_MAX, status->sync_us_max);
	seconds(view, WRITE_AGE, view->more.write_age_us);
	single(view, WRITTEN_ENTRIES, status->flushed_entries);
	single(view, WRITTEN_BYTES, status->flushed_bytes);
	single(view, DISK_FULL, view->more.disk_full);
	single(view, DISK_BYTES, status->disk_bytes);
	single(view, LOG_SEGMENTS, view->more.log_segments);
	single(view, LOG_BYTES, view->more.log_bytes_since_snapshot);
	single(view, LOG_BYTES_DUE, view->more.snapshot_due_bytes);
	single(view, SNAPSHOTS, status->snapshots);
	single(view, SNAPSHOTS_INSTALLED, status->installed);
	single(view, SNAPSHOT_INDEX, status->snapshot_index);
	single(view, SNAPSHOT_BYTES, status->snapshot_bytes);
	single(view, SNAPSHOT_WRITING, status->snapshotting);
	single(view, SNAPSHOT_RECEIVED, status->transfer_bytes);
	single(view, SNAPSHOT_RECEIVING, status->transfer_total);
}

/* Outcomes other than success that a command or a read can have. */
static const struct {
	enum kv_answer answer;
	const char *name;
	bool read;
} outcomes[] = {
	{KV_ANSWER_NOT_LEADER, "not_leader", true},
	{KV_ANSWER_UNKNOWN, "unknown", false},
	{KV_ANSWER_BUSY, "busy", true},
	{KV_ANSWER_NOT_READY, "not_ready", true},
	{KV_ANSWER_DISK_FULL, "disk_full", false},
	{KV_ANSWER_LOST, "leadership_lost", true},
};
#define N_OUTCOMES (sizeof outcomes / sizeof outcomes[0])

static void render_requests(const struct view *view)
{
	const struct server *server = view->server;
	const struct server_counters *counters = &server->counters;

	begin(view, PROPOSALS);
	labelled(view, "outcome", "applied", counters->proposals[KV_ANSWER_OK]);
	for (unsigned k = 0; k < N_OUTCOMES; k++)
		if (outcomes[k].answer != KV_ANSWER_LOST)
			labelled(view, "outcome", outcomes[k].name, counters->proposals[outcomes[k].answer]);
	single(view, APPENDED_ENTRIES, view->status->proposals);
	single(view, LEASED_READS, view->status->leased_reads);
	seconds(view, LEASE, view->status->lease_us);
	begin(view, READS);
	labelled(view, "outcome", "answered", server->reads_answered);
	labelled(view, "outcome", "answered_stale", counters->stale_reads);
	for (unsigned k = 0; k < N_OUTCOMES; k++)
		if (outcomes[k].read)
			labelled(view, "outcome", outcomes[k].name, counters->reads[outcomes[k].answer]);
	single(view, CLIENT_FRAMES, counters->frames);
	single(view, CLIENT_BYTES, counters->frame_bytes);
	single(view, CLIENT_REFUSED, server->bad_frames);
	single(view, CLIENT_DROPPED, server->clients.dropped_frames);
}

static void render_process(const struct view *view)
{
	const struct server *server = view->server;
	struct metrics_endpoint_stats endpoint;
	struct service_stats journal;
	struct kv_stats store;

	kv_store_stats(server->store, &store);
	single(view, KEYS, store.keys);
	single(view, STORE_BYTES, store.memory_bytes);
	single(view, SESSIONS, store.sessions);
	begin(view, TURN_SECONDS);
	metrics_histogram(view->text, &server->counters.turns);
	seconds(view, TURN_MAX, server->counters.turn_us_max);
	service_get_stats(&journal);
	single(view, JOURNAL_LINES, journal.lines);
	single(view, JOURNAL_SUPPRESSED, journal.suppressed);
	seconds(view, JOURNAL_MAX, journal.longest_us);
	metrics_process(view->text, server->started_ms * 1000u);
	metrics_endpoint_get_stats(server->metrics, &endpoint);
	seconds(view, RENDER_MAX, endpoint.render_us_max);
}

static void render(void *arg, struct metrics_text *text)
{
	struct server *server = arg;
	struct view view = {.server = server, .status = &server->status, .text = text};

	replicator_get_status(server->replicator, &server->status, sizeof server->status);
	replicator_get_metrics(server->replicator, &view.more, sizeof view.more);
	render_identity(&view);
	render_consensus(&view);
	render_peers(&view);
	render_queues(&view);
	render_disk(&view);
	render_requests(&view);
	render_process(&view);
}

int server_open_metrics(struct server *server)
{
	char message[METRICS_MESSAGE_MAX] = "";
	const struct config_listen *listen = &server->member->metrics;
	struct metrics_endpoint_options options = {.base = server->base,
						   .path = listen->path,
						   .mode = SOCKET_MODE,
						   .host = listen->host,
						   .port = listen->port,
						   .priority = 1,
						   .render = render,
						   .check = server_check,
						   .arg = server};

	if (listen->path[0] == '\0' && listen->host[0] == '\0')
		return 0;
	int r = metrics_endpoint_open(&options, &server->metrics, message);
	if (r < 0)
		service_log(2, "metrics-failed", "%s; see metrics_listen in raft.conf", message);
	return r;
}
