/*
 * What clients ask and what they are answered: frames of requests in, proposals and reads to the replicator, replies out;
 * and the store as the replicator's state machine. What this must not know: the loop, the disk, elections.
 */
#include "server.h"

#include "daemon/assert.h"
#include "daemon/service/service.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Answers --------------------------------------------------------------------------------------------- */

static enum kv_answer answer_from_result(int result)
{
	switch ((enum replicator_result)result) {
	case REPLICATOR_E_NOT_LEADER:
		return KV_ANSWER_NOT_LEADER;
	case REPLICATOR_E_BUSY:
		return KV_ANSWER_BUSY;
	case REPLICATOR_E_NOT_READY:
		return KV_ANSWER_NOT_READY;
	case REPLICATOR_E_DISK_FULL:
		return KV_ANSWER_DISK_FULL;
	case REPLICATOR_E_UNKNOWN:
		return KV_ANSWER_UNKNOWN;
	case REPLICATOR_E_LOST:
		return KV_ANSWER_LOST;
	case REPLICATOR_E_TARGET:
		return KV_ANSWER_BAD_REQUEST;
	case REPLICATOR_OK:
		return KV_ANSWER_OK;
	case REPLICATOR_E_PENDING:
	case REPLICATOR_E_MEMBERSHIP:
	case REPLICATOR_E_STALE:
		return KV_ANSWER_REFUSED;
	case REPLICATOR_E_CONFIG:
	case REPLICATOR_E_DAMAGED:
	case REPLICATOR_E_CLUSTER:
	case REPLICATOR_E_REMOVED:
	case REPLICATOR_E_DIVERGED:
	case REPLICATOR_E_LEVEL:
		break;
	}
	return KV_ANSWER_UNKNOWN; /* an errno, perhaps after something was appended: this member is about to stop */
}

static void answer_result(struct server *server, struct client *client, uint64_t id, int result, bool held)
{
	uint64_t number = result == REPLICATOR_E_NOT_LEADER ? server->status.leader : 0;
	clients_answer_plain(&server->clients, client, id, answer_from_result(result), number, held);
}

/* Returns the bytes of the answer's value. */
static size_t answer_get(struct server *server, struct client *client, uint64_t id, const uint8_t *key, size_t key_size)
{
	struct kv_answer_body answer = {.answer = KV_ANSWER_NOT_FOUND, .term = server->clients.term};
	struct kv_value value;
	if (kv_store_get(server->store, key, key_size, &value)) {
		answer.answer = KV_ANSWER_OK;
		answer.number = value.revision;
		answer.data = value.data;
		answer.size = value.size;
	}
	clients_answer(&server->clients, client, id, &answer, true);
	return answer.size;
}

/* The state machine ----------------------------------------------------------------------------------- */

static struct server_proposal take_proposal(struct server *server, uint64_t ticket)
{
	struct server_proposal *front = pending_front(&server->proposals);
	raft_assert(front != NULL && ticket == server->first_proposal_ticket);
	struct server_proposal proposal = *front;
	pending_pop(&server->proposals);
	server->first_proposal_ticket++;
	return proposal;
}

/* Whatever the entry at index is, the state before the first command at or behind a mark is the same everywhere. */
static void note_mark(struct server *server, uint64_t index)
{
	uint64_t mark = index / KV_MARK_ENTRIES * KV_MARK_ENTRIES;
	struct kv_stats stats;
	if (mark == server->mark_passed)
		return;
	server->mark_passed = mark;
	kv_store_stats(server->store, &stats);
	if (stats.applied >= mark)
		return; /* it was passed before this member was started */
	server->mark_index = mark;
	server->mark_hash = kv_store_hash(server->store);
}

static void machine_apply(void *arg, uint64_t index, uint64_t time_ms, const uint8_t *data, uint32_t size,
			  uint64_t ticket)
{
	struct server *server = arg;
	note_mark(server, index);
	struct kv_reply reply = kv_store_apply(server->store, index, time_ms, data, size);
	if (ticket == 0)
		return;
	struct server_proposal proposal = take_proposal(server, ticket);
	server->counters.proposals[KV_ANSWER_OK]++;
	struct kv_answer_body answer = {
		.answer = KV_ANSWER_OK, .status = reply.status, .number = reply.revision, .term = server->clients.term};
	clients_answer(&server->clients, proposal.client, proposal.id, &answer, true);
}

static void machine_dropped(void *arg, uint64_t ticket, int why)
{
	struct server *server = arg;
	struct server_proposal proposal = take_proposal(server, ticket);
	server->counters.proposals[answer_from_result(why)]++;
	answer_result(server, proposal.client, proposal.id, why, true);
}

