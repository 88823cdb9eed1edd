/*
 * See raft_cluster.h. The members' logs here hold real entries (term, value), so that what the core only counts can be
 * compared between members.
 */
#include "raft_cluster_internal.h"

#include <string.h>

uint64_t rc_random(struct rc_cluster *cluster, uint64_t below)
{
	uint64_t x = cluster->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	cluster->random = x;
	return (x >> 11) % below;
}

bool rc_chance(struct rc_cluster *cluster, unsigned percent)
{
	return rc_random(cluster, 100) < percent;
}

uint64_t rc_between(struct rc_cluster *cluster, uint64_t low, uint64_t high)
{
	return low + (high > low ? rc_random(cluster, high - low + 1) : 0);
}

void *rc_grow(void *array, size_t n, size_t *capacity, size_t size)
{
	if (n < *capacity)
		return array;
	*capacity = *capacity ? *capacity * 2 : 16;
	while (*capacity <= n)
		*capacity *= 2;
	array = realloc(array, *capacity * size);
	raft_assert(array);
	return array;
}

void rc_log_push(struct rc_log *log, const struct rc_entry *entry)
{
	log->entries = rc_grow(log->entries, log->n, &log->capacity, sizeof(*log->entries));
	log->entries[log->n++] = *entry;
}

void rc_log_copy(struct rc_log *log, const struct rc_log *other)
{
	log->n = 0;
	for (size_t i = 0; i < other->n; i++)
		rc_log_push(log, &other->entries[i]);
}

bool rc_same_entry(const struct rc_entry *a, const struct rc_entry *b)
{
	return a->term == b->term && a->value == b->value && a->size == b->size && a->type == b->type;
}

void rc_log_reset(struct rc_cluster *cluster, struct rc_log *log, uint64_t index, uint64_t term)
{
	const struct rc_log *committed = &cluster->committed;
	bool real = index <= committed->n && committed->entries[index - 1].term == term;

	raft_assert(real || cluster->scripted);
	cluster->made_up |= !real;
	log->n = 0;
	for (size_t i = 0; i < index; i++) {
		struct rc_entry made_up = {.term = term};

		rc_log_push(log, real ? &committed->entries[i] : &made_up);
	}
}

/* Life ------------------------------------------------------------------------------------------------- */

void rc_init(struct rc_cluster *cluster, const struct rc_options *options)
{
	memset(cluster, 0, sizeof(*cluster));
	raft_assert(options->n_nodes <= RC_NODES_MAX && options->n_blank <= options->n_nodes);
	raft_assert(options->n_learners < options->n_nodes);
	cluster->options = *options;
	cluster->random = (options->seed + 1) * 0x9e3779b97f4a7c15u;
	cluster->now_us = 1000000;
	cluster->n_nodes = options->n_nodes;
	cluster->delay_min_us = 100;
	cluster->delay_max_us = 500;
	cluster->disk_min_us = 100;
	cluster->disk_max_us = 300;
	cluster->genesis.level = options->level > 0 ? options->level : RAFT_LEVEL_MAX;
	for (uint64_t id = 1; id <= cluster->n_nodes; id++) {
		struct rc_node *node = &cluster->nodes[id];
		struct raft_config_member member = {.id = id, .incarnation = id * 1000, .role = RAFT_MEMBER_VOTER};
		unsigned n_founders = options->n_nodes - options->n_blank;

		node->id = id;
		node->incarnation = member.incarnation;
		node->blank = id > n_founders;
		if (id > n_founders - options->n_learners)
			member.role = RAFT_MEMBER_LEARNER;
		if (!node->blank)
			raft_assert(raft_config_set(&cluster->genesis, &member));
	}
}

static void drop_writes(struct rc_node *node)
{
	for (size_t i = 0; i < node->n_writes; i++)
		free(node->writes[i].entries);
	node->n_writes = 0;
}

