/*
 * What clients and members say to one another: frames of requests and of replies, made and read as the bridge and raftd do.
 * Some are damaged on their way: whoever reads one must refuse it, and then it is as if it had been lost.
 *
 * Must not know what requests mean, nor what answers may be: client_request.c does.
 */
#include "protocol.h"

#include "check.h"

#include "daemon/assert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define COMMANDS_MAX 16u

/* Answers as numbers of the protocol, as raftd says them, and back. What is not here is told to no client of a simulation. */
static const struct {
	int result;
	enum kv_answer answer;
} answers[] = {
	{REPLICATOR_OK, KV_ANSWER_OK},
	{REPLICATOR_E_NOT_LEADER, KV_ANSWER_NOT_LEADER},
	{REPLICATOR_E_UNKNOWN, KV_ANSWER_UNKNOWN},
	{REPLICATOR_E_BUSY, KV_ANSWER_BUSY},
	{REPLICATOR_E_NOT_READY, KV_ANSWER_NOT_READY},
	{REPLICATOR_E_DISK_FULL, KV_ANSWER_DISK_FULL},
	{REPLICATOR_E_LOST, KV_ANSWER_LOST},
};

#define N_ANSWERS (sizeof answers / sizeof *answers)

static enum kv_answer answer_of(int result)
{
	for (unsigned k = 0; k < N_ANSWERS; k++)
		if (answers[k].result == result)
			return answers[k].answer;
	abort();
}

static int result_of(enum kv_answer answer)
{
	for (unsigned k = 0; k < N_ANSWERS; k++)
		if (answers[k].answer == answer)
			return answers[k].result;
	return answer == KV_ANSWER_NOT_FOUND ? REPLICATOR_OK : -EPROTO;
}

/* Damage ---------------------------------------------------------------------------------------------- */

/* A few bits flip, or the end is missing, or there is more than there was. */
static void damage(struct kv_frame *frame, struct sim_random *random)
{
	uint64_t how = sim_random_below(random, 8);
	if (how == 0) {
		frame->len = sim_random_below(random, frame->len);
		return;
	}
	if (how == 1 && frame->len < frame->capacity) {
		frame->buf[frame->len++] = 0;
		return;
	}
	uint64_t end = how < 4 ? KV_FRAME_HEADER_SIZE : frame->len; /* often where it says what it is */
	uint64_t at = sim_random_below(random, end);
	frame->buf[at] ^= (uint8_t)(1u << sim_random_below(random, 8));
}

/* Somebody of another cluster, or at the other end of the connection, refuses it. */
static void check_address(const struct sim *sim, const struct kv_frame *frame, uint8_t kind)
{
	struct kv_frame_reader reader;
	uint8_t other = kind == KV_FRAME_REQUESTS ? KV_FRAME_REPLIES : KV_FRAME_REQUESTS;
	if (kv_frame_read(frame->buf, frame->len, kind, kv_cluster_id("another"), &reader) != KV_FRAME_CLUSTER ||
	    kv_frame_read(frame->buf, frame->len, other, SIM_CLUSTER, &reader) != KV_FRAME_FORMAT)
		sim_fail(sim, "a frame is taken by somebody whom it is not meant for");
}

bool sim_protocol_send(struct sim *sim, struct kv_frame *frame, uint8_t kind)
{
	struct kv_frame_reader reader;
	kv_frame_finish(frame, kind, SIM_CLUSTER);
	if (sim->calm || !sim_random_chance(&sim->random_network, sim->plan.corruption))
		return true;
	check_address(sim, frame, kind);
	damage(frame, &sim->random_network);
	int r = kv_frame_read(frame->buf, frame->len, kind, SIM_CLUSTER, &reader);
	if (r == KV_FRAME_OK)
		sim_fail(sim, "a frame of %zu bytes was damaged on its way and nobody notices", frame->len);
	sim_note(sim, "a frame between a client and a member is damaged: %s", kv_frame_result_name(r));
	sim->counts.requests_damaged++;
	return false;
}

void sim_protocol_read(struct sim *sim, const struct kv_frame *frame, uint8_t kind, struct kv_frame_reader *ret_reader)
{
	int r = kv_frame_read(frame->buf, frame->len, kind, SIM_CLUSTER, ret_reader);
	if (r != KV_FRAME_OK)
		sim_fail(sim, "a frame of %zu bytes cannot be read: %s", frame->len, kv_frame_result_name(r));
}

/* Requests -------------------------------------------------------------------------------------------- */

static void take_get(struct sim *sim, unsigned member, const struct kv_frame_item *item)
{
	uint8_t flags;
	uint8_t name[SIM_KEY_SIZE];
	const uint8_t *key;
	size_t key_size;
	sim_key_name(sim_ticket_key(item->id), name);
	if (!kv_get_decode(item->body, item->size, &flags, &key, &key_size) || flags != 0 || key_size != sizeof name ||
	    memcmp(key, name, sizeof name) != 0)
		sim_fail(sim, "a read of key %u arrives as another request", sim_ticket_key(item->id));
	sim_member_read(sim, member, item->id);
}

