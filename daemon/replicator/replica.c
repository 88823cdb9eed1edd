/*
 * A replica's life: opening, the loop's one turn, applying. See replica.h.
 */
#include "replica_internal.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_TEXT_MAX 1024u

__attribute__((format(printf, 3, 0))) static void
log_event(const struct replica *replica, struct replicator_event *event, const char *format, va_list arguments)
{
	char text[LOG_TEXT_MAX];
	struct raft_status status;

	(void)vsnprintf(text, sizeof text, format, arguments); /* cut when too long */
	event->text = text;
	if (replica->core != NULL) {
		raft_get_own_status(replica->core, &status);
		event->term = status.hard_state.term;
		event->role = (unsigned)status.role;
		event->leader = status.leader;
	}
	replica->machine->log(replica->machine_arg, event);
}

void replica_log(const struct replica *replica, int level, const char *event, const char *format, ...)
{
	struct replicator_event told = {.level = level, .name = event};
	va_list arguments;

	va_start(arguments, format);
	log_event(replica, &told, format, arguments);
	va_end(arguments);
}

void replica_log_about(const struct replica *replica, struct replica_about about, int level, const char *event,
		       const char *format, ...)
{
	struct replicator_event told = {.level = level, .name = event, .index = about.index, .peer = about.peer};
	va_list arguments;

	va_start(arguments, format);
	log_event(replica, &told, format, arguments);
	va_end(arguments);
}

struct storage *replica_storage(struct replica *replica)
{
	return replica->storage;
}

struct raft *replica_core(struct replica *replica)
{
	return replica->core;
}

/* Life ------------------------------------------------------------------------------------------------ */

int replica_open(const struct replica_options *options, struct disk *disk, struct transport *transport,
		 const struct replicator_machine *machine, void *arg, uint64_t now_us, struct replica **ret_replica,
		 char *message)
{
	struct replica *replica = calloc(1, sizeof *replica);

	message[0] = '\0';
	if (replica == NULL)
		return -ENOMEM;
	replica->now_us = now_us;
	replica->options = *options;
	if (replica->options.level_max == 0)
		replica->options.level_max = RAFT_LEVEL_MAX;
	replica->level = RAFT_LEVEL_MIN;
	replica->disk = disk;
	replica->machine = machine;
	replica->machine_arg = arg;
	replica->next_read_id = 1;
	replica->runs.element_size = sizeof(struct pending_run);
	replica->reads.element_size = sizeof(struct pending_read);
	replica->entries = malloc(WIRE_ENTRIES_MAX * sizeof *replica->entries);
	replica->sizes = malloc(WIRE_ENTRIES_MAX * sizeof *replica->sizes);
	int r = replica->entries == NULL || replica->sizes == NULL ? -ENOMEM : 0;
	if (r == 0)
		r = replica_begin_promises(replica, message);
	if (r == 0)
		r = replica_start(replica, now_us, message);
	if (r != 0) {
		if (replica->storage == NULL)
			disk->ops->close(disk);
		transport->ops->close(transport);
		replica_free(replica);
		return r;
	}
	replica->transport = transport;
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
	struct raft_event event = {.type = RAFT_EVENT_PERSISTED, .now_us = replica->now_us, .persisted_seq = durable};
	if (durable == replica->durable_seq)
		return 0;
	raft_assert(durable > replica->durable_seq);
	replica->stall_reported = false;
	replica->persisted_held = !replica_has_room(replica, &event);
	if (replica->persisted_held)
		return 0; /* once there is room */
	replica->durable_seq = durable;
	return replica_ignore_result(replica_step(replica, &event, NULL, NULL));
}

static int replica_take_message(struct replica *replica, const struct wire_message *wire)
{
	struct raft_message message;
	if (!replica_message_from_wire(wire, &message))
		return 0;
	replica_note_named(replica, wire);
	/* Requests are judged by their term and log: this member may not know the configuration yet that made their sender
	 * one of the cluster. Answers of a directory that is no member count for nothing. */
	bool counts = message.type == RAFT_MESSAGE_VOTE_REPLY || message.type == RAFT_MESSAGE_APPEND_REPLY;
	if (counts && replica_is_foreign(replica, wire) && !replica_unseats(replica, wire))
		return replica_on_foreign_answer(replica, wire);
	struct raft_event event = {.type = RAFT_EVENT_MESSAGE, .now_us = replica->now_us, .message = &message};
	if (!replica_has_room(replica, &event))
		return 0; /* as if lost: what matters is repeated, and there may be room then */
	bool writes = message.type == RAFT_MESSAGE_APPEND && message.append.n_entries > 0;
	if (writes && replica->taking.log_size == REPLICA_LOG_LIMIT)
		return 0; /* as if lost, too; heartbeats have no entries, so the leader stays in contact and asks again */
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
	if (!replica_may_take(replica, &wire))
		return replica->failed;
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
		return replica_on_snapshot_offer(replica, &wire);
	case WIRE_SNAPSHOT_REQUEST:
		replica_on_snapshot_request(replica, &wire);
		return 0;
	case WIRE_ENDPOINT:
		replica_on_endpoint(replica, &wire);
		return 0;
	case WIRE_CHECKPOINT:
		replica_on_checkpoint(replica, &wire);
		return replica->failed;
	case WIRE_SNAPSHOT_CHUNK:
		return replica_on_snapshot_chunk(replica, &wire);
	}
	return 0;
}

