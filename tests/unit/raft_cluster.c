/*
 * See raft_cluster.h. The members' logs here hold real entries (term, value), so that what the core only counts can be
 * compared between members.
 */
#include "raft_cluster.h"
#include "daemon/assert.h"

#include <string.h>

#define RC_ENTRIES_PER_MESSAGE 8192u

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

static uint64_t between(struct rc_cluster *cluster, uint64_t low, uint64_t high)
{
	return low + (high > low ? rc_random(cluster, high - low + 1) : 0);
}

static void *grow(void *array, size_t n, size_t *capacity, size_t size)
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

static void log_push(struct rc_log *log, const struct rc_entry *entry)
{
	log->entries = grow(log->entries, log->n, &log->capacity, sizeof(*log->entries));
	log->entries[log->n++] = *entry;
}

static void log_copy(struct rc_log *log, const struct rc_log *other)
{
	log->n = 0;
	for (size_t i = 0; i < other->n; i++)
		log_push(log, &other->entries[i]);
}

static bool same_entry(const struct rc_entry *a, const struct rc_entry *b)
{
	return a->term == b->term && a->value == b->value && a->size == b->size;
}

/* Life ------------------------------------------------------------------------------------------------- */

void rc_init(struct rc_cluster *cluster, const struct rc_options *options)
{
	memset(cluster, 0, sizeof(*cluster));
	raft_assert(options->n_nodes <= RC_NODES_MAX && options->n_learners < options->n_nodes);
	cluster->options = *options;
	cluster->random = (options->seed + 1) * 0x9e3779b97f4a7c15u;
	cluster->now_us = 1000000;
	cluster->n_nodes = options->n_nodes;
	cluster->delay_min_us = 100;
	cluster->delay_max_us = 500;
	cluster->disk_min_us = 100;
	cluster->disk_max_us = 300;
	for (uint64_t id = 1; id <= cluster->n_nodes; id++) {
		cluster->nodes[id].id = id;
		cluster->nodes[id].voter = id <= options->n_nodes - options->n_learners;
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
		free(node->reads);
	}
	for (size_t i = 0; i < cluster->n_flights; i++)
		free(cluster->flights[i].entries);
	free(cluster->flights);
	free(cluster->committed.entries);
	free(cluster->leaders);
}

void rc_seed_log(struct rc_cluster *cluster, uint64_t id, uint64_t term, unsigned n)
{
	struct rc_node *node = &cluster->nodes[id];

	for (unsigned i = 0; i < n; i++) {
		/* The value follows from term and index, as it would in a real log. */
		struct rc_entry entry = {.term = term, .value = term << 32 | (node->disk.n + 1), .size = 10};

		log_push(&node->disk, &entry);
	}
	if (node->disk_hard.term < term)
		node->disk_hard.term = term;
}

void rc_seed_hard_state(struct rc_cluster *cluster, uint64_t id, uint64_t term, uint64_t vote)
{
	cluster->nodes[id].disk_hard = (struct raft_hard_state){.term = term, .vote = vote};
}