void rc_fini(struct rc_cluster *cluster)
{
	for (uint64_t id = 1; id <= cluster->n_nodes; id++) {
		struct rc_node *node = &cluster->nodes[id];

		node->core = raft_free(node->core);
		drop_writes(node);
		free(node->writes);
		free(node->log.entries);
		free(node->disk.entries);
		free(node->lost.entries);
		free(node->reads);
	}
	for (size_t i = 0; i < cluster->n_flights; i++)
		free(cluster->flights[i].entries);
	free(cluster->flights);
	for (size_t i = 0; i < cluster->n_configs; i++)
		free(cluster->configs[i]);
	free(cluster->configs);
	free(cluster->committed.entries);
	free(cluster->leaders);
}

void rc_seed_log(struct rc_cluster *cluster, uint64_t id, uint64_t term, unsigned n)
{
	struct rc_node *node = &cluster->nodes[id];

	for (unsigned i = 0; i < n; i++) {
		/* The value follows from term and index, as it would in a real log. */
		struct rc_entry entry = {
			.term = term, .value = term << 32 | (node->disk.n + 1), .size = 10, .type = RAFT_ENTRY_COMMAND};

		rc_log_push(&node->disk, &entry);
	}
	if (node->disk_hard.term < term)
		node->disk_hard.term = term;
}

void rc_seed_hard_state(struct rc_cluster *cluster, uint64_t id, uint64_t term, uint64_t vote)
{
	cluster->nodes[id].disk_hard = (struct raft_hard_state){.term = term, .vote = vote};
}

/* The configuration as of the base: from the compacted entries, which stand for the snapshot. */
static void recover_config(const struct rc_cluster *cluster, const struct rc_node *node,
			   struct raft_recovered *recovered)
{
	if (!node->blank || node->base > 0)
		recovered->config = cluster->genesis;
	for (size_t i = 0; i < node->base; i++) {
		if (node->disk.entries[i].type != RAFT_ENTRY_CONFIG)
			continue;
		recovered->config = rc_config_by_number(cluster, node->disk.entries[i].value)->config;
		recovered->config_index = i + 1;
	}
}

void rc_start(struct rc_cluster *cluster, uint64_t id)
{
	struct rc_node *node = &cluster->nodes[id];
	const struct rc_options *o = &cluster->options;
	struct raft_options options = {
		.id = id,
		.incarnation = node->incarnation,
		.seed = rc_random(cluster, UINT32_MAX),
		.heartbeat_us = RC_HEARTBEAT_US,
		.election_timeout_min_us = RC_TIMEOUT_MIN_US,
		.election_timeout_max_us = RC_TIMEOUT_MAX_US,
		.batch_bytes_max = o->batch_bytes_max ? o->batch_bytes_max : 1u << 20,
		.window_bytes_max = o->window_bytes_max ? o->window_bytes_max : 4u << 20,
		.uncommitted_bytes_max = o->uncommitted_bytes_max ? o->uncommitted_bytes_max : 64u << 20,
		.lease = o->leases,
		.promise_us = o->leases ? RC_TIMEOUT_MIN_US : 0,
		.promised_us = o->leases ? RC_TIMEOUT_MIN_US : 0,
		.clock_drift_ppm = o->clock_drift_ppm,
	};
	struct raft_recovered recovered = {.hard_state = node->disk_hard, .commit = node->disk_commit};

	raft_assert(!node->core);
	node->base = node->disk_base;
	recover_config(cluster, node, &recovered);
	recovered.base_index = node->base;
	recovered.base_term = node->base ? node->disk.entries[node->base - 1].term : 0;
	if (recovered.commit < node->base)
		recovered.commit = node->base;
	node->core = raft_new(&options, &recovered, cluster->now_us);
	raft_assert(node->core);
	for (size_t i = node->base; i < node->disk.n; i++) {
		const struct rc_entry *entry = &node->disk.entries[i];
		int r = raft_recover_entries(node->core, entry->term, &entry->size, 1);

		if (r == 0 && entry->type == RAFT_ENTRY_CONFIG)
			r = raft_recover_config(node->core, i + 1, &rc_config_by_number(cluster, entry->value)->config);
		raft_assert(r == 0);
	}
	rc_log_copy(&node->log, &node->disk);
	raft_start(node->core, cluster->now_us);
	raft_check_invariants(node->core);
	raft_get_status(node->core, &node->status);
	node->commit = node->status.commit;
	while (cluster->committed.n < node->commit) /* what a test gave it to begin with */
		rc_log_push(&cluster->committed, &node->disk.entries[cluster->committed.n]);
	node->n_reads = 0;
	(void)rc_tick(cluster, id); /* tells the deadline; a lone voter campaigns */
}

