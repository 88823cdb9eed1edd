/*
 * A second store, written from kv/store.h and kv/command.h alone and as simple as possible: what the real one answers is
 * compared with what this one does. Slow where slow is simpler; knows nothing of the real store's insides.
 */
#ifndef RAFT_KV_SIM_MODEL_H
#define RAFT_KV_SIM_MODEL_H

#include "kv/store.h"

/* What applying an entry must answer, and what it leaves behind at the key that it names. */
struct model_effect {
	struct kv_reply reply;
	bool changed;	   /* the key was written or removed by this very entry */
	uint64_t session;  /* of the command; 0: none */
	uint64_t sequence; /* of the command */
	uint64_t revision; /* of the key afterwards; 0: there is no such key */
	uint64_t value;	   /* hash of its value */
};

struct model;

struct model *model_new(void);
struct model *model_free(struct model *model); /* NULL is fine; returns NULL */
void model_apply(struct model *model, uint64_t index, const uint8_t *data, size_t size,
		 struct model_effect *ret_effect);
uint64_t model_sessions(const struct model *model);
/* Calls visit for every key that there is; value: its hash. */
void model_each_key(const struct model *model,
		    void (*visit)(void *arg, const uint8_t *key, uint16_t key_size, uint64_t revision, uint64_t value),
		    void *arg);
uint64_t model_hash(const void *value, size_t size);

#endif
