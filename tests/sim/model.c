/* See model.h. Keys, sessions and kept replies are plain lists that are searched from one end. There may be thousands of keys, and
 * names are long: a search compares hashes first. */
#include "model.h"

#include "daemon/assert.h"
#include "kv/command.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct model_key {
	uint64_t hash; /* of the name */
	uint8_t *name;
	uint16_t size;
	uint64_t revision; /* 0: there is no such key */
	uint64_t value;
};

struct model_reply {
	uint64_t sequence;
	struct kv_reply reply;
};

struct model_session {
	uint64_t id;
	uint64_t next; /* sequence number that is applied next */
	uint64_t acknowledged;
	uint64_t used;		     /* index */
	struct model_reply *replies; /* ascending, all >= acknowledged */
	size_t n_replies, capacity;
};

struct model {
	struct model_key *keys;
	size_t n_keys, keys_capacity;
	struct model_session *sessions; /* in the order of registration */
	size_t n_sessions, sessions_capacity;
};

uint64_t model_hash(const void *value, size_t size)
{
	return XXH3_64bits(value, size);
}

struct model *model_new(void)
{
	struct model *model = calloc(1, sizeof *model);
	raft_assert(model != NULL);
	return model;
}

struct model *model_free(struct model *model)
{
	if (model == NULL)
		return NULL;
	for (size_t k = 0; k < model->n_sessions; k++)
		free(model->sessions[k].replies);
	free(model->sessions);
	for (size_t k = 0; k < model->n_keys; k++)
		free(model->keys[k].name);
	free(model->keys);
	free(model);
	return NULL;
}

uint64_t model_sessions(const struct model *model)
{
	return model->n_sessions;
}

void model_each_key(const struct model *model,
		    void (*visit)(void *arg, const uint8_t *key, uint16_t key_size, uint64_t revision, uint64_t value),
		    void *arg)
{
	for (size_t k = 0; k < model->n_keys; k++)
		if (model->keys[k].revision > 0)
			visit(arg, model->keys[k].name, model->keys[k].size, model->keys[k].revision, model->keys[k].value);
}

/* The array with room for one more. */
static void *with_room(void *array, size_t n, size_t *capacity, size_t element_size)
{
	if (n < *capacity)
		return array;
	*capacity = *capacity * 2 + 8;
	void *grown = reallocarray(array, *capacity, element_size);
	raft_assert(grown != NULL);
	return grown;
}

static struct model_key *model_key(struct model *model, const struct kv_command *command)
{
	uint64_t hash = model_hash(command->key, command->key_size);
	for (size_t k = 0; k < model->n_keys; k++)
		if (model->keys[k].hash == hash && model->keys[k].size == command->key_size &&
		    memcmp(model->keys[k].name, command->key, command->key_size) == 0)
			return &model->keys[k];
	model->keys = with_room(model->keys, model->n_keys, &model->keys_capacity, sizeof *model->keys);
	struct model_key *key = &model->keys[model->n_keys++];
	*key = (struct model_key){.hash = hash, .name = malloc(command->key_size), .size = command->key_size};
	raft_assert(key->name != NULL);
	memcpy(key->name, command->key, command->key_size);
	return key;
}

/* Sessions --------------------------------------------------------------------------------------------- */

static void model_register(struct model *model, uint64_t index)
{
	if (model->n_sessions == KV_SESSIONS_MAX) {
		size_t oldest = 0;
		for (size_t k = 1; k < model->n_sessions; k++)
			if (model->sessions[k].used < model->sessions[oldest].used)
				oldest = k;
		free(model->sessions[oldest].replies);
		memmove(model->sessions + oldest, model->sessions + oldest + 1,
			(model->n_sessions - oldest - 1) * sizeof *model->sessions);
		model->n_sessions--;
	}
	model->sessions =
		with_room(model->sessions, model->n_sessions, &model->sessions_capacity, sizeof *model->sessions);
	model->sessions[model->n_sessions++] =
		(struct model_session){.id = index, .next = 1, .acknowledged = 1, .used = index};
}

/* Registered last, asked for most. */
static struct model_session *model_session(struct model *model, uint64_t id)
{
	for (size_t k = model->n_sessions; k > 0; k--)
		if (model->sessions[k - 1].id == id)
			return &model->sessions[k - 1];
	return NULL;
}