void rc_start_all(struct rc_cluster *cluster)
{
	for (uint64_t id = 1; id <= cluster->n_nodes; id++)
		if (!cluster->nodes[id].core)
			rc_start(cluster, id);
}

void rc_apply_write(struct rc_cluster *cluster, struct rc_node *node)
{
	struct rc_write write = node->writes[0];

	raft_assert(node->n_writes > 0);
	memmove(node->writes, node->writes + 1, (node->n_writes - 1) * sizeof(*node->writes));
	node->n_writes--;
	node->disk_hard = write.hard_state;
	node->disk_commit = write.commit;
	if (write.reset_index) {
		rc_log_reset(cluster, &node->disk, write.reset_index, write.reset_term);
		node->disk_base = write.reset_index;
	}
	if (write.truncate_from)
		node->disk.n = write.truncate_from - 1;
	if (write.n)
		raft_assert(node->disk.n == write.first_index - 1);
	for (uint32_t i = 0; i < write.n; i++)
		rc_log_push(&node->disk, &write.entries[i]);
	free(write.entries);
}

void rc_crash(struct rc_cluster *cluster, uint64_t id, size_t n_survive)
{
	struct rc_node *node = &cluster->nodes[id];

	while (n_survive-- > 0 && node->n_writes > 0)
		rc_apply_write(cluster, node);
	drop_writes(node);
	node->core = raft_free(node->core);
	node->n_reads = 0;
}

void rc_wipe(struct rc_cluster *cluster, uint64_t id)
{
	struct rc_node *node = &cluster->nodes[id];

	raft_assert(!node->core);
	rc_log_copy(&node->lost, &node->disk);
	node->disk.n = 0;
	node->log.n = 0;
	node->disk_hard = (struct raft_hard_state){0};
	node->disk_commit = 0;
	node->disk_base = 0;
	node->base = 0;
	node->commit = 0;
	node->blank = true;
	node->incarnation++;
}

/* Steps ------------------------------------------------------------------------------------------------ */

/* Entry i of the write. */
static void make_entry(struct rc_cluster *cluster, const struct raft_event *event, const struct raft_update *update,
		       uint32_t i, struct rc_entry *entry)
{
	*entry = (struct rc_entry){.term = update->write.term, .type = RAFT_ENTRY_COMMAND};
	if (update->write.noop) {
		entry->type = RAFT_ENTRY_NOOP;
	} else if (update->write.config) {
		struct raft_config config;
		int r = raft_config_decode(update->write.config, update->write.config_size, &config);

		raft_assert(r == RAFT_CONFIG_OK);
		entry->type = RAFT_ENTRY_CONFIG;
		entry->size = update->write.config_size;
		entry->value = rc_config_number(cluster, &config);
	} else if (event->type == RAFT_EVENT_MESSAGE) {
		const struct raft_entry *from = &event->message->append.entries[update->write.skip + i];
		struct raft_config config;

		entry->term = from->term;
		entry->size = from->size;
		entry->type = from->type;
		if (from->type == RAFT_ENTRY_CONFIG && raft_config_decode(from->data, from->size, &config) == 0)
			entry->value = rc_config_number(cluster, &config);
		else
			memcpy(&entry->value, from->data, sizeof(entry->value));
	} else {
		entry->value = ++cluster->next_value;
		entry->size = event->propose.sizes[i];
	}
}

