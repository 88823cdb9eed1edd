/*
 * A store under random commands, for the tests of snapshots: everything that apply knows is used, and what the commands
 * are depends on a seed and on no reply, so that two stores can be given the same.
 */
#ifndef TESTS_KV_WORLD_H
#define TESTS_KV_WORLD_H

#include "kv/snapshot_stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define WORLD_SESSIONS_MAX 6000u

struct world {
	struct kv_store *stores[2]; /* the second may be NULL */
	uint64_t seed;
	uint64_t index;
	unsigned keys; /* of so many different keys one is picked */
	struct {
		uint64_t id;
		uint64_t last; /* as far as this client counted */
		uint64_t acknowledged;
	} sessions[WORLD_SESSIONS_MAX];
	unsigned session_count;
};

static inline uint64_t world_random(struct world *world)
{
	world->seed ^= world->seed << 13;
	world->seed ^= world->seed >> 7;
	world->seed ^= world->seed << 17;
	return world->seed;
}

static inline unsigned world_pick(struct world *world, unsigned below)
{
	return (unsigned)((world_random(world) >> 20) % below);
}

/* Gives the entry to the stores, who must say the same. */
static inline struct kv_reply world_apply(struct world *world, const struct kv_command *command)
{
	size_t size = kv_command_size(command);
	uint8_t *bytes = malloc(size);
	struct kv_reply reply, second;

	assert_non_null(bytes);
	kv_command_encode(command, bytes);
	world->index += command->sequence % 3 == 1 ? 2 : 1; /* entries of other types lie between */
	reply = kv_store_apply(world->stores[0], world->index, 0, bytes, size);
	if (world->stores[1] != NULL) {
		second = kv_store_apply(world->stores[1], world->index, 0, bytes, size);
		assert_int_equal(reply.status, second.status);
		assert_int_equal(reply.revision, second.revision);
		assert_true(kv_store_hash(world->stores[0]) == kv_store_hash(world->stores[1]));
	}
	free(bytes);
	return reply;
}

static inline void world_register(struct world *world)
{
	struct kv_reply reply = world_apply(world, &(struct kv_command){.operation = KV_REGISTER});

	assert_int_equal(reply.status, KV_OK);
	assert_true(world->session_count < WORLD_SESSIONS_MAX);
	world->sessions[world->session_count].id = reply.revision;
	world->sessions[world->session_count].last = 0;
	world->sessions[world->session_count++].acknowledged = 1;
}

/* The next request of a session mostly, else one that was sent before or comes too early. */
static inline void world_number(struct world *world, struct kv_command *command)
{
	unsigned i = world_pick(world, world->session_count), kind = world_pick(world, 10);
	uint64_t last = world->sessions[i].last;

	command->session = world->sessions[i].id;
	if (world_pick(world, 8) == 0)
		world->sessions[i].acknowledged = 1 + world_random(world) % (last + 1);
	command->acknowledged = world->sessions[i].acknowledged;
	if (kind < 7)
		command->sequence = ++world->sessions[i].last;
	else if (kind < 9 || last == 0)
		command->sequence = 1 + world_random(world) % (last + 1);
	else
		command->sequence = last + 2;
	if (command->sequence == last + 1)
		world->sessions[i].last = last + 1;
}

static inline void world_step(struct world *world)
{
	uint8_t key[40], value[600];
	unsigned kind = world_pick(world, 16), number = world_pick(world, world->keys);
	struct kv_command command = {.operation = KV_PUT, .key = key, .value = value};

	command.key_size = (uint16_t)snprintf((char *)key, sizeof(key), "%s%u", number % 3 == 0 ? "user:profile:" : "",
					      number * 7919u);
	command.value_size = world_pick(world, world_pick(world, 8) == 0 ? sizeof(value) : 40);
	memset(value, (int)(world->index & 0xff), sizeof(value));
	if (kind < 5)
		command.operation = KV_DELETE;
	else if (kind < 7)
		command.operation = KV_NOTHING;
	else if (kind < 9)
		command.operation = KV_CAS;
	if (command.operation == KV_CAS)
		command.expected = world_pick(world, 2) == 0 ? 0 : 1 + world_random(world) % (world->index + 1);
	if (command.operation == KV_DELETE || command.operation == KV_NOTHING)
		command.value_size = 0;
	if (command.operation == KV_NOTHING)
		command.key_size = 0;
	if (world->session_count > 0 && world_pick(world, 4) > 0)
		world_number(world, &command);
	(void)world_apply(world, &command);
}