/* The next read of the batch: its id and key. */
static uint64_t batch_next(struct server_read_batch *batch, const uint8_t **ret_key, size_t *ret_key_size)
{
	uint64_t header[2];
	raft_assert(batch->n > 0);
	memcpy(header, batch->items + batch->next, sizeof header);
	*ret_key = batch->items + batch->next + sizeof header;
	*ret_key_size = header[1];
	batch->next += sizeof header + header[1];
	batch->n--;
	return header[0];
}

/* Answers every read of the batch with the same reason why not, and frees it. */
static void refuse_batch(struct server *server, struct server_read_batch *batch, int why, bool held)
{
	const uint8_t *key;
	size_t key_size;
	server->counters.reads[answer_from_result(why)] += batch->n;
	while (batch->n > 0)
		answer_result(server, batch->client, batch_next(batch, &key, &key_size), why, held);
	free(batch->items);
	batch->items = NULL;
}

static struct server_read_batch take_batch(struct server *server, uint64_t ticket)
{
	struct server_read_batch *front = pending_front(&server->read_batches);
	raft_assert(front != NULL && front->ticket == ticket);
	struct server_read_batch batch = *front;
	pending_pop(&server->read_batches);
	return batch;
}

/* Answers reads of the batch until they are all answered, its client's queue is full, or the turn's bytes are used up. */
static void answer_batch(struct server *server, struct server_read_batch *batch, size_t *bytes)
{
	const uint8_t *key;
	size_t key_size;
	while (batch->n > 0 && !batch->client->blocked && *bytes <= SERVER_READ_BYTES_MAX) {
		uint64_t id = batch_next(batch, &key, &key_size);
		*bytes += answer_get(server, batch->client, id, key, key_size);
		server->reads_waiting--;
		server->reads_answered += batch->ticket != 0;
		server->counters.stale_reads += batch->ticket == 0;
	}
}

bool server_answer_reads(struct server *server)
{
	size_t bytes = 0;
	for (size_t k = server->ready_batches.count; k > 0 && bytes <= SERVER_READ_BYTES_MAX; k--) {
		struct server_read_batch batch = *(struct server_read_batch *)pending_front(&server->ready_batches);
		pending_pop(&server->ready_batches);
		answer_batch(server, &batch, &bytes);
		if (batch.n == 0) {
			free(batch.items);
			continue;
		}
		/* To the back: a client that does not read its answers must not hold up the others. */
		int r = pending_push(&server->ready_batches, &batch);
		raft_assert(r == 0); /* its place was just given up */
	}
	return bytes > SERVER_READ_BYTES_MAX;
}

static void machine_readable(void *arg, uint64_t ticket)
{
	struct server *server = arg;
	struct server_read_batch batch = take_batch(server, ticket);
	uint32_t n = batch.n;
	if (pending_push(&server->ready_batches, &batch) == 0)
		return;
	refuse_batch(server, &batch, REPLICATOR_E_LOST, true); /* no memory: asked again, it may do better */
	server->reads_waiting -= n;
}

static void machine_unreadable(void *arg, uint64_t ticket, int why)
{
	struct server *server = arg;
	struct server_read_batch batch = take_batch(server, ticket);
	server->reads_waiting -= batch.n;
	refuse_batch(server, &batch, why, true);
}

static void machine_log(void *arg, const struct replicator_event *event)
{
	struct service_fields fields = {.term = event->term,
					.role = server_role_name(event->role),
					.leader = event->leader,
					.index = event->index,
					.peer = event->peer};
	(void)arg;
	service_log_fields(event->level, event->name, &fields, "%s", event->text);
}

const struct replicator_machine server_machine = {
	.size = sizeof(struct replicator_machine),
	.apply = machine_apply,
	.dropped = machine_dropped,
	.readable = machine_readable,
	.unreadable = machine_unreadable,
	.log = machine_log,
	.snapshot_take = server_snapshot_take,
	.snapshot_read = server_snapshot_read,
	.snapshot_free = server_snapshot_free,
	.restore_begin = server_restore_begin,
	.restore_feed = server_restore_feed,
	.restore_end = server_restore_end,
	.state_hash = server_state_hash,
	.starting = server_machine_starting,
};

/* Requests -------------------------------------------------------------------------------------------- */

/* What one frame asks for that is handed on as a whole. */
struct frame_work {
	struct client *client;
	uint32_t n_commands;
	uint32_t n_pages;
	struct frame_reads {
		uint32_t n;
		size_t size; /* of their copies */
	} linearizable, stale;
};

