/*
 * The cluster's feature level: what all of its members understand, learners included.
 *
 * Every member says with its hellos which levels it knows. The level itself is part of the configuration, so it changes by
 * an entry of the log, travels in snapshots, returns with a configuration that is truncated, and cannot miss a member that
 * is being added. The leader raises it when every member of the configuration has said, from the directory that is named
 * there, that it knows more; it is never lowered. Whoever meets a level above its own stops and says so, before it has
 * stored anything of it.
 *
 * What this must not know: what a level allows. Who adds a feature looks at replica->level.
 */
#include "replica_internal.h"

#include "daemon/assert.h"

#include <stdio.h>

#define REPORT_US 1000000u    /* while there is something to raise, the leader is told what this member knows */
#define COMPLAIN_US 10000000u /* about a member that is too old */

/* Telling --------------------------------------------------------------------------------------------- */

/* A new level in force: everything written from here on asks for a program that knows it. */
void replica_adopt_level(struct replica *replica, unsigned level)
{
	raft_assert(level <=
		    replica->options.level_max); /* replica_may_take, and the storage's own check at the start */
	replica->level = level;
	replica->level_us = replica->now_us;
	storage_raise_level(replica->storage, level);
}

static void report(struct replica *replica, const struct raft_status *status)
{
	if (status->config_pending || status->config_index == 0 || replica->level_reported == status->level)
		return;
	/* News only when it is raised: every start finds one. */
	replica_log(replica, replica->level_reported != 0 ? 5 : 7, "feature-level",
		    "the cluster is at feature level %u; this member knows %u to %u", status->level, RAFT_LEVEL_MIN,
		    replica->options.level_max);
	replica->level_reported = status->level;
}

/* Meeting a newer one --------------------------------------------------------------------------------- */

/* One of the cluster by what is known here; or nothing is known here, and there is nothing to lose. */
static bool is_believed(const struct replica *replica, const struct wire_message *wire)
{
	const struct raft_config *config = replica_config(replica, NULL);
	const struct raft_config_member *member = config != NULL ? raft_config_find(config, wire->from) : NULL;
	return config == NULL || (member != NULL && member->incarnation == wire->from_incarnation);
}

/* level: 0 when only that it is newer is known. */
void replica_fail_level(struct replica *replica, unsigned level)
{
	char of_cluster[16] = "a newer one";
	if (level != 0)
		(void)snprintf(of_cluster, sizeof of_cluster, "%u", level);
	replica_log(replica, 2, "too-old",
		    "the cluster is at feature level %s, and this program, raft-kv " RAFT_KV_VERSION
		    ", knows levels up to %u: install the version that the other members run, then start this member "
		    "again. Its data are as they were",
		    of_cluster, replica->options.level_max);
	replica->failed = REPLICATOR_E_LEVEL;
}

/* The highest level that entries of an append ask for. */
static unsigned entries_level(const struct wire_message *wire)
{
	unsigned highest = 0;
	for (uint32_t k = 0; k < wire->append.n_entries; k++) {
		const struct raft_entry *entry = &wire->append.entries[k];
		unsigned level = entry->type == RAFT_ENTRY_CONFIG ? raft_config_level(entry->data, entry->size) : 0;
		if (level > highest)
			highest = level;
	}
	return highest;
}

/* Now and then is enough. told_us: when it was last said; 0: never. */
static bool may_complain(const struct replica *replica, uint64_t *told_us)
{
	if (*told_us != 0 && replica->now_us < *told_us + COMPLAIN_US)
		return false;
	*told_us = replica->now_us;
	return true;
}

/* It may be the leader, which no configuration known here names yet: then this member stays behind, and nothing else says why. */
static void complain_of_newer(struct replica *replica, const struct wire_message *wire, unsigned level)
{
	if (!may_complain(replica, &replica->too_new_told_us))
		return;
	replica_log_about(
		replica, (struct replica_about){.peer = wire->from}, 4, "too-old",
		"member %llu, which is none that is known here, sends entries of feature level %u, and this program, "
		"raft-kv " RAFT_KV_VERSION
		", knows levels up to %u: they are not taken. If it belongs to this cluster, "
		"install the version that runs there",
		(unsigned long long)wire->from, level, replica->options.level_max);
}

bool replica_may_take(struct replica *replica, const struct wire_message *wire)
{
	unsigned level = wire->type == WIRE_APPEND ? entries_level(wire) : 0;
	if (level <= replica->options.level_max)
		return true;
	if (is_believed(replica, wire))
		replica_fail_level(replica, level);
	else
		complain_of_newer(replica, wire, level);
	return false;
}

/* Others ---------------------------------------------------------------------------------------------- */