void rc_start(struct rc_cluster *cluster, uint64_t id)
{
	struct rc_node *node = &cluster->nodes[id];
	const struct rc_options *o = &cluster->options;
	struct raft_options options = {
		.id = id,
		.seed = rc_random(cluster, UINT32_MAX),
		.heartbeat_us = RC_HEARTBEAT_US,
		.election_timeout_min_us = RC_TIMEOUT_MIN_US,
		.election_timeout_max_us = RC_TIMEOUT_MAX_US,
		.batch_bytes_max = o->batch_bytes_max ? o->batch_bytes_max : 1u << 20,
		.window_bytes_max = o->window_bytes_max ? o->window_bytes_max : 4u << 20,
		.uncommitted_bytes_max = o->uncommitted_bytes_max ? o->uncommitted_bytes_max : 64u << 20,
	};
	struct raft_recovered recovered = {.hard_state = node->disk_hard, .commit = node->disk_commit};

	raft_assert(!node->core);
	recovered.config.n_members = cluster->n_nodes;
	for (unsigned i = 0; i < cluster->n_nodes; i++) {
		recovered.config.members[i].id = i + 1;
		recovered.config.members[i].voter = cluster->nodes[i + 1].voter;
	}
	recovered.base_index = node->base;
	recovered.base_term = node->base ? node->disk.entries[node->base - 1].term : 0;
	if (recovered.commit < node->base)
		recovered.commit = node->base;
	node->core = raft_new(&options, &recovered, cluster->now_us);
	raft_assert(node->core);
	for (size_t i = node->base; i < node->disk.n; i++) {
		int r = raft_recover_entries(node->core, node->disk.entries[i].term, &node->disk.entries[i].size, 1);

		raft_assert(r == 0);
	}
	log_copy(&node->log, &node->disk);
	raft_start(node->core, cluster->now_us);
	raft_check_invariants(node->core);
	raft_get_status(node->core, &node->status);
	node->commit = node->status.commit;
	while (cluster->committed.n < node->commit) /* what a test gave it to begin with */
		log_push(&cluster->committed, &node->disk.entries[cluster->committed.n]);
	node->n_reads = 0;
	(void)rc_tick(cluster, id); /* tells the deadline; a lone voter campaigns */
}

void rc_start_all(struct rc_cluster *cluster)
{
	for (uint64_t id = 1; id <= cluster->n_nodes; id++)
		if (!cluster->nodes[id].core)
			rc_start(cluster, id);
}

/* The write becomes durable as one atomic unit. */
static void apply_write(struct rc_node *node)
{
	struct rc_write write = node->writes[0];

	raft_assert(node->n_writes > 0);
	memmove(node->writes, node->writes + 1, (node->n_writes - 1) * sizeof(*node->writes));
	node->n_writes--;
	node->disk_hard = write.hard_state;
	node->disk_commit = write.commit;
	if (write.truncate_from)
		node->disk.n = write.truncate_from - 1;
	if (write.n)
		raft_assert(node->disk.n == write.first_index - 1);
	for (uint32_t i = 0; i < write.n; i++)
		log_push(&node->disk, &write.entries[i]);
	free(write.entries);
}

void rc_crash(struct rc_cluster *cluster, uint64_t id, size_t n_survive)
{
	struct rc_node *node = &cluster->nodes[id];

	while (n_survive-- > 0 && node->n_writes > 0)
		apply_write(node);
	drop_writes(node);
	node->core = raft_free(node->core);
	node->n_reads = 0;
}

/* Checks ----------------------------------------------------------------------------------------------- */

static bool disk_holds(const struct rc_node *node, uint64_t index, const struct rc_entry *entry)
{
	return index <= node->disk.n && same_entry(&node->disk.entries[index - 1], entry);
}

/* Dissertation, section 3.8: what leaves rests on nothing that a crash could take back. */
static void check_message(const struct rc_cluster *cluster, const struct rc_node *node,
			  const struct raft_message *message)
{
	const struct rc_node *to = &cluster->nodes[message->to];
	const struct raft_hard_state *disk = &node->disk_hard;
	bool asks_pre = message->type == RAFT_MESSAGE_VOTE_REQUEST && message->vote_request.pre_vote;

	raft_assert(message->from == node->id && message->to != node->id);
	raft_assert(message->term - (asks_pre ? 1 : 0) <= disk->term); /* the term is durable */
	raft_assert(message->term == node->status.hard_state.term + (asks_pre ? 1 : 0));
	if (message->type == RAFT_MESSAGE_VOTE_REQUEST && !asks_pre)
		raft_assert(disk->vote == node->id); /* its own vote is durable */
	if (message->type == RAFT_MESSAGE_VOTE_REPLY && message->vote_reply.granted && !message->vote_reply.pre_vote) {
		raft_assert(disk->vote == message->to); /* the vote is durable */
		raft_assert(message->vote_reply.request_term == message->term);
	}
	if (message->type == RAFT_MESSAGE_APPEND_REPLY && !message->append_reply.rejected) {
		raft_assert(message->append_reply.match <= node->disk.n); /* the entries are durable */
		for (uint64_t i = message->append_reply.match; i > 0 && i + 64 > message->append_reply.match; i--) {
			raft_assert(same_entry(&node->disk.entries[i - 1], &node->log.entries[i - 1]));
			/* … and they are the leader's */
			if (!cluster->scripted && to->core && to->status.role == RAFT_LEADER &&
			    to->status.hard_state.term == message->term)
				raft_assert(i <= to->log.n &&
					    same_entry(&node->log.entries[i - 1], &to->log.entries[i - 1]));
		}
	}
	if (message->type == RAFT_MESSAGE_APPEND)
		raft_assert(node->status.role == RAFT_LEADER);
}