static void model_release(struct model_session *session, uint64_t acknowledged)
{
	size_t n = 0;
	if (acknowledged > session->next)
		acknowledged = session->next;
	if (acknowledged <= session->acknowledged)
		return;
	session->acknowledged = acknowledged;
	while (n < session->n_replies && session->replies[n].sequence < acknowledged)
		n++;
	session->n_replies -= n;
	if (n > 0)
		memmove(session->replies, session->replies + n, session->n_replies * sizeof *session->replies);
}

/* True: to be carried out now. */
static bool model_admit(struct model_session *session, const struct kv_command *command, struct kv_reply *ret_reply)
{
	if (command->sequence < session->acknowledged) {
		*ret_reply = (struct kv_reply){.status = KV_ALREADY_ACKNOWLEDGED};
		return false;
	}
	for (size_t k = 0; k < session->n_replies; k++)
		if (session->replies[k].sequence == command->sequence) {
			*ret_reply = session->replies[k].reply;
			return false;
		}
	if (command->sequence > session->next) {
		*ret_reply = (struct kv_reply){.status = KV_OUT_OF_ORDER, .revision = session->next};
		return false;
	}
	if (session->n_replies >= KV_SESSION_WINDOW) {
		*ret_reply = (struct kv_reply){.status = KV_WINDOW_FULL};
		return false;
	}
	return true;
}

static void model_keep(struct model_session *session, uint64_t sequence, struct kv_reply reply)
{
	session->replies =
		with_room(session->replies, session->n_replies, &session->capacity, sizeof *session->replies);
	session->replies[session->n_replies++] = (struct model_reply){sequence, reply};
	session->next = sequence + 1;
}

/* Applying --------------------------------------------------------------------------------------------- */

static void model_write(struct model_key *key, uint64_t index, const struct kv_command *command,
			struct model_effect *effect)
{
	key->revision = index;
	key->value = model_hash(command->value, command->value_size);
	effect->changed = true;
	effect->reply = (struct kv_reply){.status = KV_OK, .revision = index};
}

static void model_operate(struct model *model, uint64_t index, const struct kv_command *command,
			  struct model_effect *effect)
{
	struct model_key *key = command->key_size > 0 ? model_key(model, command) : NULL;
	switch ((enum kv_operation)command->operation) {
	case KV_REGISTER:
		model_register(model, index);
		effect->reply = (struct kv_reply){.status = KV_OK, .revision = index};
		return;
	case KV_NOTHING:
		effect->reply = (struct kv_reply){.status = KV_OK};
		return;
	case KV_PUT:
		model_write(key, index, command, effect);
		return;
	case KV_CAS:
		if (key->revision == command->expected)
			model_write(key, index, command, effect);
		else
			effect->reply = (struct kv_reply){.status = KV_CAS_MISMATCH, .revision = key->revision};
		return;
	case KV_DELETE:
		effect->reply = (struct kv_reply){.status = KV_NOT_FOUND};
		if (key->revision == 0)
			return;
		key->revision = 0;
		effect->changed = true;
		effect->reply = (struct kv_reply){.status = KV_OK, .revision = index};
		return;
	}
}

void model_apply(struct model *model, uint64_t index, const uint8_t *data, size_t size, struct model_effect *ret_effect)
{
	struct kv_command command;
	struct model_effect effect = {.reply = {.status = KV_BAD_COMMAND}};
	*ret_effect = effect;
	if (kv_command_decode(data, size, &command) != KV_DECODE_OK)
		return;
	effect.session = command.session;
	effect.sequence = command.sequence;
	struct model_session *session = command.session != 0 ? model_session(model, command.session) : NULL;
	if (command.session == 0) {
		model_operate(model, index, &command, &effect);
	} else if (session == NULL) {
		effect.reply = (struct kv_reply){.status = KV_NO_SESSION};
	} else {
		session->used = index;
		model_release(session, command.acknowledged);
		if (model_admit(session, &command, &effect.reply)) {
			model_operate(model, index, &command, &effect);
			model_keep(session, command.sequence, effect.reply);
		}
	}
	if (command.key_size > 0) {
		const struct model_key *key = model_key(model, &command);
		effect.revision = key->revision;
		effect.value = key->revision > 0 ? key->value : 0;
	}
	*ret_effect = effect;
}
