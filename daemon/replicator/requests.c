/*
 * What the owner asks for: proposals, reads, a hand-over. Each becomes one step of the core, and its ticket waits in a
 * queue until replica.c answers it.
 */
#include "replica_internal.h"

#include "daemon/assert.h"

#include <errno.h>

static int result_from_core(int r)
{
	switch (r) {
	case RAFT_E_NOT_LEADER:
		return REPLICATOR_E_NOT_LEADER;
	case RAFT_E_BUSY:
		return REPLICATOR_E_BUSY;
	case RAFT_E_NOT_READY:
		return REPLICATOR_E_NOT_READY;
	case RAFT_E_UNKNOWN_MEMBER:
		return REPLICATOR_E_TARGET;
	default: /* a negative errno; no other result belongs to a proposal, a read or a hand-over */
		return r;
	}
}

/* At most WIRE_ENTRIES_MAX commands as one step of the core. */
static int replica_propose_step(struct replica *replica, const struct replicator_command *commands, uint32_t n,
				uint64_t first_ticket)
{
	struct raft_status status;
	uint64_t first_index = 0;
	raft_get_own_status(replica->core, &status);
	if (status.role != RAFT_LEADER)
		return REPLICATOR_E_NOT_LEADER;
	replica_note_time(replica, replica->wall_ms);
	for (uint32_t k = 0; k < n; k++) {
		if (commands[k].size > RAFT_ENTRY_SIZE_MAX)
			return -EINVAL;
		replica->sizes[k] = commands[k].size;
		replica->entries[k] = (struct raft_entry){
			.term = status.hard_state.term,
			.time_ms = replica->last_time_ms,
			.type = RAFT_ENTRY_COMMAND,
			.size = commands[k].size,
			.data = commands[k].data,
		};
	}
	struct raft_event event = {.type = RAFT_EVENT_PROPOSE,
				   .now_us = replica->now_us,
				   .propose = {.sizes = replica->sizes, .n_entries = n}};
	if (!replica_has_room(replica, &event))
		return REPLICATOR_E_DISK_FULL;
	struct pending_run run = {.first_index = status.last_index + 1,
				  .n = n,
				  .term = status.hard_state.term,
				  .first_ticket = first_ticket};
	int r = pending_push(&replica->runs, &run);
	if (r < 0)
		return r;
	r = replica_step(replica, &event, replica->entries, &first_index);
	if (r != RAFT_OK) {
		replica->runs.count--; /* the one just pushed */
		if (r == RAFT_E_BUSY)
			replica_note_refusal(replica);
		return result_from_core(r);
	}
	raft_assert(first_index == run.first_index);
	replica->proposals += n;
	return 0;
}

int replica_propose(struct replica *replica, const struct replicator_command *commands, uint32_t n,
		    uint64_t first_ticket, uint64_t now_us, uint64_t wall_ms)
{
	raft_assert(n > 0 && first_ticket > 0);
	if (replica->failed != 0)
		return replica->failed;
	if (n > WIRE_ENTRIES_MAX)
		return -EINVAL;
	if (!storage_has_room(replica->storage))
		return REPLICATOR_E_DISK_FULL;
	if (replica->taking.log_size != REPLICA_LOG_FITS)
		return REPLICATOR_E_BUSY;
	replica->now_us = now_us;
	replica->wall_ms = wall_ms;
	return replica_propose_step(replica, commands, n, first_ticket);
}

int replica_read(struct replica *replica, uint64_t ticket, uint64_t now_us)
{
	struct pending_read read = {.read_id = replica->next_read_id, .read_index = UINT64_MAX, .ticket = ticket};
	if (replica->failed != 0)
		return replica->failed;
	int r = pending_push(&replica->reads, &read);
	if (r < 0)
		return r;
	replica->now_us = now_us;
	struct raft_event event = {.type = RAFT_EVENT_READ, .now_us = now_us, .read_id = read.read_id};
	r = replica_step(replica, &event, NULL, NULL);
	if (r != RAFT_OK) {
		replica->reads.count--; /* the one just pushed */
		return result_from_core(r);
	}
	replica->next_read_id++;
	return 0;
}

int replica_transfer(struct replica *replica, uint64_t target, uint64_t now_us)
{
	struct raft_event event = {.type = RAFT_EVENT_TRANSFER, .now_us = now_us, .transfer_target = target};
	if (replica->failed != 0)
		return replica->failed;
	replica->now_us = now_us;
	return result_from_core(replica_step(replica, &event, NULL, NULL));
}