static void check_new_leader(struct rc_cluster *cluster, const struct rc_node *node)
{
	uint64_t term = node->status.hard_state.term;
	size_t old = cluster->leaders_capacity;

	cluster->leaders = grow(cluster->leaders, (size_t)term, &cluster->leaders_capacity, sizeof(uint64_t));
	for (size_t i = old; i < cluster->leaders_capacity; i++)
		cluster->leaders[i] = 0;
	raft_assert(cluster->leaders[term] == 0 || cluster->leaders[term] == node->id); /* Election Safety */
	if (cluster->leaders[term] == node->id)
		return;
	cluster->leaders[term] = node->id;
	raft_assert(node->log.n >= cluster->committed.n); /* Leader Completeness */
	for (size_t i = 0; i < cluster->committed.n; i++)
		raft_assert(same_entry(&node->log.entries[i], &cluster->committed.entries[i]));
}

/* State Machine Safety, and that a quorum's disks hold whatever is committed for the first time. */
static void check_commit(struct rc_cluster *cluster, struct rc_node *node)
{
	uint64_t commit = node->status.commit;
	unsigned voters = 0;
	unsigned holders = 0;

	raft_assert(commit >= node->commit && commit <= node->log.n);
	for (uint64_t i = node->commit + 1; i <= commit && i <= cluster->committed.n; i++)
		raft_assert(same_entry(&node->log.entries[i - 1], &cluster->committed.entries[i - 1]));
	if (commit > cluster->committed.n) {
		const struct rc_entry *entry = &node->log.entries[commit - 1];

		raft_assert(cluster->scripted || node->status.role == RAFT_LEADER);
		raft_assert(cluster->scripted || entry->term == node->status.hard_state.term);
		for (uint64_t id = 1; id <= cluster->n_nodes; id++) {
			voters += cluster->nodes[id].voter;
			holders += cluster->nodes[id].voter && disk_holds(&cluster->nodes[id], commit, entry);
		}
		raft_assert(cluster->scripted || holders >= voters / 2 + 1);
		while (cluster->committed.n < commit)
			log_push(&cluster->committed, &node->log.entries[cluster->committed.n]);
	}
	node->commit = commit;
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

void rc_check_logs(struct rc_cluster *cluster)
{
	for (uint64_t a = 1; a <= cluster->n_nodes; a++) {
		for (uint64_t b = a + 1; b <= cluster->n_nodes; b++) {
			const struct rc_log *x = &cluster->nodes[a].log;
			const struct rc_log *y = &cluster->nodes[b].log;
			size_t n = x->n < y->n ? x->n : y->n;
			bool equal = false;

			/* Log Matching: below an index with equal terms everything is equal. */
			for (size_t i = n; i > 0; i--) {
				equal |= x->entries[i - 1].term == y->entries[i - 1].term;
				raft_assert(!equal || same_entry(&x->entries[i - 1], &y->entries[i - 1]));
			}
		}
	}
}

/* Steps ------------------------------------------------------------------------------------------------ */

static void take_write(struct rc_cluster *cluster, struct rc_node *node, const struct raft_event *event,
		       const struct raft_update *update)
{
	struct rc_write write = {.seq = update->write.seq, .hard_state = update->write.hard_state};

	write.commit = update->commit;
	write.due_us = cluster->now_us + between(cluster, cluster->disk_min_us, cluster->disk_max_us);
	write.truncate_from = update->write.truncate_from;
	write.first_index = update->write.first_index;
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

		*entry = (struct rc_entry){.term = update->write.term};
		if (event->type == RAFT_EVENT_MESSAGE && !update->write.noop) {
			const struct raft_entry *from = &event->message->append.entries[update->write.skip + i];

			memcpy(&entry->value, from->data, sizeof(entry->value));
			entry->term = from->term;
			entry->size = from->size;
		} else if (!update->write.noop) {
			entry->value = ++cluster->next_value;
			entry->size = event->propose.sizes[i];
		}
		log_push(&node->log, entry);
	}
	node->writes = grow(node->writes, node->n_writes, &node->writes_capacity, sizeof(*node->writes));
	node->writes[node->n_writes++] = write;
}