static int reserve_commands(struct server *server, uint32_t n)
{
	if (n <= server->commands_capacity)
		return 0;
	struct replicator_command *commands = realloc(server->commands, n * sizeof *commands);
	if (commands == NULL)
		return -ENOMEM;
	server->commands = commands;
	uint64_t *ids = realloc(server->command_ids, n * sizeof *ids);
	if (ids == NULL)
		return -ENOMEM;
	server->command_ids = ids;
	server->commands_capacity = n;
	return 0;
}

static void take_command(struct server *server, struct frame_work *work, const struct kv_frame_item *item)
{
	struct kv_command command;
	if (kv_command_decode(item->body, item->size, &command) != KV_DECODE_OK) {
		clients_answer_plain(&server->clients, work->client, item->id, KV_ANSWER_BAD_REQUEST, 0, false);
		return;
	}
	server->commands[work->n_commands] = (struct replicator_command){item->body, item->size};
	server->command_ids[work->n_commands] = item->id;
	work->n_commands++;
}

static void take_get(struct server *server, struct frame_work *work, const struct kv_frame_item *item)
{
	uint8_t flags;
	const uint8_t *key;
	size_t key_size;
	if (!kv_get_decode(item->body, item->size, &flags, &key, &key_size) || key_size == 0) {
		clients_answer_plain(&server->clients, work->client, item->id, KV_ANSWER_BAD_REQUEST, 0, false);
		return;
	}
	struct frame_reads *reads = (flags & KV_GET_STALE) != 0 ? &work->stale : &work->linearizable;
	reads->n++;
	reads->size += 2 * sizeof(uint64_t) + key_size;
}

static void take_transfer(struct server *server, struct client *client, const struct kv_frame_item *item)
{
	uint64_t target;
	int r = REPLICATOR_E_TARGET;
	if (kv_transfer_decode(item->body, item->size, &target))
		r = replicator_transfer(server->replicator, target);
	answer_result(server, client, item->id, r, false);
}

static void take_leader(struct server *server, struct client *client, const struct kv_frame_item *item)
{
	bool leads = server->status.role == 3;
	clients_answer_plain(&server->clients, client, item->id, leads ? KV_ANSWER_OK : KV_ANSWER_NOT_LEADER,
			     server->status.leader, false);
}

/* The answers that may be long. */
static void take_page(struct server *server, struct frame_work *work, const struct kv_frame_item *item)
{
	if (++work->n_pages > SERVER_PAGES_MAX)
		clients_answer_plain(&server->clients, work->client, item->id, KV_ANSWER_BUSY, 0, false);
	else if (item->type == KV_REQUEST_STATUS)
		server_answer_status(server, work->client, item->id);
	else if (item->type == KV_REQUEST_DUMP)
		server_answer_dump(server, work->client, item);
	else if (item->type == KV_REQUEST_BACKUP)
		server_answer_backup(server, work->client, item);
	else
		server_answer_log(server, work->client, item);
}

static void take_item(struct server *server, struct frame_work *work, const struct kv_frame_item *item)
{
	switch (item->type) {
	case KV_REQUEST_COMMAND:
		take_command(server, work, item);
		break;
	case KV_REQUEST_GET:
		take_get(server, work, item);
		break;
	case KV_REQUEST_STATUS:
	case KV_REQUEST_DUMP:
	case KV_REQUEST_LOG:
	case KV_REQUEST_BACKUP:
		take_page(server, work, item);
		break;
	case KV_REQUEST_TRANSFER:
		take_transfer(server, work->client, item);
		break;
	case KV_REQUEST_LEADER:
		take_leader(server, work->client, item);
		break;
	default:
		if (!server_take_admin(server, work->client, item))
			clients_answer_plain(&server->clients, work->client, item->id, KV_ANSWER_BAD_REQUEST, 0, false);
	}
}

static int queue_proposals(struct server *server, struct client *client, const uint64_t *ids, uint32_t n)
{
	for (uint32_t k = 0; k < n; k++) {
		struct server_proposal proposal = {client, ids[k]};
		int r = pending_push(&server->proposals, &proposal);
		if (r < 0) {
			server->proposals.count -= k;
			return REPLICATOR_E_BUSY; /* no memory for more that wait */
		}
	}
	return 0;
}

static int propose_some(struct server *server, struct client *client, uint32_t first, uint32_t n)
{
	uint64_t ticket = server->first_proposal_ticket + server->proposals.count;
	if (server->proposals.count + n > SERVER_WAITING_MAX)
		return REPLICATOR_E_BUSY;
	int r = queue_proposals(server, client, server->command_ids + first, n);
	if (r != 0)
		return r;
	r = replicator_propose(server->replicator, server->commands + first, n, ticket);
	if (r != 0)
		server->proposals.count -= n;
	return r;
}