/* All commands of the frame are proposed together. */
static void take_frame(struct sim *sim, unsigned member, const struct kv_frame *frame)
{
	struct kv_frame_reader reader;
	struct kv_frame_item item;
	struct replicator_command commands[COMMANDS_MAX];
	struct kv_command command;
	uint64_t first_ticket = 0;
	uint32_t n = 0;
	sim_protocol_read(sim, frame, KV_FRAME_REQUESTS, &reader);
	while (kv_frame_next(&reader, &item)) {
		if (item.type == KV_REQUEST_GET) {
			take_get(sim, member, &item);
			continue;
		}
		if (n == 0)
			first_ticket = item.id;
		if (item.type != KV_REQUEST_COMMAND || item.id != first_ticket + n ||
		    kv_command_decode(item.body, item.size, &command) != KV_DECODE_OK)
			sim_fail(sim, "request %" PRIu64 " cannot be read where it arrives", item.id);
		commands[n++] = (struct replicator_command){item.body, item.size};
	}
	if (n > 0)
		sim_member_write(sim, member, first_ticket, commands, n);
}

static uint8_t *add(struct kv_frame *frame, uint64_t id, uint8_t type, uint32_t size)
{
	uint8_t *body = kv_frame_add(frame, id, type, size);
	raft_assert(body != NULL);
	return body;
}

void sim_protocol_write(struct sim *sim, unsigned member, uint64_t first_ticket,
			const struct replicator_command *commands, uint32_t n)
{
	struct kv_frame frame = {0};
	raft_assert(n > 0 && n <= COMMANDS_MAX);
	if (!sim_member_listens(sim, member))
		return;
	for (uint32_t k = 0; k < n; k++)
		memcpy(add(&frame, first_ticket + k, KV_REQUEST_COMMAND, commands[k].size), commands[k].data,
		       commands[k].size);
	if (sim_protocol_send(sim, &frame, KV_FRAME_REQUESTS))
		take_frame(sim, member, &frame);
	kv_frame_free(&frame);
}

void sim_protocol_get(struct sim *sim, unsigned member, uint64_t ticket)
{
	struct kv_frame frame = {0};
	uint8_t name[SIM_KEY_SIZE];
	if (!sim->members[member].up)
		return;
	sim_key_name(sim_ticket_key(ticket), name);
	kv_get_encode(add(&frame, ticket, KV_REQUEST_GET, KV_GET_BODY_SIZE(sizeof name)), 0, name, sizeof name);
	if (sim_protocol_send(sim, &frame, KV_FRAME_REQUESTS))
		take_frame(sim, member, &frame);
	kv_frame_free(&frame);
}

/* Replies --------------------------------------------------------------------------------------------- */

/* The frame is what the event carries. Where a read has its place is no part of the protocol: the event's number says it. */
void sim_protocol_answer(struct sim *sim, const struct sim_answer *answer, const struct kv_value *value)
{
	struct kv_frame frame = {0};
	struct kv_answer_body body = {.answer = (uint8_t)answer_of(answer->result),
				      .status = answer->status,
				      .number = answer->result == 0 ? answer->revision : answer->leader};
	if (answer->result == 0 && sim_ticket_reads(answer->ticket) && value == NULL)
		body.answer = KV_ANSWER_NOT_FOUND;
	if (value != NULL) {
		body.data = value->data;
		body.size = value->size;
	}
	kv_reply_encode(add(&frame, answer->ticket, 0, KV_REPLY_BODY_SIZE(body.size)), &body);
	uint64_t delay = sim->plan.delay_min_us + sim_random_below(&sim->random_network, sim->plan.delay_spread_us + 1);
	if (!sim_protocol_send(sim, &frame, KV_FRAME_REPLIES)) {
		kv_frame_free(&frame);
		return;
	}
	sim_schedule(sim, delay,
		     (struct sim_event){.type = SIM_ANSWER,
					.member = sim_ticket_client(answer->ticket),
					.number = answer->place,
					.data = frame.buf,
					.len = frame.len});
}

/* A value is its number, and then bytes that follow from it: all of it is what somebody wrote. */
static uint64_t take_value(struct sim *sim, const struct kv_answer_body *body)
{
	uint64_t value = 0;
	if (body->size < sizeof value)
		sim_fail(sim, "a read is answered with a value of %u bytes", body->size);
	memcpy(&value, body->data, sizeof value);
	for (uint32_t k = sizeof value; k < body->size; k++)
		if (body->data[k] != (uint8_t)value)
			sim_fail(sim, "a read is answered with a value that nobody wrote: byte %u of %u is wrong", k,
				 body->size);
	return value;
}

void sim_protocol_answered(struct sim *sim, const struct sim_event *event)
{
	struct kv_frame frame = {.buf = event->data, .len = event->len};
	struct kv_frame_reader reader;
	struct kv_frame_item item;
	struct kv_answer_body body;
	sim_protocol_read(sim, &frame, KV_FRAME_REPLIES, &reader);
	while (kv_frame_next(&reader, &item)) {
		if (!kv_reply_decode(item.body, item.size, &body))
			sim_fail(sim, "the reply to request %" PRIu64 " cannot be read", item.id);
		struct sim_answer answer = {.ticket = item.id,
					    .result = result_of((enum kv_answer)body.answer),
					    .status = body.status,
					    .place = event->number};
		if (answer.result == 0)
			answer.revision = body.number;
		else
			answer.leader = (unsigned)body.number;
		if (body.answer == KV_ANSWER_OK && sim_ticket_reads(item.id))
			answer.value = take_value(sim, &body);
		sim_client_answer(sim, event->member, &answer);
	}
}