static void fly(struct rc_cluster *cluster, const struct rc_node *node, const struct raft_message *message)
{
	struct rc_flight flight = {.message = *message, .order = ++cluster->order};
	uint32_t n = message->type == RAFT_MESSAGE_APPEND ? message->append.n_entries : 0;

	cluster->n_rejects += message->type == RAFT_MESSAGE_APPEND_REPLY && message->append_reply.rejected;
	flight.due_us = cluster->now_us + between(cluster, cluster->delay_min_us, cluster->delay_max_us);
	raft_assert(n <= RC_ENTRIES_PER_MESSAGE);
	if (n > 0) {
		raft_assert(message->append.prev_index + n <= node->log.n);
		flight.entries = malloc(n * sizeof(*flight.entries));
		raft_assert(flight.entries);
		memcpy(flight.entries, node->log.entries + message->append.prev_index, n * sizeof(*flight.entries));
	}
	cluster->flights =
		grow(cluster->flights, cluster->n_flights, &cluster->flights_capacity, sizeof(*cluster->flights));
	cluster->flights[cluster->n_flights++] = flight;
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
		check_new_leader(cluster, node);
	check_commit(cluster, node);
	for (size_t i = 0; i < update->n_messages; i++) {
		check_message(cluster, node, &update->messages[i]);
		fly(cluster, node, &update->messages[i]);
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
		/* Refused: the core did not change. */
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

	node->reads = grow(node->reads, node->n_reads, &node->reads_capacity, sizeof(*node->reads));
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

	apply_write(node);
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
		apply_write(node);
	}
	r = rc_step(cluster, id, &event);
	raft_assert(r == RAFT_OK);
}

void rc_persist(struct rc_cluster *cluster, uint64_t id)
{
	while (cluster->nodes[id].n_writes > 0)
		rc_persist_one(cluster, id);
}

/* The network ------------------------------------------------------------------------------------------ */

static bool matches(const struct rc_flight *flight, uint64_t from, uint64_t to, int type)
{
	return (!from || flight->message.from == from) && (!to || flight->message.to == to) &&
	       (!type || (int)flight->message.type == type);
}

size_t rc_count(const struct rc_cluster *cluster, uint64_t from, uint64_t to, int type)
{
	size_t n = 0;

	for (size_t i = 0; i < cluster->n_flights; i++)
		n += matches(&cluster->flights[i], from, to, type);
	return n;
}

static void remove_flight(struct rc_cluster *cluster, size_t i)
{
	free(cluster->flights[i].entries);
	memmove(cluster->flights + i, cluster->flights + i + 1,
		(cluster->n_flights - i - 1) * sizeof(*cluster->flights));
	cluster->n_flights--;
}