/* In order and in steps that the replicator takes whole; after one that is refused, so is the rest. */
static void propose_commands(struct server *server, const struct frame_work *work)
{
	int r = 0;
	for (uint32_t first = 0; first < work->n_commands;) {
		uint32_t left = work->n_commands - first;
		uint32_t n = left < SERVER_PROPOSALS_MAX ? left : SERVER_PROPOSALS_MAX;
		if (r == 0)
			r = propose_some(server, work->client, first, n);
		if (r != 0)
			server->counters.proposals[answer_from_result(r)] += n;
		for (uint32_t k = first; k < first + n; k++) {
			if (r == 0)
				clients_hold(work->client);
			else
				answer_result(server, work->client, server->command_ids[k], r, false);
		}
		first += n;
	}
}

/* Copies the frame's reads of one kind: the frame does not outlive this turn. */
static uint8_t *copy_reads(struct kv_frame_reader reader, const struct frame_reads *reads, bool stale)
{
	struct kv_frame_item item;
	uint8_t flags;
	const uint8_t *key;
	size_t key_size;
	uint8_t *items = malloc(reads->size);
	uint8_t *cursor = items;
	while (items != NULL && kv_frame_next(&reader, &item)) {
		if (item.type != KV_REQUEST_GET || !kv_get_decode(item.body, item.size, &flags, &key, &key_size) ||
		    key_size == 0 || ((flags & KV_GET_STALE) != 0) != stale)
			continue;
		uint64_t header[2] = {item.id, key_size};
		memcpy(cursor, header, sizeof header);
		memcpy(cursor + sizeof header, key, key_size);
		cursor += sizeof header + key_size;
	}
	raft_assert(items == NULL || cursor == items + reads->size);
	return items;
}

/* Hands the batch to the replicator, or if it is stale to those that may be answered at once. */
static int start_reads(struct server *server, struct server_read_batch *batch, bool stale)
{
	if (server->reads_waiting + batch->n > SERVER_WAITING_MAX)
		return REPLICATOR_E_BUSY;
	batch->ticket = stale ? 0 : server->next_read_ticket;
	int r = pending_push(stale ? &server->ready_batches : &server->read_batches, batch);
	if (r < 0)
		return REPLICATOR_E_BUSY; /* no memory for more that wait */
	if (stale)
		return 0;
	r = replicator_read(server->replicator, batch->ticket);
	if (r == 0)
		server->next_read_ticket++;
	else
		server->read_batches.count--; /* the one just pushed */
	return r < 0 ? REPLICATOR_E_LOST : r;
}

static void read_keys(struct server *server, struct client *client, const struct frame_reads *reads,
		      struct kv_frame_reader reader, bool stale)
{
	if (reads->n == 0)
		return;
	struct server_read_batch batch = {.client = client, .n = reads->n, .items = copy_reads(reader, reads, stale)};
	if (batch.items == NULL)
		return; /* no memory: the client asks again */
	int r = start_reads(server, &batch, stale);
	if (r != 0) {
		refuse_batch(server, &batch, r, false);
		return;
	}
	server->reads_waiting += reads->n;
	for (uint32_t k = 0; k < reads->n; k++)
		clients_hold(client);
}

void server_take_frame(struct server *server, const struct zmq_identity *from, const uint8_t *frame, size_t len)
{
	struct kv_frame_reader reader;
	struct kv_frame_item item;
	int r = kv_frame_read(frame, len, KV_FRAME_REQUESTS, server->status.cluster, &reader);
	if (r != KV_FRAME_OK) {
		server->bad_frames++;
		service_log(4, "bad-request-frame", "refused a client's frame of %zu bytes: %s", len,
			    kv_frame_result_name(r));
		return;
	}
	server->counters.frames++;
	server->counters.frame_bytes += len;
	struct frame_work work = {.client = clients_find(&server->clients, from)};
	if (work.client == NULL || reserve_commands(server, reader.left) < 0)
		return; /* too many wait, or no memory: the client's deadline tells it */
	struct kv_frame_reader second = reader;
	while (kv_frame_next(&reader, &item))
		take_item(server, &work, &item);
	if (work.n_commands > 0)
		propose_commands(server, &work);
	read_keys(server, work.client, &work.linearizable, second, false);
	read_keys(server, work.client, &work.stale, second, true);
}

void server_requests_fini(struct server *server)
{
	struct pending_queue *queues[] = {&server->read_batches, &server->ready_batches};
	for (unsigned k = 0; k < 2; k++) {
		struct server_read_batch *batch;
		while ((batch = pending_front(queues[k])) != NULL) {
			free(batch->items);
			pending_pop(queues[k]);
		}
		pending_free(queues[k]);
	}
	pending_free(&server->proposals);
	free(server->commands);
	free(server->command_ids);
}
