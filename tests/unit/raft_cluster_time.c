/*
 * The network, the passing of time, and what is true of the whole cluster; see raft_cluster.h.
 */
#include "raft_cluster_internal.h"

#include <string.h>

#define RC_ENTRIES_PER_MESSAGE 8192u

void rc_fly(struct rc_cluster *cluster, const struct rc_node *node, const struct raft_message *message)
{
	struct rc_flight flight = {.message = *message, .order = ++cluster->order, .incarnation = node->incarnation};
	uint32_t n = message->type == RAFT_MESSAGE_APPEND ? message->append.n_entries : 0;

	cluster->n_rejects += message->type == RAFT_MESSAGE_APPEND_REPLY && message->append_reply.rejected;
	flight.due_us = cluster->now_us + rc_between(cluster, cluster->delay_min_us, cluster->delay_max_us);
	raft_assert(n <= RC_ENTRIES_PER_MESSAGE);
	if (n > 0) {
		raft_assert(message->append.prev_index + n <= node->log.n);
		flight.entries = malloc(n * sizeof(*flight.entries));
		raft_assert(flight.entries);
		memcpy(flight.entries, node->log.entries + message->append.prev_index, n * sizeof(*flight.entries));
	}
	cluster->flights =
		rc_grow(cluster->flights, cluster->n_flights, &cluster->flights_capacity, sizeof(*cluster->flights));
	cluster->flights[cluster->n_flights++] = flight;
}

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

/* The caller's duty: no promise of another data directory than the configured one reaches the core (raft.h). */
static bool is_heard(const struct rc_cluster *cluster, const struct rc_flight *flight)
{
	const struct rc_node *to = &cluster->nodes[flight->message.to];
	const struct raft_config_member *from;
	const struct raft_config *config;
	uint64_t config_index;

	if (!to->core)
		return false;
	if (flight->message.type != RAFT_MESSAGE_VOTE_REPLY && flight->message.type != RAFT_MESSAGE_APPEND_REPLY)
		return true;
	config = raft_config_at(to->core, to->status.last_index, &config_index);
	from = config ? raft_config_find(config, flight->message.from) : NULL;
	return !from || from->incarnation == 0 || from->incarnation == flight->incarnation;
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
		entries[k].type = flight.entries[k].type;
		entries[k].size = flight.entries[k].size;
		entries[k].data = (const uint8_t *)&flight.entries[k].value;
		if (entries[k].type == RAFT_ENTRY_CONFIG)
			entries[k].data = rc_config_by_number(cluster, flight.entries[k].value)->bytes;
	}
	if (message.type == RAFT_MESSAGE_APPEND)
		message.append.entries = entries;
	if (is_heard(cluster, &flight)) {
		int r = rc_message(cluster, &message);

		raft_assert(r == RAFT_OK); /* a correct member never looks broken to another */
	}
	free(entries);
	for (size_t k = 0; k < cluster->n_flights; k++) {
		if (cluster->flights[k].order != flight.order)
			continue;
		if (keep)
			cluster->flights[k].due_us = cluster->now_us + rc_between(cluster, 1, 50 * RC_MS);
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

/* Nobody was stopped in the middle of what it did: it reads its clock again and sleeps. */
static void settle_promises(struct rc_cluster *cluster)
{
	for (uint64_t id = 1; id <= cluster->n_nodes; id++)
		if (cluster->nodes[id].core)
			raft_settle_promise(cluster->nodes[id].core, cluster->now_us);
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
	if (best > cluster->now_us) {
		settle_promises(cluster);
		cluster->now_us = best;
	}
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

/* The member has what the leader has, and knows that all of it is committed. */
static bool is_even(const struct rc_node *node, const struct rc_node *leader)
{
	return node->core && node->status.leader == leader->id &&
	       (node->status.role == RAFT_LEADER) == (node == leader) && node->status.member &&
	       node->status.hard_state.term == leader->status.hard_state.term &&
	       node->status.last_index == leader->status.last_index && node->status.commit == node->status.last_index;
}

bool rc_converged(struct rc_cluster *cluster)
{
	uint64_t id = rc_leader(cluster);
	const struct rc_node *leader = &cluster->nodes[id];
	const struct raft_config *config;
	uint64_t config_index;

	if (!id)
		return false;
	config = raft_config_at(leader->core, leader->status.last_index, &config_index);
	for (unsigned i = 0; i < config->n_members; i++)
		if (config->members[i].role == RAFT_MEMBER_JOINING ||
		    !is_even(&cluster->nodes[config->members[i].id], leader))
			return false;
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