static int replica_take_event(struct replica *replica, const struct transport_event *arrived)
{
	switch (arrived->type) {
	case TRANSPORT_FRAME:
		replica->received_frames++;
		replica->received_bytes += arrived->len;
		return replica_take_frame(replica, arrived->data, arrived->len);
	case TRANSPORT_PEER_UP:
		replica_log_about(replica, (struct replica_about){.peer = arrived->peer}, 7, "peer-up",
				  "connected to member %llu", (unsigned long long)arrived->peer);
		replica_send_hello(replica, arrived->peer);
		return 0;
	case TRANSPORT_PEER_DOWN: {
		struct replica_peer *peer = replica_find_peer(replica, arrived->peer);
		if (peer != NULL)
			peer->level = 0; /* what starts there next may be another program */
		replica_log_about(replica, (struct replica_about){.peer = arrived->peer}, 6, "peer-down",
				  "the connection to member %llu closed", (unsigned long long)arrived->peer);
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
		if (r != 0)
			return r;
	}
	replica->work_left = true;
	return 0;
}

/* A leader that cannot write must not go on looking alive. */
static int replica_watch_disk(struct replica *replica)
{
	uint64_t age = storage_oldest_write_age_us(replica->storage);
	if (age <= replica->options.raft.election_timeout_max_us || replica->stall_reported)
		return 0;
	replica->stall_reported = true;
	replica_log(replica, 4, "disk-stalled", "the disk has not answered for %llu ms",
		    (unsigned long long)(age / 1000));
	struct raft_event stalled = {.type = RAFT_EVENT_DISK_STALLED, .now_us = replica->now_us};
	return replica_ignore_result(replica_step(replica, &stalled, NULL, NULL));
}

/* After a loss of leadership nobody here can say what becomes of the entries appended before: their proposers are told so. */
static void replica_drop_proposals(struct replica *replica)
{
	struct pending_run *run = pending_front(&replica->runs);
	if (run == NULL)
		return;
	struct raft_status status;
	raft_get_own_status(replica->core, &status);
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

static int replica_apply_some(struct replica *replica, uint64_t stop)
{
	uint64_t left = stop - replica->applied;
	uint32_t wanted = left < REPLICA_APPLY_ENTRIES_MAX ? (uint32_t)left : REPLICA_APPLY_ENTRIES_MAX;
	uint32_t n = 0;
	int r = storage_read(replica->storage, replica->applied + 1, wanted, REPLICA_APPLY_BYTES_MAX, replica->entries,
			     &n);
	if (r != 0) {
		replica_on_unreadable(replica, replica->applied + 1, r);
		return replica->failed != 0 ? replica->failed : r;
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
		replica_note_checkpoint(replica);
	}
	return 0;
}

static int replica_apply(struct replica *replica)
{
	if (replica->restoring.reader != NULL)
		return 0; /* what comes next lies behind the snapshot */
	uint32_t most = replica->options.apply_entries_max;
	uint64_t stop =
		most > 0 && replica->commit - replica->applied > most ? replica->applied + most : replica->commit;
	for (unsigned k = 0; k < REPLICA_APPLY_ROUNDS_MAX && replica->applied < stop; k++) {
		int r = replica_apply_some(replica, stop);
		if (r != 0)
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
		/* The time was read again since the lease was looked at. That it held then is enough; but a member that was
		 * stopped since knows now that it may lead no more, and need not show off what it knows. */
		if (read.leased && !raft_lease_holds(replica->core, replica->now_us))
			read.failed = true;
		replica->leased_reads += read.leased && !read.failed;
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
		r = replica_tend_level(replica);
	if (r == 0)
		r = replica_tend_room(replica);
	if (r == 0)
		r = replica_tend_installing(replica);
	if (r == 0)
		r = replica_tend_taking(replica);
	replica_tend_sending(replica);
	replica_tend_divergence(replica);
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
	if (r == 0) /* in every turn: a busy leader's deadline moves on for ever */
		r = replica_watch_disk(replica);
	if (r == 0)
		r = replica_tick(replica);
	if (r == 0)
		r = replica_tend(replica);
	if (r == 0) {
		/* What the steps queued goes to the disk before the time-consuming part. */
		r = storage_process(replica->storage, now_us);
		/* A write that has ended meanwhile took its signal with it: the core is told in the next turn, at once. */
		if (storage_durable_seq(replica->storage) != replica->durable_seq && !replica->persisted_held)
			replica->work_left = true;
	}
	if (r == 0) {
		replica_drop_proposals(replica);
		r = replica_apply(replica);
	}
	if (r == 0)
		replica_release_reads(replica);
	if (r == 0)
		r = replica->failed; /* found out somewhere deep in this turn */
	if (r == 0 && replica->removed)
		r = REPLICATOR_E_REMOVED;
	replica->failed = r;
	return r;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void replica_settle(struct replica *replica, uint64_t now_us)
{
	raft_settle_promise(replica->core, now_us);
}

uint64_t replica_deadline_us(const struct replica *replica)
{
	uint64_t deadline = earlier(replica_tick_deadline_us(replica), storage_deadline_us(replica->storage));
	if (replica->work_left || replica->transport->ops->pending(replica->transport))
		return 0;
	deadline = earlier(deadline, earlier(replica->hello_us, replica->disconnect_us));
	deadline = earlier(deadline, earlier(replica->level_us, replica_taking_deadline_us(replica)));
	if (replica->receiving.index != 0)
		deadline = earlier(deadline, replica->receiving.again_us);
	return deadline;
}