static void take_write(struct rc_cluster *cluster, struct rc_node *node, const struct raft_event *event,
		       const struct raft_update *update)
{
	struct rc_write write = {.seq = update->write.seq, .hard_state = update->write.hard_state};

	write.commit = update->commit;
	write.due_us = cluster->now_us + rc_between(cluster, cluster->disk_min_us, cluster->disk_max_us);
	write.truncate_from = update->write.truncate_from;
	write.first_index = update->write.first_index;
	write.reset_index = update->write.reset_index;
	write.reset_term = update->write.reset_term;
	if (write.reset_index) {
		raft_assert(update->write.truncate_from == 0 && update->write.first_index == 0);
		raft_assert(write.reset_index > node->commit);
		rc_log_reset(cluster, &node->log, write.reset_index, write.reset_term);
		node->base = write.reset_index;
	}
	if (update->write.truncate_from) {
		raft_assert(update->write.truncate_from == update->write.first_index);
		raft_assert(update->write.truncate_from > node->commit);
		node->log.n = update->write.truncate_from - 1;
	}
	if (update->write.first_index) {
		write.n = (uint32_t)(update->write.last_index - update->write.first_index + 1);
		write.entries = malloc(write.n * sizeof(*write.entries));
		raft_assert(write.entries && node->log.n == update->write.first_index - 1);
	}
	for (uint32_t i = 0; i < write.n; i++) {
		struct rc_entry *entry = &write.entries[i];

		make_entry(cluster, event, update, i, entry);
		rc_log_push(&node->log, entry);
	}
	node->writes = rc_grow(node->writes, node->n_writes, &node->writes_capacity, sizeof(*node->writes));
	node->writes[node->n_writes++] = write;
}

static void take_reads(struct rc_cluster *cluster, struct rc_node *node, const struct raft_update *update)
{
	for (size_t i = 0; i < update->n_reads_ready; i++) {
		const struct raft_read *ready = &update->reads_ready[i];

		raft_assert(ready->read_index <= update->commit);
		for (size_t k = 0; k < node->n_reads; k++) {
			if (node->reads[k].id != ready->read_id)
				continue;
			raft_assert(!node->reads[k].ready && !node->reads[k].failed);
			raft_assert(ready->read_index >= node->reads[k].floor); /* linearizable */
			node->reads[k].ready = true;
			cluster->n_reads_ready++;
		}
	}
	for (size_t i = 0; i < update->n_reads_failed; i++) {
		for (size_t k = 0; k < node->n_reads; k++) {
			if (node->reads[k].id != update->reads_failed[i])
				continue;
			raft_assert(!node->reads[k].ready && !node->reads[k].failed);
			node->reads[k].failed = true;
			cluster->n_reads_failed++;
		}
	}
}

static void take_update(struct rc_cluster *cluster, struct rc_node *node, const struct raft_event *event)
{
	const struct raft_update *update = &node->last;

	raft_assert(update->commit == node->status.commit);
	raft_assert(update->write.hard_state.term == node->status.hard_state.term);
	if (update->write.needed)
		take_write(cluster, node, event, update);
	raft_assert(node->log.n == node->status.last_index);
	if (node->status.role == RAFT_LEADER)
		rc_check_new_leader(cluster, node);
	rc_check_commit(cluster, node);
	for (size_t i = 0; i < update->n_messages; i++) {
		rc_check_message(cluster, node, &update->messages[i]);
		rc_fly(cluster, node, &update->messages[i]);
	}
	take_reads(cluster, node, update);
	for (size_t i = 0; i < update->n_traces; i++)
		node->traces[update->traces[i].type]++;
}

int rc_step(struct rc_cluster *cluster, uint64_t id, const struct raft_event *event)
{
	struct rc_node *node = &cluster->nodes[id];
	struct raft_event now = *event;
	struct raft_status before = node->status;
	int result;

	raft_assert(node->core);
	now.now_us = cluster->now_us;
	result = raft_step(node->core, &now, &node->last);
	raft_check_invariants(node->core);
	raft_get_status(node->core, &node->status);
	raft_check_delta(&before, &node->status);
	node->deadline_us = node->last.deadline_us;
	cluster->n_steps++;
	if (result == RAFT_OK) {
		take_update(cluster, node, &now);
	} else {
		/* Refused: the core did not change, but for a promise that counts from the time that it was told. */
		before.promise_us = node->status.promise_us;
		raft_assert(memcmp(&before, &node->status, sizeof(before)) == 0);
		raft_assert(!node->last.write.needed && node->last.n_messages == 0);
	}
	return result;
}

