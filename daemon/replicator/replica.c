/*
 * A replica's life: opening and recovery, the loop's one turn, applying, proposals and reads. See replica.h.
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

/* The configuration in the entry at index. 0, -ENOMEM, or a positive result: the log is damaged. */
static int replica_recover_config(struct replica *replica, uint64_t index, const struct raft_entry *entry)
{
	struct raft_config config;
	int r = raft_config_decode(entry->data, entry->size, &config);
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
				       (unsigned long long)index, r > 0 ? "it is damaged" : strerror(-r));
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

/* The log begins anew after the snapshot when what it holds does not lead to it. */
static int replica_reset_log(struct replica *replica, struct storage_state *state)
{
	struct storage_write write = {.term = state->term > state->snapshot_term ? state->term : state->snapshot_term,
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
	state->base_index = state->snapshot_index;
	state->base_term = state->snapshot_term;
	if (state->commit < state->base_index)
		state->commit = state->base_index;
	return r;
}

static int replica_start(struct replica *replica, struct storage_state *state, uint64_t now_us, char *message)
{
	struct raft_options raft_options = replica->options.raft;
	struct raft_recovered recovered = {0};

	int r = replica_recover_snapshot(replica, state, &recovered, message);
	if (r != 0)
		return r;
	recovered.hard_state = (struct raft_hard_state){.term = state->term, .vote = state->vote};
	recovered.base_index = state->base_index;
	recovered.base_term = state->base_term;
	recovered.commit = state->commit;
	raft_options.seed = replica->options.seed;
	raft_options.incarnation = state->incarnation;
	replica->core = raft_new(&raft_options, &recovered, now_us);
	if (replica->core == NULL)
		return -ENOMEM;
	r = replica_recover_entries(replica, state, message);
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
	replica->now_us = now_us;
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
	replica_membership_start(replica);
	*ret_replica = replica;
	return 0;
}

struct replica *replica_free(struct replica *replica)
{
	if (replica == NULL)
		return NULL;
	if (replica->transport != NULL)
		replica->transport->ops->close(replica->transport);
	replica_taking_fini(replica);
	replica_sending_fini(replica);
	replica_installing_fini(replica);
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

static int replica_note_durable(struct replica *replica)
{
	uint64_t durable = storage_durable_seq(replica->storage);
	if (durable == replica->durable_seq)
		return 0;
	raft_assert(durable > replica->durable_seq);
	replica->durable_seq = durable;
	replica->stall_reported = false;
	struct raft_event event = {.type = RAFT_EVENT_PERSISTED, .now_us = replica->now_us, .persisted_seq = durable};
	return replica_ignore_result(replica_step(replica, &event, NULL, NULL));
}

static int replica_take_message(struct replica *replica, const struct wire_message *wire)
{
	struct raft_message message;
	if (!replica_message_from_wire(wire, &message))
		return 0;
	/* Requests are judged by their term and log: this member may not know the configuration yet that made their sender
	 * one of the cluster. Answers of a directory that is no member count for nothing. */
	bool counts = message.type == RAFT_MESSAGE_VOTE_REPLY || message.type == RAFT_MESSAGE_APPEND_REPLY;
	if (counts && replica_is_foreign(replica, wire))
		return 0;
	bool writes = message.type == RAFT_MESSAGE_APPEND && message.append.n_entries > 0;
	if (writes && !storage_has_room(replica->storage))
		return 0; /* as if lost: the leader repeats it, and there may be room then */
	struct raft_event event = {.type = RAFT_EVENT_MESSAGE, .now_us = replica->now_us, .message = &message};
	int r = replica_step(replica, &event, writes ? message.append.entries : NULL, NULL);
	if (r == RAFT_E_INVALID) {
		replica->bad_frames++;
		replica_log(replica, 4, "bad-message", "refused an impossible message from member %llu",
			    (unsigned long long)message.from);
	}
	return replica_ignore_result(r);
}

static int replica_take_frame(struct replica *replica, const uint8_t *frame, size_t len)
{
	struct wire_message wire;
	if (!replica_decode(replica, frame, len, &wire))
		return 0;
	switch ((enum wire_type)wire.type) {
	case WIRE_VOTE_REQUEST:
	case WIRE_VOTE_REPLY:
	case WIRE_APPEND:
	case WIRE_APPEND_REPLY:
	case WIRE_TIMEOUT_NOW:
		return replica_take_message(replica, &wire);
	case WIRE_HELLO:
		return replica_on_hello(replica, &wire);
	case WIRE_NOT_A_MEMBER:
		replica_on_not_a_member(replica, &wire);
		return 0;
	case WIRE_SNAPSHOT_OFFER:
		replica_on_snapshot_offer(replica, &wire);
		return 0;
	case WIRE_SNAPSHOT_REQUEST:
		replica_on_snapshot_request(replica, &wire);
		return 0;
	case WIRE_SNAPSHOT_CHUNK:
		return replica_on_snapshot_chunk(replica, &wire);
	}
	return 0;
}

static int replica_take_event(struct replica *replica, const struct transport_event *arrived)
{
	switch (arrived->type) {
	case TRANSPORT_FRAME:
		return replica_take_frame(replica, arrived->data, arrived->len);
	case TRANSPORT_PEER_UP:
		replica_log(replica, 7, "peer-up", "connected to member %llu", (unsigned long long)arrived->peer);
		replica_send_hello(replica, arrived->peer);
		return 0;
	case TRANSPORT_PEER_DOWN: {
		replica_log(replica, 6, "peer-down", "the connection to member %llu closed",
			    (unsigned long long)arrived->peer);
		struct raft_event event = {
			.type = RAFT_EVENT_PEER_DOWN, .now_us = replica->now_us, .peer = arrived->peer};
		return replica_ignore_result(replica_step(replica, &event, NULL, NULL));
	}
	}
	return 0;
}

static int replica_receive(struct replica *replica)
{
	struct transport_event arrived;
	for (unsigned k = 0; k < REPLICA_FRAMES_MAX; k++) {
		if (replica->transport->ops->receive(replica->transport, &arrived) == 0)
			return 0;
		int r = replica_take_event(replica, &arrived);
		if (r < 0)
			return r;
	}
	replica->work_left = true;
	return 0;
}

static int replica_tick(struct replica *replica)
{
	if (replica->now_us < replica->core_deadline_us)
		return 0;
	uint64_t age = storage_oldest_write_age_us(replica->storage);
	if (age > replica->options.raft.election_timeout_max_us && !replica->stall_reported) {
		replica->stall_reported = true;
		replica_log(replica, 4, "disk-stalled", "the disk has not answered for %llu ms",
			    (unsigned long long)(age / 1000));
		struct raft_event stalled = {.type = RAFT_EVENT_DISK_STALLED, .now_us = replica->now_us};
		int r = replica_ignore_result(replica_step(replica, &stalled, NULL, NULL));
		if (r < 0)
			return r;
	}
	struct raft_event event = {.type = RAFT_EVENT_TICK, .now_us = replica->now_us};
	return replica_ignore_result(replica_step(replica, &event, NULL, NULL));
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
	if (replica->restoring.reader != NULL)
		return 0; /* what comes next lies behind the snapshot */
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

/* What this member does besides following the log. */
static int replica_tend(struct replica *replica)
{
	int r = replica_tend_membership(replica);
	if (r == 0)
		r = replica_tend_installing(replica);
	if (r == 0)
		r = replica_tend_taking(replica);
	replica_tend_sending(replica);
	return r;
}

int replica_process(struct replica *replica, uint64_t now_us, uint64_t wall_ms)
{
	int r = replica->failed;
	replica->now_us = now_us;
	replica->wall_ms = wall_ms;
	replica->work_left = false;
	if (r == 0)
		r = storage_process(replica->storage, now_us);
	if (r == 0)
		r = replica_note_durable(replica);
	if (r == 0)
		r = replica_receive(replica);
	if (r == 0)
		r = replica_tick(replica);
	if (r == 0)
		r = replica_tend(replica);
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
	if (r == 0 && replica->removed)
		r = REPLICATOR_E_REMOVED;
	replica->failed = r;
	return r;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t replica_deadline_us(const struct replica *replica)
{
	uint64_t deadline = earlier(replica->core_deadline_us, storage_deadline_us(replica->storage));
	if (replica->work_left || replica->transport->ops->pending(replica->transport))
		return 0;
	deadline = earlier(deadline, earlier(replica->hello_us, replica->disconnect_us));
	if (replica->receiving.index != 0)
		deadline = earlier(deadline, replica->receiving.again_us);
	return deadline;
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
	raft_get_status(replica->core, &status);
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
	struct pending_run run = {.first_index = status.last_index + 1,
				  .n = n,
				  .term = status.hard_state.term,
				  .first_ticket = first_ticket};
	int r = pending_push(&replica->runs, &run);
	if (r < 0)
		return r;
	struct raft_event event = {.type = RAFT_EVENT_PROPOSE,
				   .now_us = replica->now_us,
				   .propose = {.sizes = replica->sizes, .n_entries = n}};
	r = replica_step(replica, &event, replica->entries, &first_index);
	if (r != RAFT_OK) {
		replica->runs.count--; /* the one just pushed */
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
