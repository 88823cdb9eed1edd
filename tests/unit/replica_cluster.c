/* See replica_cluster.h. */
#include "tests/unit/replica_cluster.h"

#include <errno.h>
#include <stdio.h>
#include <xxhash.h>

#define CLUSTER_ID 0xc1u
#define PATIENCE_MS 10000u

struct node *cluster_node(struct replica_cluster *cluster, unsigned id)
{
	assert_in_range(id, 1, cluster->n);
	return &cluster->nodes[id - 1];
}

/* The state machine ------------------------------------------------------------------------------------ */

static void machine_apply(void *arg, uint64_t index, uint64_t time_ms, const uint8_t *data, uint32_t size,
			  uint64_t ticket)
{
	struct node *node = arg;
	node->hash = XXH3_64bits_withSeed(data, size, node->hash + index + time_ms);
	assert_true(index > node->last_applied);
	node->last_applied = index;
	node->n_applied++;
	if (ticket > 0)
		node->last_ticket = ticket;
}

static void machine_dropped(void *arg, uint64_t ticket, int why)
{
	struct node *node = arg;
	assert_true(ticket > 0 && why != 0);
	node->n_dropped++;
}

static void machine_readable(void *arg, uint64_t ticket)
{
	struct node *node = arg;
	assert_true(ticket > 0);
	node->n_readable++;
}

static void machine_unreadable(void *arg, uint64_t ticket, int why)
{
	assert_non_null(arg);
	assert_true(ticket > 0 && why != 0);
}

static void machine_log(void *arg, const struct replicator_event *event)
{
	struct node *node = arg;
	size_t used = strlen(node->journal);
	(void)snprintf(node->journal + used, sizeof(node->journal) - used, "%d %s %s\n", event->level, event->name,
		       event->text);
}

static void *machine_take(void *arg)
{
	struct node *node = arg;
	assert_false(node->snapshot.used);
	memset(node->snapshot.bytes, 0, NODE_STATE_SIZE);
	memcpy(node->snapshot.bytes, &node->hash, sizeof(node->hash));
	memcpy(node->snapshot.bytes + 8, &node->n_applied, sizeof(node->n_applied));
	memcpy(node->snapshot.bytes + 16, &node->last_applied, sizeof(node->last_applied));
	node->snapshot.bytes[NODE_STATE_SIZE - 1] = node->spoils;
	node->snapshot.at = 0;
	node->snapshot.used = true;
	return &node->snapshot;
}

static size_t machine_read(void *arg, void *snapshot, uint8_t *buf, size_t capacity)
{
	struct node *node = arg;
	size_t at = node->snapshot.at;
	size_t left = NODE_STATE_SIZE + node->cluster->filling - at;
	size_t n = left < capacity ? left : capacity;
	assert_ptr_equal(snapshot, &node->snapshot);
	memset(buf, 0, n);
	if (at < NODE_STATE_SIZE)
		memcpy(buf, node->snapshot.bytes + at, n < NODE_STATE_SIZE - at ? n : NODE_STATE_SIZE - at);
	node->snapshot.at += n;
	return n;
}

static void machine_release(void *arg, void *snapshot)
{
	struct node *node = arg;
	assert_ptr_equal(snapshot, &node->snapshot);
	node->snapshot.used = false;
}

static int machine_restore_begin(void *arg, uint64_t index)
{
	struct node *node = arg;
	node->restore.at = 0;
	node->restore.index = index;
	node->n_loads++;
	return node->restore_error;
}

static int machine_restore_feed(void *arg, const uint8_t *buf, size_t len)
{
	struct node *node = arg;
	size_t at = node->restore.at;
	if (len > NODE_STATE_SIZE + node->cluster->filling - at)
		return -EBADMSG;
	if (at < NODE_STATE_SIZE)
		memcpy(node->restore.bytes + at, buf, len < NODE_STATE_SIZE - at ? len : NODE_STATE_SIZE - at);
	node->restore.at += len;
	return 0;
}

static int machine_restore_end(void *arg, bool success)
{
	struct node *node = arg;
	if (!success)
		return 0;
	uint64_t last_applied;
	memcpy(&last_applied, node->restore.bytes + 16, sizeof(last_applied));
	if (node->restore.at != NODE_STATE_SIZE + node->cluster->filling ||
	    node->restore.bytes[NODE_STATE_SIZE - 1] != 0 || last_applied > node->restore.index ||
	    last_applied < node->last_applied)
		return -EBADMSG;
	node->last_applied = last_applied;
	node->n_restored++;
	memcpy(&node->hash, node->restore.bytes, sizeof(node->hash));
	memcpy(&node->n_applied, node->restore.bytes + 8, sizeof(node->n_applied));
	return 0;
}

