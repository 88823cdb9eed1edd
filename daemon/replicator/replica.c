/*
 * A replica's life: opening and recovery, the loop's one turn, applying, proposals and reads, status. See replica.h.
 */
#include "replica_internal.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_TEXT_MAX 512u

void replica_log(const struct replica *replica, int level, const char *event, const char *format, ...)
{
	char text[LOG_TEXT_MAX];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof text, format, arguments); /* cut when too long */
	va_end(arguments);
	replica->machine->log(replica->machine_arg, level, event, text);
}

struct storage *replica_storage(struct replica *replica)
{
	return replica->storage;
}

struct raft *replica_core(struct replica *replica)
{
	return replica->core;
}

/* Recovery -------------------------------------------------------------------------------------------- */

static int replica_recover_run(struct replica *replica, const struct raft_entry *entries, uint32_t n)
{
	uint32_t first = 0;
	for (uint32_t k = 0; k < n; k++) {
		replica->sizes[k] = entries[k].size;
		if (entries[k].time_ms > replica->last_time_ms)
			replica->last_time_ms = entries[k].time_ms;
		if (k + 1 < n && entries[k + 1].term == entries[first].term)
			continue;
		int r = raft_recover_entries(replica->core, entries[first].term, replica->sizes + first, k + 1 - first);
		if (r != 0)
			return r;
		first = k + 1;
	}
	return 0;
}

/* Tells the core every entry's term and size. */
static int replica_recover_entries(struct replica *replica, const struct storage_state *state, char *message)
{
	uint64_t index = state->base_index + 1;
	while (index <= state->last_index) {
		uint32_t n = 0;
		int r = storage_read(replica->storage, index, WIRE_ENTRIES_MAX, REPLICA_APPLY_BYTES_MAX,
				     replica->entries, &n);
		if (r == 0)
			r = replica_recover_run(replica, replica->entries, n);
		if (r != 0) {
			(void)snprintf(message, REPLICATOR_MESSAGE_MAX, "cannot read entry %llu of the log back: %s",
				       (unsigned long long)index, r > 0 ? storage_result_name(r) : strerror(-r));
			return r > 0 ? REPLICATOR_E_DAMAGED : r;
		}
		raft_assert(n > 0);
		index += n;
	}
	return 0;
}

static int result_from_storage(int r)
{
	switch (r) {
	case STORAGE_E_CORRUPT:
		return REPLICATOR_E_DAMAGED;
	case STORAGE_E_WRONG_CLUSTER:
	case STORAGE_E_VERSION:
		return REPLICATOR_E_CLUSTER;
	case STORAGE_E_FULL:
		return REPLICATOR_E_DISK_FULL;
	default:
		return r;
	}
}

static void replica_log_recovery(const struct replica *replica, const struct storage_state *state)
{
	if (state->torn_bytes > 0)
		replica_log(replica, 4, "torn-tail", "cut %llu bytes of a write that never completed: %s",
			    (unsigned long long)state->torn_bytes, state->torn_where);
	if (state->blank)
		replica_log(replica, 5, "blank", "starts with an empty log");
	else
		replica_log(replica, 6, "recovered", "recovered entries %llu to %llu, term %llu",
			    (unsigned long long)state->base_index + 1, (unsigned long long)state->last_index,
			    (unsigned long long)state->term);
}

static int replica_start(struct replica *replica, const struct storage_state *state, uint64_t now_us, char *message)
{
	struct raft_options raft_options = replica->options.raft;
	struct raft_recovered recovered = {
		.hard_state = {.term = state->term, .vote = state->vote},
		.config = replica->options.config,
		.base_index = state->base_index,
		.base_term = state->base_term,
		.commit = state->commit,
	};

	raft_options.seed = replica->options.seed;
	replica->core = raft_new(&raft_options, &recovered, now_us);
	if (replica->core == NULL)
		return -ENOMEM;
	int r = replica_recover_entries(replica, state, message);
	if (r != 0)
		return r;
	raft_start(replica->core, now_us);
	replica->incarnation = state->incarnation;
	replica->commit = state->commit;
	replica->applied = state->base_index;
	replica->core_deadline_us = now_us; /* the first tick tells the real one */
	return 0;
}

