/*
 * From what the storage recovered to a member that can take its first step: the snapshot loaded, the core told of every
 * entry behind it.
 */
#include "promise.h"
#include "replica_internal.h"
#include "snapshot_meta.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A program that knows no leases looks at no such file, nor need it: no leader counts on its promises (../raft/lease.c). */
int replica_begin_promises(struct replica *replica, char *message)
{
	struct raft_options *options = &replica->options.raft;
	if (replica->options.level_max < RAFT_LEVEL_LEASES)
		return 0;
	int r = promise_begin(replica->disk, options->promise_us, &options->promised_us);
	if (r == -EBADMSG)
		(void)snprintf(message, REPLICATOR_MESSAGE_MAX,
			       "the data directory's file " PROMISE_FILE
			       " is damaged; it says how long after its start this "
			       "member must not vote. When the member has been stopped for longer than any "
			       "election_timeout_min_ms that it ever had, remove the file");
	else if (r < 0)
		(void)snprintf(message, REPLICATOR_MESSAGE_MAX,
			       "cannot read or write the data directory's file " PROMISE_FILE ": %s", strerror(-r));
	if (r == 0 && options->promised_us > options->promise_us)
		replica->promises_end_us = replica->now_us + options->promised_us;
	return r;
}

void replica_end_promises(struct replica *replica, uint64_t now_us)
{
	if (replica->promises_end_us != 0 && now_us >= replica->promises_end_us)
		(void)promise_end(replica->disk,
				  replica->options.raft.promise_us); /* else the next start waits longer */
}

/* A damaged directory may be given up if the cluster has, or is about to have, other voters to learn from. Without any, all
 * that there is lies in this directory, and only a person may decide. If no configuration can be read any more, the file
 * says whom the cluster was founded with. */
static bool may_give_up(void *arg, const uint8_t *bytes, uint32_t size, bool in_snapshot)
{
	const struct replica *replica = arg;
	struct raft_config config = replica->options.founders;
	uint64_t time_ms;
	if (bytes != NULL && in_snapshot && !snapshot_meta_decode(bytes, size, &time_ms, &config))
		return false;
	if (bytes != NULL && !in_snapshot && raft_config_decode(bytes, size, &config) != RAFT_CONFIG_OK)
		return false;
	for (unsigned k = 0; k < config.n_members; k++)
		if (config.members[k].id != replica->options.raft.id && config.members[k].role != RAFT_MEMBER_LEARNER)
			return true;
	return false;
}

/* Snapshots from unusable_from on, if that is not 0, count as damaged. */
static int open_storage(struct replica *replica, uint64_t unusable_from, struct storage_state *ret_state, char *message)
{
	struct storage_options options = replica->options.storage;
	const struct storage_heal heal = {.may_give_up = may_give_up, .arg = replica};
	char storage_message[STORAGE_MESSAGE_MAX] = "";
	options.level_max = replica->options.level_max;
	options.heal = replica->options.heal ? &heal : NULL;
	options.unusable_from = unusable_from;
	options.on_trial = true;
	int r = storage_open(replica->disk, &options, &replica->storage, ret_state, storage_message);
	if (r != 0)
		(void)snprintf(message, REPLICATOR_MESSAGE_MAX, "%s", storage_message);
	return replica_result_from_storage(r);
}

/* The configuration in the entry at index. 0, -ENOMEM, or a positive result: the log is damaged. */
static int replica_recover_config(struct replica *replica, uint64_t index, const struct raft_entry *entry)
{
	struct raft_config config;
	int r = raft_config_decode(entry->data, entry->size, &config);
	if (r == RAFT_CONFIG_E_VERSION || (r == RAFT_CONFIG_OK && config.level > replica->options.level_max))
		return STORAGE_E_VERSION;
	return r == RAFT_CONFIG_OK ? raft_recover_config(replica->core, index, &config) : STORAGE_E_CORRUPT;
}

/* Entries that follow one another; index: of the first. */
static int replica_recover_run(struct replica *replica, uint64_t index, const struct raft_entry *entries, uint32_t n)
{
	uint32_t first = 0;
	for (uint32_t k = 0; k < n; k++) {
		replica->sizes[k] = entries[k].size;
		replica_note_time(replica, entries[k].time_ms);
		if (k + 1 < n && entries[k + 1].term == entries[first].term)
			continue;
		int r = raft_recover_entries(replica->core, entries[first].term, replica->sizes + first, k + 1 - first);
		for (uint32_t i = first; r == 0 && i <= k; i++)
			if (entries[i].type == RAFT_ENTRY_CONFIG)
				r = replica_recover_config(replica, index + i, &entries[i]);
		if (r != 0)
			return r;
		first = k + 1;
	}
	return 0;
}

/* Tells the core every entry's term and size, and the configurations among them. */
static int replica_recover_entries(struct replica *replica, const struct storage_state *state, char *message)
{
	uint64_t index = state->base_index + 1;
	while (index <= state->last_index) {
		uint32_t n = 0;
		int r = storage_read(replica->storage, index, WIRE_ENTRIES_MAX, REPLICA_APPLY_BYTES_MAX,
				     replica->entries, &n);
		if (r == 0)
			r = replica_recover_run(replica, index, replica->entries, n);
		if (r != 0) {
			(void)snprintf(message, REPLICATOR_MESSAGE_MAX, "cannot read entry %llu of the log back: %s",
				       (unsigned long long)index,
				       r == STORAGE_E_VERSION ? "it is of a newer version; install that again"
				       : r > 0		      ? "it is damaged"
							      : strerror(-r));
			return r > 0 && r != STORAGE_E_VERSION ? REPLICATOR_E_DAMAGED : replica_result_from_storage(r);
		}
		raft_assert(n > 0);
		index += n;
	}
	return 0;
}