static uint64_t machine_hash(void *arg)
{
	const struct node *node = arg;
	return node->hash;
}

static const struct replicator_machine machine = {
	.apply = machine_apply,
	.dropped = machine_dropped,
	.readable = machine_readable,
	.unreadable = machine_unreadable,
	.log = machine_log,
	.snapshot_take = machine_take,
	.snapshot_read = machine_read,
	.snapshot_free = machine_release,
	.restore_begin = machine_restore_begin,
	.restore_feed = machine_restore_feed,
	.restore_end = machine_restore_end,
	.state_hash = machine_hash,
};

/* The network ------------------------------------------------------------------------------------------ */

struct queue_transport {
	struct transport base;
	struct node *node;
};

static struct node *owner(struct transport *transport)
{
	return ((struct queue_transport *)transport)->node;
}

static void drop_frames(struct node *node)
{
	while (node->inbox) {
		struct frame *next = node->inbox->next;
		free(node->inbox);
		node->inbox = next;
	}
	free(node->current);
	free(node->outgoing);
	node->current = node->outgoing = NULL;
}

static void transport_close(struct transport *transport)
{
	drop_frames(owner(transport));
	free(transport);
}

static uint8_t *transport_prepare(struct transport *transport, size_t len)
{
	struct node *node = owner(transport);
	free(node->outgoing);
	node->outgoing = malloc(sizeof(*node->outgoing) + len);
	assert_non_null(node->outgoing);
	node->outgoing->next = NULL;
	node->outgoing->len = len;
	return node->outgoing->bytes;
}

static int transport_send(struct transport *transport, uint64_t peer)
{
	struct node *from = owner(transport);
	struct node *to = cluster_node(from->cluster, (unsigned)peer);
	struct frame **end = &to->inbox;
	assert_non_null(from->outgoing);
	if (from->cut || to->cut || !to->replica || !(from->connected >> peer & 1) ||
	    (from->told_moved >> peer & 1) != to->moved)
		return -EAGAIN;
	while (*end)
		end = &(*end)->next;
	*end = from->outgoing;
	from->outgoing = NULL;
	from->sent++;
	return 0;
}

static int transport_receive(struct transport *transport, struct transport_event *ret_event)
{
	struct node *node = owner(transport);
	free(node->current);
	node->current = node->deaf ? NULL : node->inbox;
	if (!node->current)
		return 0;
	node->inbox = node->current->next;
	*ret_event = (struct transport_event){
		.type = TRANSPORT_FRAME, .data = node->current->bytes, .len = node->current->len};
	return 1;
}

static int transport_fd(struct transport *transport)
{
	return transport ? -1 : 0;
}

static bool transport_pending(struct transport *transport)
{
	return !owner(transport)->deaf && owner(transport)->inbox != NULL;
}

static bool transport_stats(struct transport *transport, uint64_t peer, struct transport_peer_stats *ret)
{
	*ret = (struct transport_peer_stats){.id = peer};
	return owner(transport)->cluster->n >= peer;
}

static int transport_set_peer(struct transport *transport, uint64_t peer, const char *endpoint)
{
	struct node *node = owner(transport);
	char expected[32];
	bool moved = strncmp(endpoint, "moved:", strlen("moved:")) == 0;
	(void)snprintf(expected, sizeof(expected), "%s:%u", moved ? "moved" : "test", (unsigned)peer);
	assert_string_equal(endpoint, expected);
	assert_in_range(peer, 1, node->cluster->n);
	if (node->places != 0 && (unsigned)__builtin_popcount(node->connected & ~(1u << peer)) >= node->places)
		return -E2BIG;
	node->connected |= 1u << peer;
	node->told_moved = (node->told_moved & ~(1u << peer)) | (unsigned)moved << peer;
	return 0;
}

static void transport_remove_peer(struct transport *transport, uint64_t peer)
{
	owner(transport)->connected &= ~(1u << peer);
}