int replica_open(const struct replica_options *options, struct disk *disk, struct transport *transport,
		 const struct replicator_machine *machine, void *arg, uint64_t now_us, struct replica **ret_replica,
		 char *message)
{
	struct storage_state state;
	char storage_message[STORAGE_MESSAGE_MAX] = "";
	struct replica *replica = calloc(1, sizeof *replica);

	message[0] = '\0';
	if (replica == NULL)
		return -ENOMEM;
	replica->options = *options;
	replica->machine = machine;
	replica->machine_arg = arg;
	replica->next_read_id = 1;
	replica->runs.element_size = sizeof(struct pending_run);
	replica->reads.element_size = sizeof(struct pending_read);
	replica->entries = malloc(WIRE_ENTRIES_MAX * sizeof *replica->entries);
	replica->sizes = malloc(WIRE_ENTRIES_MAX * sizeof *replica->sizes);
	int r = replica->entries == NULL || replica->sizes == NULL ? -ENOMEM : 0;
	if (r == 0) {
		r = storage_open(disk, &options->storage, &replica->storage, &state, storage_message);
		if (r != 0)
			(void)snprintf(message, REPLICATOR_MESSAGE_MAX, "%s", storage_message);
		r = result_from_storage(r);
	}
	if (r == 0)
		r = replica_start(replica, &state, now_us, message);
	if (r != 0) {
		if (replica->storage == NULL)
			disk->ops->close(disk);
		transport->ops->close(transport);
		replica_free(replica);
		return r;
	}
	replica->transport = transport;
	replica_log_recovery(replica, &state);
	*ret_replica = replica;
	return 0;
}

struct replica *replica_free(struct replica *replica)
{
	if (replica == NULL)
		return NULL;
	if (replica->transport != NULL)
		replica->transport->ops->close(replica->transport);
	storage_free(replica->storage);
	raft_free(replica->core);
	pending_free(&replica->runs);
	pending_free(&replica->reads);
	free(replica->entries);
	free(replica->sizes);
	free(replica);
	return NULL;
}

/* One turn -------------------------------------------------------------------------------------------- */

/* Results that say "the core did not change" are fine for events nobody waits on. */
static int replica_ignore_result(int result)
{
	return result < 0 ? result : 0;
}

static int replica_note_durable(struct replica *replica, uint64_t now_us, uint64_t wall_ms)
{
	uint64_t durable = storage_durable_seq(replica->storage);
	if (durable == replica->durable_seq)
		return 0;
	raft_assert(durable > replica->durable_seq);
	replica->durable_seq = durable;
	replica->stall_reported = false;
	struct raft_event event = {.type = RAFT_EVENT_PERSISTED, .now_us = now_us, .persisted_seq = durable};
	return replica_ignore_result(replica_step(replica, &event, NULL, wall_ms));
}

static int replica_take_message(struct replica *replica, const uint8_t *frame, size_t len, uint64_t now_us,
				uint64_t wall_ms)
{
	struct raft_message message;
	if (!replica_decode(replica, frame, len, &message))
		return 0;
	bool writes = message.type == RAFT_MESSAGE_APPEND && message.append.n_entries > 0;
	if (writes && !storage_has_room(replica->storage))
		return 0; /* as if lost: the leader repeats it, and there may be room then */
	struct raft_event event = {.type = RAFT_EVENT_MESSAGE, .now_us = now_us, .message = &message};
	int r = replica_step(replica, &event, writes ? message.append.entries : NULL, wall_ms);
	if (r == RAFT_E_INVALID) {
		replica->bad_frames++;
		replica_log(replica, 4, "bad-message", "refused an impossible message from member %llu",
			    (unsigned long long)message.from);
	}
	return replica_ignore_result(r);
}

