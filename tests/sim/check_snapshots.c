/*
 * A snapshot of a member's store does not change while the store goes on (TRAPS 36): one is held for a while, and walked at both
 * ends.
 */
#include "check.h"

#include "daemon/assert.h"

#include <inttypes.h>
#include <stdlib.h>

struct sim_held {
	struct held_snapshot {
		struct kv_snapshot *snapshot;
		uint64_t hash;
		uint64_t entries_left; /* until it is walked again */
	} members[SIM_MEMBERS_MAX];
};

static bool add_item(void *arg, const struct kv_item *item)
{
	XXH3_state_t *state = arg;
	const uint64_t fixed[] = {item->key_size, item->value_size, item->revision};
	(void)XXH3_64bits_update(state, fixed, sizeof fixed);
	(void)XXH3_64bits_update(state, item->key, item->key_size);
	(void)XXH3_64bits_update(state, item->value, item->value_size);
	return true;
}

static uint64_t walk(const struct kv_snapshot *snapshot)
{
	XXH3_state_t *state = XXH3_createState();
	raft_assert(state != NULL);
	(void)XXH3_64bits_reset(state);
	kv_snapshot_walk(snapshot, NULL, 0, false, add_item, state);
	uint64_t hash = XXH3_64bits_digest(state);
	(void)XXH3_freeState(state);
	return hash;
}

void sim_snapshots_new(struct sim *sim)
{
	sim->held = calloc(1, sizeof *sim->held);
	raft_assert(sim->held != NULL);
}

void sim_snapshots_free(struct sim *sim)
{
	for (unsigned k = 0; k < SIM_MEMBERS_MAX; k++)
		sim_snapshots_release(sim, k);
	free(sim->held);
	sim->held = NULL;
}

static void look(struct sim *sim, unsigned number)
{
	struct held_snapshot *held = &sim->held->members[number];
	if (held->snapshot != NULL && walk(held->snapshot) != held->hash)
		sim_fail(sim, "member %u: the snapshot of index %" PRIu64 " has changed", number + 1,
			 kv_snapshot_applied(held->snapshot));
	held->snapshot = kv_snapshot_free(held->snapshot);
}

void sim_snapshots_release(struct sim *sim, unsigned number)
{
	look(sim, number);
}

void sim_snapshots_applied(struct sim *sim, unsigned number)
{
	struct held_snapshot *held = &sim->held->members[number];
	if (sim->plan.snapshot_hold == 0)
		return;
	if (held->snapshot != NULL && --held->entries_left > 0)
		return;
	look(sim, number);
	held->snapshot = kv_store_snapshot(sim->members[number].store);
	raft_assert(held->snapshot != NULL);
	held->hash = walk(held->snapshot);
	held->entries_left = sim->plan.snapshot_hold;
}
