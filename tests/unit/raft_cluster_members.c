/*
 * Configurations, lost disks and snapshots; see raft_cluster.h.
 */
#include "raft_cluster_internal.h"

#include <string.h>

uint64_t rc_config_number(struct rc_cluster *cluster, const struct raft_config *config)
{
	struct rc_config *entry;

	for (size_t i = 0; i < cluster->n_configs; i++)
		if (memcmp(&cluster->configs[i]->config, config, sizeof(*config)) == 0)
			return i + 1;
	entry = calloc(1, sizeof(*entry));
	raft_assert(entry);
	entry->config = *config;
	entry->size = (uint32_t)raft_config_encode(config, entry->bytes);
	cluster->configs =
		rc_grow(cluster->configs, cluster->n_configs, &cluster->configs_capacity, sizeof(struct rc_config *));
	cluster->configs[cluster->n_configs++] = entry;
	return cluster->n_configs;
}

const struct rc_config *rc_config_by_number(const struct rc_cluster *cluster, uint64_t number)
{
	raft_assert(number >= 1 && number <= cluster->n_configs);
	return cluster->configs[number - 1];
}

static const struct raft_config *newest(const struct rc_cluster *cluster, uint64_t id)
{
	const struct rc_node *node = &cluster->nodes[id];
	uint64_t config_index;

	return raft_config_at(node->core, node->status.last_index, &config_index);
}

int rc_change(struct rc_cluster *cluster, uint64_t id, const struct raft_config *config)
{
	struct raft_event event = {.type = RAFT_EVENT_CONFIG};

	event.config.config = config;
	event.config.previous_index = cluster->nodes[id].status.config_index;
	return rc_step(cluster, id, &event);
}

int rc_bootstrap(struct rc_cluster *cluster, uint64_t id)
{
	struct raft_event event = {.type = RAFT_EVENT_BOOTSTRAP};
	struct raft_config config;

	memset(&config, 0, sizeof(config));
	config.level = cluster->genesis.level;
	for (uint64_t other = 1; other <= cluster->n_nodes; other++) {
		struct raft_config_member member = {.id = other, .role = RAFT_MEMBER_JOINING};

		member.incarnation = cluster->nodes[other].incarnation;
		if (other == id)
			member.role = RAFT_MEMBER_VOTER;
		raft_assert(raft_config_set(&config, &member));
	}
	event.bootstrap = &config;
	return rc_step(cluster, id, &event);
}

struct raft_config rc_config_with(struct rc_cluster *cluster, uint64_t id, uint64_t member_id, int role)
{
	const struct raft_config *config = newest(cluster, id);
	struct raft_config changed;
	struct raft_config_member member;

	memset(&changed, 0, sizeof(changed));
	memset(&member, 0, sizeof(member));
	member.id = member_id;
	member.incarnation = cluster->nodes[member_id].incarnation;
	member.role = (enum raft_member_role)role;
	if (config)
		changed = *config;
	if (role == 0)
		(void)raft_config_remove(&changed, member_id);
	else
		raft_assert(raft_config_set(&changed, &member));
	return changed;
}

int rc_set_role(struct rc_cluster *cluster, uint64_t id, uint64_t member, int role)
{
	struct raft_config config = rc_config_with(cluster, id, member, role);

	return rc_change(cluster, id, &config);
}

int rc_heal_members(struct rc_cluster *cluster, uint64_t id)
{
	const struct raft_config *config = newest(cluster, id);

	for (unsigned i = 0; config && i < config->n_members; i++) {
		const struct raft_config_member *member = &config->members[i];
		const struct rc_node *node = &cluster->nodes[member->id];

		if (node->core && member->incarnation != node->incarnation)
			return rc_set_role(cluster, id, member->id, RAFT_MEMBER_JOINING);
	}
	return RAFT_OK;
}

void rc_take_snapshot(struct rc_cluster *cluster, uint64_t id, uint64_t index, struct rc_snapshot *ret_snapshot)
{
	const struct rc_node *node = &cluster->nodes[id];
	const struct raft_config *config;

	raft_assert(index > 0 && index <= node->commit);
	memset(ret_snapshot, 0, sizeof(*ret_snapshot));
	ret_snapshot->index = index;
	ret_snapshot->term = raft_term_at(node->core, index);
	ret_snapshot->leader_term = node->status.hard_state.term;
	config = raft_config_at(node->core, index, &ret_snapshot->config_index);
	raft_assert(config);
	ret_snapshot->config = *config;
}

int rc_install(struct rc_cluster *cluster, uint64_t id, const struct rc_snapshot *snapshot)
{
	struct raft_event event = {.type = RAFT_EVENT_SNAPSHOT_INSTALLED};

	event.snapshot.index = snapshot->index;
	event.snapshot.term = snapshot->term;
	event.snapshot.leader_term = snapshot->leader_term;
	event.snapshot.config = &snapshot->config;
	event.snapshot.config_index = snapshot->config_index;
	return rc_step(cluster, id, &event);
}

void rc_serve_snapshots(struct rc_cluster *cluster, uint64_t id)
{
	const struct raft_update *update = &cluster->nodes[id].last;
	uint64_t ids[RAFT_MEMBERS_MAX];
	size_t n = update->n_snapshots;
	struct rc_snapshot snapshot;

	raft_assert(n <= RAFT_MEMBERS_MAX);
	if (n == 0)
		return;
	memcpy(ids, update->snapshots, n * sizeof(*ids));
	rc_take_snapshot(cluster, id, cluster->nodes[id].commit, &snapshot);
	for (size_t i = 0; i < n; i++) {
		int r;

		if (!cluster->nodes[ids[i]].core)
			continue;
		r = rc_install(cluster, ids[i], &snapshot);
		raft_assert(r == RAFT_OK || r == RAFT_E_STALE);
	}
}

void rc_compact(struct rc_cluster *cluster, uint64_t id, uint64_t index)
{
	struct rc_node *node = &cluster->nodes[id];

	raft_assert(node->core);
	if (node->base != node->disk_base)
		return; /* a snapshot is on its way into the log */
	if (index > node->disk_commit)
		index = node->disk_commit;
	if (index > node->disk.n)
		index = node->disk.n;
	if (index <= node->base)
		return;
	raft_compact(node->core, index);
	raft_check_invariants(node->core);
	node->base = index;
	node->disk_base = index;
	(void)rc_status(cluster, id);
}

const struct raft_progress *rc_progress(struct rc_cluster *cluster, uint64_t id, uint64_t peer)
{
	const struct raft_status *status = rc_status(cluster, id);

	for (unsigned i = 0; i < status->n_peers; i++)
		if (status->peers[i].id == peer)
			return &status->peers[i];
	return NULL;
}