int replica_result_from_storage(int r)
{
	switch (r) {
	case STORAGE_E_CORRUPT:
		return REPLICATOR_E_DAMAGED;
	case STORAGE_E_WRONG_CLUSTER:
		return REPLICATOR_E_CLUSTER;
	case STORAGE_E_VERSION:
		return REPLICATOR_E_LEVEL;
	case STORAGE_E_FULL:
		return REPLICATOR_E_DISK_FULL;
	default:
		return r;
	}
}

/* What opening has mended, and is not found again. */
static void log_repairs(const struct replica *replica, const struct storage_state *state)
{
	if (state->torn_bytes > 0)
		replica_log(replica, 4, "torn-tail", "cut %llu bytes of a write that never completed: %s",
			    (unsigned long long)state->torn_bytes, state->torn_where);
	if (state->healed[0] != '\0')
		replica_log(replica, 2, "damaged", "%s%s", state->healed,
			    state->gave_up ? ". This member rejoins as a new one; delete what was set aside when it is "
					     "no longer wanted"
					   : "");
}

static void log_recovery(const struct replica *replica, const struct storage_state *state)
{
	log_repairs(replica, state);
	if (state->snapshot_damage[0] != '\0')
		replica_log(replica, 2, "damaged", "passed over a snapshot: %s", state->snapshot_damage);
	if (state->blank)
		replica_log(replica, 5, "blank", "starts with an empty log");
	else
		replica_log(replica, 6, "recovered", "recovered entries %llu to %llu, term %llu",
			    (unsigned long long)state->base_index + 1, (unsigned long long)state->last_index,
			    (unsigned long long)state->term);
}

/* The log begins anew after the snapshot when what it holds does not lead to it. */
static int replica_reset_log(struct replica *replica, struct storage_state *state)
{
	struct storage_write write = {.seq = 1,
				      .term = state->term > state->snapshot_term ? state->term : state->snapshot_term,
				      .vote = state->term >= state->snapshot_term ? state->vote : RAFT_NO_MEMBER,
				      .commit = state->snapshot_index,
				      .reset_index = state->snapshot_index,
				      .reset_term = state->snapshot_term};
	int r = storage_append(replica->storage, &write);
	state->term = write.term;
	state->vote = write.vote;
	state->last_index = state->snapshot_index;
	return r;
}

/* What lies before the newest snapshot is applied by loading it, so for the core the log begins after it. */
static int replica_recover_snapshot(struct replica *replica, struct storage_state *state,
				    struct raft_recovered *recovered, char *message)
{
	int r = 0;
	if (state->snapshot_index == 0)
		return 0;
	r = replica_load_snapshot(replica, state->snapshot_index, &recovered->config, &recovered->config_index,
				  message);
	if (r == 0 && state->snapshot_beyond_log)
		r = replica_reset_log(replica, state);
	recovered->resetting = state->snapshot_beyond_log;
	state->base_index = state->snapshot_index;
	state->base_term = state->snapshot_term;
	if (state->commit < state->base_index)
		state->commit = state->base_index;
	return r;
}

/* A snapshot that the state machine refuses is none: the directory is opened once more without it, and begins with the one before
 * and the log, or is damaged. Each time round there is one less. */
static int recover_state(struct replica *replica, struct storage_state *ret_state, struct raft_recovered *ret_recovered,
			 char *message)
{
	uint64_t unusable_from = 0;
	for (;;) {
		*ret_recovered = (struct raft_recovered){0};
		int r = open_storage(replica, unusable_from, ret_state, message);
		if (r == 0)
			r = replica_recover_snapshot(replica, ret_state, ret_recovered, message);
		if (r == 0 && !ret_state->gave_up)
			replica->refused.index = unusable_from;
		if (r != REPLICA_E_REFUSED)
			return r;
		raft_assert(unusable_from == 0 || ret_state->snapshot_index < unusable_from);
		unusable_from = ret_state->snapshot_index;
		log_repairs(replica, ret_state);
		struct disk *disk = storage_give_back(replica->storage);
		raft_assert(disk == replica->disk);
		replica->storage = NULL;
	}
}

static int start_core(struct replica *replica, struct storage_state *state, struct raft_recovered *recovered,
		      uint64_t now_us, char *message)
{
	struct raft_options raft_options = replica->options.raft;
	recovered->hard_state = (struct raft_hard_state){.term = state->term, .vote = state->vote};
	recovered->base_index = state->base_index;
	recovered->base_term = state->base_term;
	recovered->commit = state->commit;
	raft_options.seed = replica->options.seed;
	raft_options.incarnation = state->incarnation;
	replica->core = raft_new(&raft_options, recovered, now_us);
	if (replica->core == NULL)
		return -ENOMEM;
	int r = replica_recover_entries(replica, state, message);
	if (r != 0)
		return r;
	raft_start(replica->core, now_us);
	struct raft_status status;
	raft_get_status(replica->core, &status);
	replica_adopt_level(replica, status.level);
	replica->incarnation = state->incarnation;
	replica->aside = state->aside;
	replica->commit = state->commit;
	replica->applied = state->base_index;
	replica->core_deadline_us = now_us; /* the first tick tells the real one */
	return 0;
}

int replica_start(struct replica *replica, uint64_t now_us, char *message)
{
	struct storage_state state;
	struct raft_recovered recovered;
	int r = recover_state(replica, &state, &recovered, message);
	if (r == 0)
		r = start_core(replica, &state, &recovered, now_us, message);
	if (r == 0)
		log_recovery(replica, &state);
	return r;
}