static inline void world_begin(struct world *world, uint64_t seed, unsigned keys, unsigned sessions, unsigned steps)
{
	*world = (struct world){.seed = seed * 0x9e3779b97f4a7c15u + 1, .keys = keys};
	world->stores[0] = kv_store_new();
	assert_non_null(world->stores[0]);
	for (unsigned i = 0; i < sessions; i++)
		world_register(world);
	for (unsigned i = 0; i < steps; i++)
		world_step(world);
}

static inline void world_end(struct world *world)
{
	for (unsigned i = 0; i < 2; i++) {
		if (world->stores[i] != NULL)
			kv_store_check(world->stores[i]);
		kv_store_free(world->stores[i]);
	}
}

struct bytes {
	uint8_t *data;
	size_t size;
};

/* The whole stream of a snapshot, read in blocks of one size. */
static inline struct bytes stream_of(const struct kv_snapshot *snapshot, size_t block)
{
	struct bytes bytes = {.data = malloc(kv_snapshot_stream_size(snapshot) + block)};
	struct kv_snapshot_stream *stream = kv_snapshot_stream_new(snapshot);
	size_t n;

	assert_non_null(bytes.data);
	assert_non_null(stream);
	do {
		n = kv_snapshot_stream_read(stream, bytes.data + bytes.size, block);
		bytes.size += n;
		assert_true(bytes.size <= kv_snapshot_stream_size(snapshot));
	} while (n == block);
	assert_int_equal(bytes.size, kv_snapshot_stream_size(snapshot));
	assert_int_equal(kv_snapshot_stream_read(stream, bytes.data + bytes.size, block), 0);
	assert_null(kv_snapshot_stream_free(stream));
	return bytes;
}

static inline struct bytes bytes_of(struct kv_store *store)
{
	struct kv_snapshot *snapshot = kv_store_snapshot(store);
	struct bytes bytes;

	assert_non_null(snapshot);
	bytes = stream_of(snapshot, 65536);
	assert_null(kv_snapshot_free(snapshot));
	return bytes;
}

static inline void assert_bytes_equal(struct bytes one, struct bytes other)
{
	assert_int_equal(one.size, other.size);
	assert_memory_equal(one.data, other.data, one.size);
}

/* Feeds the bytes in blocks of one size, in memory of just this size each. */
static inline int try_load(struct bytes bytes, size_t block, struct kv_store **ret_store, uint64_t *ret_offset)
{
	struct kv_store_loader *loader = kv_store_load_new();
	uint8_t *part = malloc(block);
	struct kv_store *store = NULL;
	int r = KV_LOAD_OK;

	assert_non_null(loader);
	assert_non_null(part);
	for (size_t at = 0; at < bytes.size && r == KV_LOAD_OK; at += block) {
		size_t n = bytes.size - at < block ? bytes.size - at : block;

		memcpy(part + block - n, bytes.data + at, n);
		r = kv_store_load_feed(loader, part + block - n, n);
	}
	if (r == KV_LOAD_OK)
		r = kv_store_load_finish(loader, &store);
	else
		assert_int_equal(kv_store_load_finish(loader, &store), r);
	assert_non_null(kv_load_result_name(r));
	*ret_offset = kv_store_load_offset(loader);
	*ret_store = store;
	assert_int_equal(r == KV_LOAD_OK, store != NULL);
	assert_null(kv_store_load_free(loader));
	free(part);
	return r;
}

static inline struct kv_store *load(struct bytes bytes, size_t block)
{
	struct kv_store *store;
	uint64_t offset;

	assert_int_equal(try_load(bytes, block, &store, &offset), KV_LOAD_OK);
	assert_int_equal(offset, bytes.size);
	kv_store_check(store);
	return store;
}

#endif