static int replica_take_event(struct replica *replica, const struct transport_event *arrived, uint64_t now_us,
			      uint64_t wall_ms)
{
	switch (arrived->type) {
	case TRANSPORT_FRAME:
		return replica_take_message(replica, arrived->data, arrived->len, now_us, wall_ms);
	case TRANSPORT_PEER_UP:
		replica_log(replica, 7, "peer-up", "connected to member %llu", (unsigned long long)arrived->peer);
		replica_send_hello(replica, arrived->peer);
		return 0;
	case TRANSPORT_PEER_DOWN: {
		replica_log(replica, 6, "peer-down", "the connection to member %llu closed",
			    (unsigned long long)arrived->peer);
		struct raft_event event = {.type = RAFT_EVENT_PEER_DOWN, .now_us = now_us, .peer = arrived->peer};
		return replica_ignore_result(replica_step(replica, &event, NULL, wall_ms));
	}
	}
	return 0;
}

static int replica_receive(struct replica *replica, uint64_t now_us, uint64_t wall_ms)
{
	struct transport_event arrived;
	for (unsigned k = 0; k < REPLICA_FRAMES_MAX; k++) {
		if (replica->transport->ops->receive(replica->transport, &arrived) == 0)
			return 0;
		int r = replica_take_event(replica, &arrived, now_us, wall_ms);
		if (r < 0)
			return r;
	}
	replica->work_left = true;
	return 0;
}

static int replica_tick(struct replica *replica, uint64_t now_us, uint64_t wall_ms)
{
	if (now_us < replica->core_deadline_us)
		return 0;
	uint64_t age = storage_oldest_write_age_us(replica->storage);
	if (age > replica->options.raft.election_timeout_max_us && !replica->stall_reported) {
		replica->stall_reported = true;
		replica_log(replica, 4, "disk-stalled", "the disk has not answered for %llu ms",
			    (unsigned long long)(age / 1000));
		struct raft_event stalled = {.type = RAFT_EVENT_DISK_STALLED, .now_us = now_us};
		int r = replica_ignore_result(replica_step(replica, &stalled, NULL, wall_ms));
		if (r < 0)
			return r;
	}
	struct raft_event event = {.type = RAFT_EVENT_TICK, .now_us = now_us};
	return replica_ignore_result(replica_step(replica, &event, NULL, wall_ms));
}

/* After a loss of leadership nobody here can say what becomes of the entries appended before: their proposers are told so. */
static void replica_drop_proposals(struct replica *replica)
{
	struct pending_run *run = pending_front(&replica->runs);
	if (run == NULL)
		return;
	struct raft_status status;
	raft_get_status(replica->core, &status);
	while ((run = pending_front(&replica->runs)) != NULL) {
		if (status.role == RAFT_LEADER && status.hard_state.term == run->term)
			return;
		struct pending_run dropped = *run;
		pending_pop(&replica->runs);
		for (uint64_t k = 0; k < dropped.n; k++)
			replica->machine->dropped(replica->machine_arg, dropped.first_ticket + k, REPLICATOR_E_UNKNOWN);
	}
}

/* The ticket under which the entry was proposed here; consumes it. */
static uint64_t replica_take_ticket(struct replica *replica, uint64_t index, uint64_t term)
{
	struct pending_run *run = pending_front(&replica->runs);
	if (run == NULL || run->first_index != index)
		return 0;
	raft_assert(run->term == term);
	uint64_t ticket = run->first_ticket;
	run->first_index++;
	run->first_ticket++;
	run->n--;
	if (run->n == 0)
		pending_pop(&replica->runs);
	return ticket;
}