static const struct transport_ops queue_ops = {
	.close = transport_close,
	.prepare = transport_prepare,
	.send = transport_send,
	.receive = transport_receive,
	.fd = transport_fd,
	.pending = transport_pending,
	.peer_stats = transport_stats,
	.set_peer = transport_set_peer,
	.remove_peer = transport_remove_peer,
};

void cluster_arrives(struct replica_cluster *cluster, struct wire_message message)
{
	struct frame **end = &cluster_node(cluster, (unsigned)message.to)->inbox;
	message.cluster = CLUSTER_ID;
	struct frame *frame = malloc(sizeof *frame + wire_encoded_size(&message));
	assert_non_null(frame);
	*frame = (struct frame){.len = wire_encoded_size(&message)};
	wire_encode(&message, frame->bytes);
	while (*end)
		end = &(*end)->next;
	*end = frame;
}

/* The cluster ------------------------------------------------------------------------------------------ */

struct replica_cluster *cluster_new(unsigned n)
{
	struct replica_cluster *cluster = calloc(1, sizeof(*cluster));
	assert_non_null(cluster);
	assert_in_range(n, 1, NODES_MAX);
	cluster->n = n;
	cluster->now_us = 1000000;
	cluster->next_ticket = 1;
	cluster->options = (struct replica_options){
		.cluster = CLUSTER_ID,
		.snapshot_log_bytes = UINT64_MAX,
		.snapshot_log_percent = 100,
		.raft = {.heartbeat_us = 50000,
			 .election_timeout_min_us = 150000,
			 .election_timeout_max_us = 300000,
			 .batch_bytes_max = 64 * 1024,
			 .window_bytes_max = 256 * 1024,
			 .uncommitted_bytes_max = 1024 * 1024},
		.storage = {.cluster_id = CLUSTER_ID, .segment_size = 128 * 1024, .cache_bytes_max = 1 << 20},
	};
	for (unsigned id = 1; id <= n; id++) {
		struct raft_config_member *member =
			&cluster->options.founders.members[cluster->options.founders.n_members++];
		*member = (struct raft_config_member){.id = id, .role = RAFT_MEMBER_JOINING};
		(void)snprintf(member->peer_endpoint, sizeof(member->peer_endpoint), "test:%u", id);
		cluster_node(cluster, id)->cluster = cluster;
		cluster_node(cluster, id)->id = id;
		cluster_node(cluster, id)->disk = memory_disk_new();
	}
	return cluster;
}

struct replica_cluster *cluster_free(struct replica_cluster *cluster)
{
	for (unsigned id = 1; id <= cluster->n; id++) {
		struct node *node = cluster_node(cluster, id);
		node->replica = replica_free(node->replica);
		memory_disk_free(node->disk);
	}
	free(cluster);
	return NULL;
}

int cluster_start(struct replica_cluster *cluster, unsigned id)
{
	struct node *node = cluster_node(cluster, id);
	struct replica_options options = cluster->options;
	struct queue_transport *transport = calloc(1, sizeof(*transport));
	assert_non_null(transport);
	assert_null(node->replica);
	*transport = (struct queue_transport){.base = {&queue_ops}, .node = node};
	options.seed = ++cluster->starts * 7919 + id;
	options.raft.id = id;
	options.level_max = node->level_max;
	options.storage.member_id = id;
	options.storage.incarnation = cluster->starts * 1000 + id;
	node->hash = node->n_applied = node->last_applied = 0;
	node->snapshot.used = false;
	node->connected = 0;
	for (unsigned k = 1; k <= cluster->n && node->file != 0; k++)
		if (!(node->file >> k & 1))
			assert_true(raft_config_remove(&options.founders, k));
	node->result = replica_open(&options, memory_disk_open(node->disk), &transport->base, &machine, node,
				    cluster->now_us, &node->replica, node->message);
	if (node->result != 0)
		node->replica = NULL;
	return node->result;
}

void cluster_start_all(struct replica_cluster *cluster)
{
	for (unsigned id = 1; id <= cluster->n; id++)
		assert_int_equal(cluster_start(cluster, id), 0);
}

void cluster_kill(struct replica_cluster *cluster, unsigned id)
{
	struct node *node = cluster_node(cluster, id);
	node->replica = replica_free(node->replica);
	memory_disk_kill(node->disk);
}