bool rc_take(struct rc_cluster *cluster, uint64_t from, uint64_t to, int type, struct raft_message *ret_message)
{
	for (size_t i = 0; i < cluster->n_flights; i++) {
		if (!matches(&cluster->flights[i], from, to, type))
			continue;
		*ret_message = cluster->flights[i].message;
		remove_flight(cluster, i);
		return true;
	}
	return false;
}

void rc_lose(struct rc_cluster *cluster, uint64_t from, uint64_t to, int type)
{
	for (size_t i = cluster->n_flights; i > 0; i--)
		if (matches(&cluster->flights[i - 1], from, to, type))
			remove_flight(cluster, i - 1);
}

/* Delivers flight i; keep: a copy stays under way. */
static void deliver(struct rc_cluster *cluster, size_t i, bool keep)
{
	struct rc_flight flight = cluster->flights[i];
	struct raft_message message = flight.message;
	struct raft_entry *entries = NULL;
	uint32_t n = message.type == RAFT_MESSAGE_APPEND ? message.append.n_entries : 0;

	if (n > 0) {
		entries = calloc(n, sizeof(*entries));
		raft_assert(entries);
	}
	for (uint32_t k = 0; k < n; k++) {
		entries[k].term = flight.entries[k].term;
		entries[k].type = RAFT_ENTRY_COMMAND;
		entries[k].size = flight.entries[k].size;
		entries[k].data = (const uint8_t *)&flight.entries[k].value;
	}
	if (message.type == RAFT_MESSAGE_APPEND)
		message.append.entries = entries;
	if (cluster->nodes[message.to].core) {
		int r = rc_message(cluster, &message);

		raft_assert(r == RAFT_OK); /* a correct member never looks broken to another */
	}
	free(entries);
	for (size_t k = 0; k < cluster->n_flights; k++) {
		if (cluster->flights[k].order != flight.order)
			continue;
		if (keep)
			cluster->flights[k].due_us = cluster->now_us + between(cluster, 1, 50 * RC_MS);
		else
			remove_flight(cluster, k);
		break;
	}
}

void rc_settle(struct rc_cluster *cluster)
{
	unsigned limit = 100000;

	for (bool busy = true; busy;) {
		busy = false;
		raft_assert(limit-- > 0); /* two members talk for ever without time passing */
		for (uint64_t id = 1; id <= cluster->n_nodes; id++) {
			busy |= cluster->nodes[id].core && cluster->nodes[id].n_writes > 0 && !cluster->disk_frozen[id];
			if (cluster->nodes[id].core && !cluster->disk_frozen[id])
				rc_persist(cluster, id);
		}
		if (cluster->n_flights > 0) {
			const struct raft_message *message = &cluster->flights[0].message;

			busy = true;
			if (cluster->cut[message->from][message->to])
				remove_flight(cluster, 0);
			else
				deliver(cluster, 0, false);
		}
	}
}

/* Time ------------------------------------------------------------------------------------------------- */

static void pass_on(struct rc_cluster *cluster, size_t i)
{
	const struct raft_message *message = &cluster->flights[i].message;

	if (cluster->cut[message->from][message->to] || rc_chance(cluster, cluster->drop_percent))
		remove_flight(cluster, i);
	else
		deliver(cluster, i, rc_chance(cluster, cluster->duplicate_percent));
}

