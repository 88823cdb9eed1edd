/* See session.h: what is to be sent is packed into as few frames as possible, at the end of a loop turn. */
#include "bridge/session_internal.h"

#include "daemon/assert.h"

#define SEND_AGAIN_MS 2u

/* What one frame holds of the session's, to take it back when the frame cannot be sent. */
struct batch {
	unsigned member;
	struct read_queue *queue;
	uint64_t first_write; /* sequence, 0: none */
	uint64_t end_write;
	uint64_t counter; /* of the read table before */
	struct request *first_read;
	bool registers;
	bool full;
};

static void add_register(struct session *session, struct batch *batch, uint64_t now_ms)
{
	struct kv_command command = {.operation = KV_REGISTER, .expected = session->nonce};
	if (session->registered_ms != 0)
		return;
	uint8_t *body = members_add(session->members, batch->member, request_id(ID_REGISTER, session->incarnation),
				    KV_REQUEST_COMMAND, (uint32_t)kv_command_size(&command));
	if (body == NULL) {
		batch->full = true;
		return;
	}
	kv_command_encode(&command, body);
	session->registered_ms = now_ms;
	batch->registers = true;
}

static uint64_t write_id(const struct session *session, uint64_t sequence)
{
	raft_assert(sequence < UINT64_C(1) << 44);
	return request_id(ID_WRITE,
			  (session->incarnation & 31) << 56 | (session->window.epoch & 0xfff) << 44 | sequence);
}

static bool add_write(struct session *session, const struct batch *batch, const struct request *request)
{
	struct kv_command command = {
		.operation = request->operation,
		.session = session->id,
		.sequence = request->write.sequence,
		.acknowledged = window_acknowledged(&session->window),
		.expected = request->expected,
		.key = request->bytes,
		.key_size = request->key_size,
		.value = request->bytes + request->key_size,
		.value_size = request->value_size,
	};
	raft_assert(kv_command_size(&command) == request->write.size);
	uint8_t *body = members_add(session->members, batch->member, write_id(session, request->write.sequence),
				    KV_REQUEST_COMMAND, request->write.size);
	if (body != NULL)
		kv_command_encode(&command, body);
	return body != NULL;
}

static void add_writes(struct session *session, struct batch *batch, uint64_t now_ms)
{
	struct window_write *write;
	if (window_is_empty(&session->window) || session->lost || now_ms < session->write_hold_until_ms)
		return;
	if (session->id == 0) {
		add_register(session, batch, now_ms);
		return;
	}
	while (!batch->full && (write = window_take(&session->window)) != NULL) {
		if (!add_write(session, batch, request_of_write(write))) {
			window_untake(&session->window, write->sequence);
			batch->full = true;
			break;
		}
		if (batch->first_write == 0)
			batch->first_write = write->sequence;
		batch->end_write = write->sequence + 1;
	}
}

static void add_reads(struct session *session, struct batch *batch, uint64_t now_ms)
{
	struct request *request;
	if (now_ms < batch->queue->hold_until_ms)
		return;
	while (!batch->full && (request = reads_take(batch->queue)) != NULL) {
		uint8_t flags = request->kind == REQUEST_STALE ? KV_GET_STALE : 0;
		uint64_t id = request_id(ID_READ, (session->table.counter + 1) << 16 | request->slot);
		uint8_t *body = members_add(session->members, batch->member, id, KV_REQUEST_GET,
					    KV_GET_BODY_SIZE(request->key_size));
		if (body == NULL) {
			batch->queue->cursor = request;
			batch->full = true;
			break;
		}
		kv_get_encode(body, flags, request->bytes, request->key_size);
		if (batch->queue->n_in_flight == 0)
			batch->queue->progress_ms = now_ms;
		reads_sent(&session->table, batch->queue, request, batch->member);
		raft_assert(request->id == id);
		if (batch->first_read == NULL)
			batch->first_read = request;
	}
}

static bool send_batch(struct session *session, struct batch *batch, uint64_t now_ms)
{
	if (batch->first_write == 0 && batch->first_read == NULL && !batch->registers) {
		if (batch->full)
			session->send_again_ms = now_ms + SEND_AGAIN_MS; /* no memory */
		return false;
	}
	if (members_send(session->members, batch->member, now_ms) < 0) {
		if (batch->first_write != 0)
			window_untake(&session->window, batch->first_write);
		if (batch->first_read != NULL)
			reads_unsent(batch->queue, batch->first_read, batch->counter);
		if (batch->registers)
			session->registered_ms = 0;
		session->send_again_ms = now_ms + SEND_AGAIN_MS;
		return false;
	}
	if (batch->registers || (batch->first_write != 0 && session->window.n_in_flight == 0))
		session->write_progress_ms = now_ms;
	if (batch->first_write != 0)
		window_sent(&session->window, batch->first_write, batch->end_write);
	session->counters.frames++;
	return true;
}

static void send_to(struct session *session, int member, struct read_queue *queue, uint64_t now_ms)
{
	struct batch batch;
	if (member == MEMBERS_NONE)
		return;
	do {
		batch = (struct batch){.member = (unsigned)member, .queue = queue, .counter = session->table.counter};
		if (queue == &session->reads)
			add_writes(session, &batch, now_ms);
		add_reads(session, &batch, now_ms);
	} while (send_batch(session, &batch, now_ms) && batch.full);
}

void session_send(struct session *session, uint64_t now_ms)
{
	if (now_ms < session->send_again_ms)
		return;
	session->send_again_ms = 0;
	/* A leader that was found in this turn is followed in the next, once what was in flight is set back. */
	if (session->generation_seen == members_generation(session->members))
		send_to(session, members_leader(session->members, now_ms), &session->reads, now_ms);
	if (session->stale.cursor != NULL)
		send_to(session, members_any(session->members, now_ms), &session->stale, now_ms);
}