static void node_turn(struct node *node)
{
	struct replica_cluster *cluster = node->cluster;
	bool log_rests = node->log_step_ms > 0;
	if (!node->background_hangs && !log_rests)
		memory_disk_run_all(node->disk, cluster->now_us);
	while (!node->background_hangs && memory_disk_step(node->disk, DISK_LANE_BACKGROUND))
		;
	while (!log_rests && memory_disk_step(node->disk, DISK_LANE_LOG))
		;
	if (log_rests && cluster->now_us / 1000 % node->log_step_ms == 0)
		(void)memory_disk_step(node->disk, DISK_LANE_LOG);
	/* What the owner of an event loop does, but within one instant. */
	for (unsigned k = 0; k < (cluster->turn_by_turn ? 1 : 10) && node->result == 0; k++) {
		node->result = replica_process(node->replica, cluster->now_us, cluster->now_us / 1000);
		if (node->result != 0 || replica_deadline_us(node->replica) > cluster->now_us)
			return;
	}
}

void cluster_run_ms(struct replica_cluster *cluster, unsigned ms)
{
	for (; ms > 0; ms--) {
		cluster->now_us += 1000;
		for (unsigned id = 1; id <= cluster->n; id++)
			if (cluster_node(cluster, id)->replica && cluster_node(cluster, id)->result == 0)
				node_turn(cluster_node(cluster, id));
	}
}

struct replicator_status cluster_status(struct replica_cluster *cluster, unsigned id)
{
	struct replicator_status status;
	replica_get_status(cluster_node(cluster, id)->replica, &status);
	return status;
}

static bool is_up(struct replica_cluster *cluster, unsigned id)
{
	struct node *node = cluster_node(cluster, id);
	return node->replica && node->result == 0 && !node->cut;
}

unsigned cluster_leader(struct replica_cluster *cluster)
{
	unsigned leader = 0;
	for (unsigned id = 1; id <= cluster->n; id++) {
		if (!is_up(cluster, id) || cluster_status(cluster, id).role != RAFT_LEADER)
			continue;
		if (leader != 0)
			return 0;
		leader = id;
	}
	return leader;
}

/* All that are up follow it, and none of them is still joining. */
static bool is_settled(struct replica_cluster *cluster, unsigned leader)
{
	if (leader == 0)
		return false;
	struct replicator_status status = cluster_status(cluster, leader);
	for (unsigned id = 1; id <= cluster->n; id++) {
		if (!is_up(cluster, id))
			continue;
		if (cluster_status(cluster, id).leader != leader)
			return false;
		if (id != leader && cluster_status(cluster, id).role != RAFT_FOLLOWER)
			return false;
	}
	return status.commit == status.last_index;
}

unsigned cluster_elect(struct replica_cluster *cluster)
{
	for (unsigned ms = 0; ms < PATIENCE_MS; ms++) {
		unsigned leader = cluster_leader(cluster);
		if (is_settled(cluster, leader))
			return leader;
		cluster_run_ms(cluster, 1);
	}
	return 0;
}

int cluster_propose(struct replica_cluster *cluster, unsigned id, unsigned n, uint32_t size)
{
	struct replicator_command commands[64];
	uint8_t *data = malloc(size + 1);
	assert_non_null(data);
	assert_in_range(n, 1, 64);
	memset(data, (int)(cluster->next_ticket % 251), size + 1);
	for (unsigned k = 0; k < n; k++)
		commands[k] = (struct replicator_command){.data = data, .size = size};
	int r = replica_propose(cluster_node(cluster, id)->replica, commands, n, cluster->next_ticket, cluster->now_us,
				cluster->now_us / 1000);
	if (r == 0)
		cluster->next_ticket += n;
	free(data);
	return r;
}

void cluster_write(struct replica_cluster *cluster, unsigned id, unsigned n, uint32_t size)
{
	assert_int_equal(cluster_propose(cluster, id, n, size), 0);
	uint64_t last = cluster_status(cluster, id).last_index;
	for (unsigned ms = 0; ms < PATIENCE_MS; ms++) {
		bool done = true;
		for (unsigned k = 1; k <= cluster->n; k++)
			done &= !is_up(cluster, k) || cluster_status(cluster, k).applied >= last;
		if (done)
			return;
		cluster_run_ms(cluster, 1);
	}
	fail_msg("entry %llu was not applied everywhere in time", (unsigned long long)last);
}

bool cluster_journal_has(struct replica_cluster *cluster, unsigned id, const char *text)
{
	return strstr(cluster_node(cluster, id)->journal, text) != NULL;
}