/* The member is known not to understand what the log holds, or has not said yet what it understands. */
static bool is_too_old(struct replica *replica, uint64_t id)
{
	const struct replica_peer *peer = replica_find_peer(replica, id);
	const struct raft_config *config = replica_config(replica, NULL);
	const struct raft_config_member *member = config != NULL ? raft_config_find(config, id) : NULL;
	if (peer != NULL && peer->level != 0)
		return peer->level < replica->level;
	/* Nothing was heard of it. A member was counted when the level rose, or was taken in for what it said later. */
	return member == NULL || (member->incarnation == 0 && member->role != RAFT_MEMBER_VOTER);
}

bool replica_may_send_log(struct replica *replica, uint64_t peer)
{
	return replica->level == RAFT_LEVEL_MIN || !is_too_old(replica, peer);
}

static void complain(struct replica *replica, const struct wire_message *wire)
{
	if (!may_complain(replica, &replica->too_old_told_us))
		return;
	replica_log_about(
		replica, (struct replica_about){.peer = wire->from}, 4, "member-too-old",
		"member %llu runs a program that knows feature levels up to %u, and the cluster is at %u: it gets "
		"nothing until the version that the others run, as raft-kv " RAFT_KV_VERSION ", is installed there",
		(unsigned long long)wire->from, (unsigned)wire->hello.version_max, replica->level);
}

/* One hello for another, now and then: what an old one, that was on its way for long, made the other believe is put right. */
void replica_greet(struct replica *replica, struct replica_peer *peer)
{
	if (peer == NULL || (peer->greeted_us != 0 && replica->now_us < peer->greeted_us + REPORT_US))
		return;
	peer->greeted_us = replica->now_us;
	replica_send_hello(replica, peer->id);
}

bool replica_note_level(struct replica *replica, const struct wire_message *wire)
{
	struct replica_peer *peer = replica_find_peer(replica, wire->from);
	replica_greet(replica, peer); /* and so one that is too old learns why */
	if (wire->hello.version_min > replica->options.level_max && is_believed(replica, wire)) {
		replica_fail_level(replica, wire->hello.version_min);
		return false;
	}
	if (peer != NULL)
		peer->level = wire->hello.version_max;
	replica->level_us = replica->now_us; /* it may have been the last one; or has to be asked again */
	if (wire->hello.version_max >= replica->level)
		return true;
	complain(replica, wire);
	return false;
}

/* Raising --------------------------------------------------------------------------------------------- */

unsigned replica_level_of_all(struct replica *replica, const struct raft_config *config)
{
	unsigned lowest = replica->options.level_max;
	for (unsigned k = 0; k < config->n_members; k++) {
		const struct raft_config_member *member = &config->members[k];
		if (member->id == replica->options.raft.id)
			continue;
		const struct replica_peer *peer = replica_find_peer(replica, member->id);
		if (peer == NULL || peer->level == 0 || member->incarnation == 0 ||
		    peer->incarnation != member->incarnation)
			return RAFT_LEVEL_MIN; /* not heard: it may know no more than that */
		if (peer->level < lowest)
			lowest = peer->level;
	}
	return lowest;
}

static int raise_level(struct replica *replica, const struct raft_status *status)
{
	uint64_t index = 0;
	const struct raft_config *config = replica_config(replica, &index);
	if (config == NULL || status->config_pending)
		return 0;
	struct raft_config raised = *config;
	raised.level = replica_level_of_all(replica, config);
	if (raised.level <= config->level)
		return 0;
	int r = replica_propose_config(replica, &raised, index, NULL);
	if (r == 0)
		replica_log(replica, 5, "raises-feature-level",
			    "all %u members know feature level %u: raises the cluster to it", config->n_members,
			    raised.level);
	return r < 0 ? r : 0; /* what stands in the way now is gone at the next attempt */
}

/* Those that get nothing for what they are believed to know are asked again. Returns whether there are any. */
static bool ask_again(struct replica *replica, const struct raft_status *status)
{
	bool any = false;
	for (unsigned k = 0; k < status->n_peers; k++) {
		if (replica_may_send_log(replica, status->peers[k].id))
			continue;
		any = true;
		if (status->role == RAFT_LEADER)
			replica_send_hello(replica, status->peers[k].id);
	}
	return any;
}

static int raise_or_tell(struct replica *replica, const struct raft_status *status)
{
	if (status->role == RAFT_LEADER)
		return raise_level(replica, status);
	if (status->leader != RAFT_NO_MEMBER)
		replica_send_hello(replica, status->leader);
	return 0;
}

int replica_tend_level(struct replica *replica)
{
	struct raft_status status;
	if (replica->now_us < replica->level_us && replica->level_reported == replica->level)
		return 0;
	raft_get_status(replica->core, &status);
	report(replica, &status);
	if (replica->now_us < replica->level_us)
		return 0;
	bool can_rise = status.config_index > 0 && status.level < replica->options.level_max;
	bool asks = ask_again(replica, &status);
	replica->level_us = can_rise || asks ? replica->now_us + REPORT_US : UINT64_MAX;
	return can_rise ? raise_or_tell(replica, &status) : 0;
}