int rc_tick(struct rc_cluster *cluster, uint64_t id)
{
	struct raft_event event = {.type = RAFT_EVENT_TICK};

	return rc_step(cluster, id, &event);
}

int rc_timeout(struct rc_cluster *cluster, uint64_t id)
{
	if (cluster->nodes[id].deadline_us > cluster->now_us)
		cluster->now_us = cluster->nodes[id].deadline_us;
	return rc_tick(cluster, id);
}

int rc_message(struct rc_cluster *cluster, const struct raft_message *message)
{
	struct raft_event event = {.type = RAFT_EVENT_MESSAGE, .message = message};

	return rc_step(cluster, message->to, &event);
}

int rc_propose(struct rc_cluster *cluster, uint64_t id, unsigned n, uint32_t size)
{
	uint32_t sizes[256];
	struct raft_event event = {.type = RAFT_EVENT_PROPOSE};

	raft_assert(n >= 1 && n <= 256);
	for (unsigned i = 0; i < n; i++)
		sizes[i] = size ? size : 10 + (uint32_t)((cluster->next_value + i) % 50);
	event.propose.sizes = sizes;
	event.propose.n_entries = n;
	return rc_step(cluster, id, &event);
}

int rc_read(struct rc_cluster *cluster, uint64_t id)
{
	struct rc_node *node = &cluster->nodes[id];
	struct raft_event event = {.type = RAFT_EVENT_READ, .read_id = ++cluster->next_read_id};
	int r;

	node->reads = rc_grow(node->reads, node->n_reads, &node->reads_capacity, sizeof(*node->reads));
	node->reads[node->n_reads++] = (struct rc_read){.id = event.read_id, .floor = cluster->committed.n};
	r = rc_step(cluster, id, &event);
	if (r != RAFT_OK)
		node->n_reads--;
	return r;
}

int rc_transfer(struct rc_cluster *cluster, uint64_t id, uint64_t target)
{
	struct raft_event event = {.type = RAFT_EVENT_TRANSFER, .transfer_target = target};

	return rc_step(cluster, id, &event);
}

int rc_peer_down(struct rc_cluster *cluster, uint64_t id, uint64_t peer)
{
	struct raft_event event = {.type = RAFT_EVENT_PEER_DOWN, .peer = peer};

	return rc_step(cluster, id, &event);
}

int rc_disk_stalled(struct rc_cluster *cluster, uint64_t id)
{
	struct raft_event event = {.type = RAFT_EVENT_DISK_STALLED};

	return rc_step(cluster, id, &event);
}

void rc_persist_one(struct rc_cluster *cluster, uint64_t id)
{
	struct rc_node *node = &cluster->nodes[id];
	struct raft_event event = {.type = RAFT_EVENT_PERSISTED, .persisted_seq = node->writes[0].seq};
	int r;

	rc_apply_write(cluster, node);
	r = rc_step(cluster, id, &event);
	raft_assert(r == RAFT_OK);
}

void rc_persist_at_once(struct rc_cluster *cluster, uint64_t id)
{
	struct rc_node *node = &cluster->nodes[id];
	struct raft_event event = {.type = RAFT_EVENT_PERSISTED};
	int r;

	while (node->n_writes > 0) {
		event.persisted_seq = node->writes[0].seq;
		rc_apply_write(cluster, node);
	}
	r = rc_step(cluster, id, &event);
	raft_assert(r == RAFT_OK);
}

void rc_persist(struct rc_cluster *cluster, uint64_t id)
{
	while (cluster->nodes[id].n_writes > 0)
		rc_persist_one(cluster, id);
}