/* The earliest thing that is due at or before limit_us, or false. */
static bool run_one(struct rc_cluster *cluster, uint64_t limit_us)
{
	uint64_t best = UINT64_MAX;
	uint64_t node = 0, disk = 0;
	size_t flight = SIZE_MAX;

	for (size_t i = 0; i < cluster->n_flights; i++) {
		if (cluster->flights[i].due_us < best) {
			best = cluster->flights[i].due_us;
			flight = i;
		}
	}
	for (uint64_t id = 1; id <= cluster->n_nodes; id++) {
		const struct rc_node *n = &cluster->nodes[id];

		if (!n->core)
			continue;
		if (n->n_writes > 0 && !cluster->disk_frozen[id] && n->writes[0].due_us < best) {
			best = n->writes[0].due_us;
			disk = id;
			flight = SIZE_MAX;
		}
		if (n->deadline_us < best) {
			best = n->deadline_us;
			node = id;
			disk = 0;
			flight = SIZE_MAX;
		}
	}
	if (best > limit_us)
		return false;
	if (best > cluster->now_us)
		cluster->now_us = best;
	if (flight != SIZE_MAX)
		pass_on(cluster, flight);
	else if (disk)
		rc_persist_one(cluster, disk);
	else
		(void)rc_tick(cluster, node);
	return true;
}

void rc_run_us(struct rc_cluster *cluster, uint64_t duration_us)
{
	uint64_t end = cluster->now_us + duration_us;

	while (run_one(cluster, end))
		;
	cluster->now_us = end;
}

uint64_t rc_leader(const struct rc_cluster *cluster)
{
	uint64_t leader = 0;
	uint64_t term = 0;

	for (uint64_t id = 1; id <= cluster->n_nodes; id++) {
		const struct rc_node *node = &cluster->nodes[id];

		if (!node->core || node->status.role != RAFT_LEADER || node->status.hard_state.term < term)
			continue;
		leader = id;
		term = node->status.hard_state.term;
	}
	return leader;
}

bool rc_run_until_leader(struct rc_cluster *cluster, uint64_t limit_us)
{
	uint64_t end = cluster->now_us + limit_us;

	while (cluster->now_us < end) {
		uint64_t leader = rc_leader(cluster);

		if (leader && cluster->nodes[leader].status.term_committed)
			return true;
		rc_run_us(cluster, RC_MS);
	}
	return false;
}

void rc_cut(struct rc_cluster *cluster, uint64_t a, uint64_t b, bool cut)
{
	cluster->cut[a][b] = cut;
	cluster->cut[b][a] = cut;
}

void rc_isolate(struct rc_cluster *cluster, uint64_t id, bool isolated)
{
	for (uint64_t other = 1; other <= cluster->n_nodes; other++)
		if (other != id)
			rc_cut(cluster, id, other, isolated);
}

void rc_heal(struct rc_cluster *cluster)
{
	memset(cluster->cut, 0, sizeof(cluster->cut));
	memset(cluster->disk_frozen, 0, sizeof(cluster->disk_frozen));
	cluster->drop_percent = 0;
	cluster->duplicate_percent = 0;
}

const struct raft_status *rc_status(struct rc_cluster *cluster, uint64_t id)
{
	raft_assert(cluster->nodes[id].core);
	raft_get_status(cluster->nodes[id].core, &cluster->nodes[id].status);
	return &cluster->nodes[id].status;
}

bool rc_converged(struct rc_cluster *cluster)
{
	uint64_t leader = rc_leader(cluster);

	if (!leader)
		return false;
	for (uint64_t id = 1; id <= cluster->n_nodes; id++) {
		const struct rc_node *node = &cluster->nodes[id];
		const struct rc_node *lead = &cluster->nodes[leader];

		if (!node->core || node->status.leader != leader ||
		    (node->status.role == RAFT_LEADER) != (id == leader))
			return false;
		if (node->status.hard_state.term != lead->status.hard_state.term)
			return false;
		if (node->status.last_index != lead->status.last_index ||
		    node->status.commit != node->status.last_index)
			return false;
	}
	rc_check_logs(cluster);
	return true;
}

void rc_elect(struct rc_cluster *cluster, uint64_t id)
{
	rc_start_all(cluster);
	(void)rc_timeout(cluster, id);
	rc_settle(cluster);
	raft_assert(cluster->nodes[id].status.role == RAFT_LEADER);
	raft_assert(cluster->nodes[id].status.term_committed);
	(void)rc_timeout(cluster, id); /* a heartbeat tells the others what is committed */
	rc_settle(cluster);
}
