/*
 * Snapshots of members' states, as raftd makes and loads them; and a fault: one of them that is written as it should be and
 * holds no state.
 */
#include "machine.h"

#include "daemon/assert.h"
#include "kv/snapshot_format.h"

#include <errno.h>
#include <stdlib.h>

struct taken {
	struct kv_snapshot *snapshot;
	struct kv_snapshot_stream *stream;
};

void *sim_machine_snapshot_take(void *arg)
{
	struct machine *machine = arg;
	struct taken *taken = calloc(1, sizeof *taken);
	raft_assert(taken != NULL);
	taken->snapshot = kv_store_snapshot(machine->sim->members[machine->member].store);
	raft_assert(taken->snapshot != NULL);
	taken->stream = kv_snapshot_stream_new(taken->snapshot);
	raft_assert(taken->stream != NULL);
	return taken;
}

/* As if the bit had flipped in the tree: what is written is well written, and no state. Not in front, where the version is: that is
 * in no memory that lasts. */
static void spoil(const struct machine *machine, uint8_t *buf, size_t size)
{
	struct sim_member *member = &machine->sim->members[machine->member];
	struct sim_random random = {member->disk_faults.spoil_state};
	if (random.state == 0 || size <= KV_SNAPSHOT_HEADER_SIZE)
		return;
	uint64_t at = KV_SNAPSHOT_OFFSET_APPLIED + sim_random_below(&random, size - KV_SNAPSHOT_OFFSET_APPLIED);
	buf[at] ^= (uint8_t)(1u << sim_random_below(&random, 8));
	member->disk_faults.spoil_state = 0;
	member->spoilt = true;
	sim_platter_spoil(member->disk_files);
	machine->sim->counts.spoilt_states++;
	sim_note(machine->sim, "%u writes a spoilt state, byte %llu of %llu", machine->member + 1,
		 (unsigned long long)at, (unsigned long long)size);
}

size_t sim_machine_snapshot_read(void *arg, void *snapshot, uint8_t *buf, size_t capacity)
{
	struct taken *taken = snapshot;
	size_t size = kv_snapshot_stream_read(taken->stream, buf, capacity);
	spoil(arg, buf, size);
	return size;
}

void sim_machine_snapshot_free(void *arg, void *snapshot)
{
	struct taken *taken = snapshot;
	(void)arg;
	kv_snapshot_stream_free(taken->stream);
	kv_snapshot_free(taken->snapshot);
	free(taken);
}

int sim_machine_restore_begin(void *arg, uint64_t index)
{
	struct machine *machine = arg;
	struct kv_stats stats;
	raft_assert(machine->loader == NULL);
	machine->loader = kv_store_load_new();
	raft_assert(machine->loader != NULL);
	kv_store_stats(machine->sim->members[machine->member].store, &stats);
	kv_store_load_between(machine->loader, stats.applied, index);
	machine->restored = index;
	return 0;
}

static int refuse_state(const struct machine *machine)
{
	if (machine->sim->counts.spoilt_states == 0)
		sim_fail(machine->sim, "member %u refuses the state of entry %llu, and nobody has spoilt any",
			 machine->member + 1, (unsigned long long)machine->restored);
	machine->sim->counts.states_refused++;
	return -EBADMSG;
}

int sim_machine_restore_feed(void *arg, const uint8_t *buf, size_t len)
{
	struct machine *machine = arg;
	return kv_store_load_feed(machine->loader, buf, len) == KV_LOAD_OK ? 0 : refuse_state(machine);
}

int sim_machine_restore_end(void *arg, bool success)
{
	struct machine *machine = arg;
	struct sim_member *member = &machine->sim->members[machine->member];
	struct kv_store *store = NULL;
	int r = 0;
	if (success && kv_store_load_finish(machine->loader, &store) != KV_LOAD_OK)
		r = refuse_state(machine);
	machine->loader = kv_store_load_free(machine->loader);
	if (store != NULL) {
		struct kv_stats stats;
		kv_store_stats(store, &stats);
		if (member->wrong_since < stats.applied)
			member->wrong_since = stats.applied; /* it never had the hashes of what it skips */
		kv_store_free(member->store);
		member->store = store;
		sim_check_restored(machine->sim, machine->member, machine->restored);
	}
	return r;
}

bool sim_member_loads(const struct sim *sim, unsigned number)
{
	const struct machine *machine = sim->members[number].machine;
	return machine->loader != NULL;
}
