/* See clients.h. */
#include "clients.h"

#include "daemon/assert.h"

#include <errno.h>
#include <string.h>

static bool same_identity(const struct zmq_identity *a, const struct zmq_identity *b)
{
	return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

struct client *clients_find(struct clients *clients, const struct zmq_identity *identity)
{
	struct client *empty = NULL;
	for (unsigned k = 0; k < clients->n_slots; k++) {
		struct client *client = &clients->slots[k];
		if (client->used && same_identity(&client->identity, identity))
			return client;
		if (!client->used && empty == NULL)
			empty = client;
	}
	if (empty == NULL) {
		if (clients->n_slots == CLIENTS_MAX)
			return NULL;
		empty = &clients->slots[clients->n_slots++];
	}
	empty->used = true;
	empty->dirty = false;
	empty->blocked = false;
	empty->waiting = 0;
	empty->identity = *identity;
	kv_frame_begin(&empty->frame);
	return empty;
}

void clients_hold(struct client *client)
{
	raft_assert(client->used);
	client->waiting++;
	raft_assert(client->waiting > 0);
}

/* False: the client's queue is full, the frame is kept. */
static bool client_send(struct clients *clients, struct client *client)
{
	client->blocked = false;
	if (client->frame.n_items == 0)
		return true;
	kv_frame_finish(&client->frame, KV_FRAME_REPLIES, clients->cluster);
	int r = zmq_socket_send(clients->socket, &client->identity, client->frame.buf, client->frame.len);
	if (r == -EAGAIN) {
		client->blocked = true;
		return false;
	}
	if (r < 0)
		clients->dropped_frames++; /* gone: if it comes back it asks again, under the same session */
	kv_frame_begin(&client->frame);
	return true;
}

static uint8_t *client_add(struct clients *clients, struct client *client, uint64_t id, uint32_t size)
{
	client->dirty = true;
	uint8_t *body = kv_frame_add(&client->frame, id, 0, size);
	if (body != NULL)
		return body;
	if (!client_send(clients, client)) /* full: the rest goes into the next frame */
		return NULL;
	return kv_frame_add(&client->frame, id, 0, size);
}

void clients_answer(struct clients *clients, struct client *client, uint64_t id, const struct kv_answer_body *answer,
		    bool held)
{
	raft_assert(client->used);
	if (held) {
		raft_assert(client->waiting > 0);
		client->waiting--;
	}
	uint8_t *body = client_add(clients, client, id, KV_REPLY_BODY_SIZE(answer->size));
	if (body == NULL) {
		clients->dropped_frames++;
		return;
	}
	kv_reply_encode(body, answer);
}

void clients_answer_plain(struct clients *clients, struct client *client, uint64_t id, enum kv_answer answer,
			  uint64_t number, bool held)
{
	struct kv_answer_body body = {.answer = (uint8_t)answer, .number = number, .term = clients->term};
	clients_answer(clients, client, id, &body, held);
}

uint8_t *clients_answer_data(struct clients *clients, struct client *client, uint64_t id, uint32_t size)
{
	struct kv_answer_body answer = {.answer = KV_ANSWER_OK, .term = clients->term};
	uint8_t *body = client_add(clients, client, id, KV_REPLY_BODY_SIZE(size));
	if (body == NULL) {
		clients->dropped_frames++;
		return NULL;
	}
	kv_reply_encode(body, &answer);
	return body + KV_REPLY_HEADER_SIZE;
}

bool clients_flush(struct clients *clients)
{
	bool blocked = false;
	for (unsigned k = 0; k < clients->n_slots; k++) {
		struct client *client = &clients->slots[k];
		if (!client->used)
			continue;
		if (client->dirty)
			client->dirty = !client_send(clients, client);
		blocked |= client->dirty;
		if (client->waiting == 0 && !client->dirty)
			client->used = false; /* keeps its buffer for the next one in this slot */
	}
	while (clients->n_slots > 0 && !clients->slots[clients->n_slots - 1].used) {
		clients->n_slots--;
		if (clients->n_slots > 0) /* the first slot's buffer stays: most hosts have one bridge */
			kv_frame_free(&clients->slots[clients->n_slots].frame);
	}
	return blocked;
}

void clients_free(struct clients *clients)
{
	for (unsigned k = 0; k < CLIENTS_MAX; k++)
		kv_frame_free(&clients->slots[k].frame);
}