static int replica_apply_some(struct replica *replica)
{
	uint64_t left = replica->commit - replica->applied;
	uint32_t wanted = left < REPLICA_APPLY_ENTRIES_MAX ? (uint32_t)left : REPLICA_APPLY_ENTRIES_MAX;
	uint32_t n = 0;
	int r = storage_read(replica->storage, replica->applied + 1, wanted, REPLICA_APPLY_BYTES_MAX, replica->entries,
			     &n);
	if (r != 0) {
		replica_log(replica, 2, "log-unreadable", "cannot read entry %llu back to apply it: %s",
			    (unsigned long long)replica->applied + 1, r > 0 ? storage_result_name(r) : strerror(-r));
		return r > 0 ? -EIO : r;
	}
	raft_assert(n > 0);
	for (uint32_t k = 0; k < n; k++) {
		const struct raft_entry *entry = &replica->entries[k];
		uint64_t index = replica->applied + 1;
		uint64_t ticket = replica_take_ticket(replica, index, entry->term);
		if (entry->type == RAFT_ENTRY_COMMAND)
			replica->machine->apply(replica->machine_arg, index, entry->time_ms, entry->data, entry->size,
						ticket);
		replica->applied = index;
	}
	return 0;
}

static int replica_apply(struct replica *replica)
{
	for (unsigned k = 0; k < REPLICA_APPLY_ROUNDS_MAX && replica->applied < replica->commit; k++) {
		int r = replica_apply_some(replica);
		if (r < 0)
			return r;
	}
	if (replica->applied < replica->commit)
		replica->work_left = true;
	return 0;
}

static void replica_release_reads(struct replica *replica)
{
	const struct pending_read *front;
	while ((front = pending_front(&replica->reads)) != NULL) {
		struct pending_read read = *front;
		if (!read.failed && read.read_index > replica->applied)
			return;
		pending_pop(&replica->reads);
		if (read.failed)
			replica->machine->unreadable(replica->machine_arg, read.ticket, REPLICATOR_E_LOST);
		else
			replica->machine->readable(replica->machine_arg, read.ticket);
	}
}

int replica_process(struct replica *replica, uint64_t now_us, uint64_t wall_ms)
{
	int r = replica->failed;
	replica->work_left = false;
	if (r == 0)
		r = storage_process(replica->storage, now_us);
	if (r == 0)
		r = replica_note_durable(replica, now_us, wall_ms);
	if (r == 0)
		r = replica_receive(replica, now_us, wall_ms);
	if (r == 0)
		r = replica_tick(replica, now_us, wall_ms);
	if (r == 0) {
		/* What the steps queued goes to the disk before the time-consuming part. */
		r = storage_process(replica->storage, now_us);
		/* A write that has ended meanwhile took its signal with it: the core is told in the next turn, at once. */
		if (storage_durable_seq(replica->storage) != replica->durable_seq)
			replica->work_left = true;
	}
	if (r == 0) {
		replica_drop_proposals(replica);
		r = replica_apply(replica);
	}
	if (r == 0)
		replica_release_reads(replica);
	if (r == 0)
		r = replica->unreadable;
	replica->failed = r;
	return r;
}

uint64_t replica_deadline_us(const struct replica *replica)
{
	uint64_t deadline = replica->core_deadline_us;
	uint64_t storage = storage_deadline_us(replica->storage);
	if (replica->work_left || replica->transport->ops->pending(replica->transport))
		return 0;
	return storage < deadline ? storage : deadline;
}

/* Proposals and reads --------------------------------------------------------------------------------- */

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
	default:
		return r;
	}
}

/* At most WIRE_ENTRIES_MAX commands as one step of the core. */
static int replica_propose_step(struct replica *replica, const struct replicator_command *commands, uint32_t n,
				uint64_t first_ticket, uint64_t now_us, uint64_t wall_ms)
{
	struct raft_status status;
	raft_get_status(replica->core, &status);
	if (status.role != RAFT_LEADER)
		return REPLICATOR_E_NOT_LEADER;
	if (wall_ms > replica->last_time_ms)
		replica->last_time_ms = wall_ms;
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
	struct pending_run run = {.first_index = status.last_index + 1,
				  .n = n,
				  .term = status.hard_state.term,
				  .first_ticket = first_ticket};
	int r = pending_push(&replica->runs, &run);
	if (r < 0)
		return r;
	struct raft_event event = {
		.type = RAFT_EVENT_PROPOSE, .now_us = now_us, .propose = {.sizes = replica->sizes, .n_entries = n}};
	r = replica_step(replica, &event, replica->entries, wall_ms);
	if (r != RAFT_OK) {
		replica->runs.count--; /* the one just pushed */
		return result_from_core(r);
	}
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
	return replica_propose_step(replica, commands, n, first_ticket, now_us, wall_ms);
}

int replica_read(struct replica *replica, uint64_t ticket, uint64_t now_us)
{
	struct pending_read read = {.read_id = replica->next_read_id, .read_index = UINT64_MAX, .ticket = ticket};
	if (replica->failed != 0)
		return replica->failed;
	int r = pending_push(&replica->reads, &read);
	if (r < 0)
		return r;
	struct raft_event event = {.type = RAFT_EVENT_READ, .now_us = now_us, .read_id = read.read_id};
	r = replica_step(replica, &event, NULL, 0);
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
	return result_from_core(replica_step(replica, &event, NULL, 0));
}

/* Status ---------------------------------------------------------------------------------------------- */

static void replica_peer_status(const struct replica *replica, const struct raft_progress *progress,
				struct replicator_peer_status *ret)
{
	struct transport_peer_stats stats = {0};
	bool known = replica->transport->ops->peer_stats(replica->transport, progress->id, &stats);
	*ret = (struct replicator_peer_status){
		.id = progress->id,
		.voter = progress->voter,
		.connected = known && stats.connected,
		.match = progress->match,
		.dropped_frames = known ? stats.dropped_frames : 0,
	};
}

void replica_get_status(const struct replica *replica, struct replicator_status *ret_status)
{
	struct raft_status core;
	struct storage_stats disk;

	raft_get_status(replica->core, &core);
	storage_get_stats(replica->storage, &disk);
	*ret_status = (struct replicator_status){
		.id = core.id,
		.cluster = replica->options.cluster,
		.incarnation = replica->incarnation,
		.role = (unsigned)core.role,
		.leader = core.leader,
		.term = core.hard_state.term,
		.first_index = core.base_index + 1,
		.last_index = core.last_index,
		.durable_index = core.durable_index,
		.commit = core.commit,
		.applied = replica->applied,
		.elections = replica->elections,
		.proposals = replica->proposals,
		.bad_frames = replica->bad_frames,
		.flushes = disk.flushes,
		.flushed_entries = disk.flushed_entries,
		.flushed_bytes = disk.flushed_bytes,
		.sync_us_total = disk.sync_us_total,
		.sync_us_max = disk.sync_us_max,
		.disk_bytes = disk.disk_bytes,
		.log_cache_bytes = disk.cache_bytes,
		.n_peers = core.n_peers,
	};
	for (unsigned k = 0; k < core.n_peers; k++)
		replica_peer_status(replica, &core.peers[k], &ret_status->peers[k]);
}

int replica_read_log(struct replica *replica, uint64_t first_index, struct raft_entry *ret_entries,
		     uint32_t max_entries, uint64_t bytes_max, uint32_t *ret_n)
{
	struct raft_status status;
	raft_get_status(replica->core, &status);
	if (first_index > status.last_index || max_entries == 0) {
		*ret_n = 0;
		return 0;
	}
	if (first_index <= status.base_index)
		first_index = status.base_index + 1;
	int r = storage_read(replica->storage, first_index, max_entries, bytes_max, ret_entries, ret_n);
	return r > 0 ? -EIO : r;
}
