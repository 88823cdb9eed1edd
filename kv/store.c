/*
 * The replicated state machine: applies commands to the tree and the sessions. See store.h;
 * snapshots are in snapshot.c.
 *
 * Everything here is a function of the entries applied so far. No clock, no randomness, no address decides anything.
 */
#include "kv/store.h"

#include "daemon/assert.h"
#include "kv/state.h"

#include <stdlib.h>

const char *kv_status_name(uint8_t status)
{
	static const char *const names[] = {
		[KV_OK] = "ok",
		[KV_NOT_FOUND] = "not_found",
		[KV_CAS_MISMATCH] = "cas_mismatch",
		[KV_NO_SESSION] = "no_session",
		[KV_OUT_OF_ORDER] = "out_of_order",
		[KV_ALREADY_ACKNOWLEDGED] = "already_acknowledged",
		[KV_BAD_COMMAND] = "bad_command",
		[KV_WINDOW_FULL] = "window_full",
	};

	_Static_assert(sizeof(names) / sizeof(names[0]) == KV_WINDOW_FULL + 1, "each has a name");
	return status < sizeof(names) / sizeof(names[0]) ? names[status] : NULL;
}

struct kv_store *kv_store_new(void)
{
	struct kv_store *store = calloc(1, sizeof(*store));

	if (store != NULL)
		kv_sessions_init(&store->sessions);
	return store;
}

struct kv_store *kv_store_free(struct kv_store *store)
{
	if (store != NULL) {
		kv_node_unref(store->tree.root);
		kv_sessions_fini(&store->sessions);
		free(store);
	}
	return NULL;
}

/* Applying --------------------------------------------------------------------------------------------- */

/* Takes a record out of the totals before it changes or goes. */
static void discount(struct kv_store *store, const struct kv_record *record)
{
	raft_assert(store->keys > 0);
	raft_assert(store->value_bytes >= kv_record_value_size(record));
	store->keys--;
	store->key_bytes -= kv_record_key_size(record);
	store->value_bytes -= kv_record_value_size(record);
	store->hash -= kv_record_hash(record);
}

static struct kv_reply put_at(struct kv_store *store, struct kv_path *path, uint64_t index,
			      const struct kv_command *command)
{
	const struct kv_record *record;

	if (path->found)
		discount(store, kv_path_record(path));
	record = kv_tree_put(&store->tree, path, command->key, command->key_size, command->value, command->value_size,
			     index);
	kv_store_count(store, record);
	return (struct kv_reply){.status = KV_OK, .revision = index};
}

static struct kv_reply apply_put(struct kv_store *store, uint64_t index, const struct kv_command *command)
{
	struct kv_path path;

	kv_tree_seek(store->tree.root, command->key, command->key_size, &path);
	return put_at(store, &path, index, command);
}

static struct kv_reply apply_cas(struct kv_store *store, uint64_t index, const struct kv_command *command)
{
	struct kv_path path;
	uint64_t current;

	kv_tree_seek(store->tree.root, command->key, command->key_size, &path);
	current = path.found ? kv_record_revision(kv_path_record(&path)) : 0;
	if (current != command->expected)
		return (struct kv_reply){.status = KV_CAS_MISMATCH, .revision = current};
	return put_at(store, &path, index, command);
}

static struct kv_reply apply_delete(struct kv_store *store, uint64_t index, const struct kv_command *command)
{
	struct kv_path path;

	kv_tree_seek(store->tree.root, command->key, command->key_size, &path);
	if (!path.found)
		return (struct kv_reply){.status = KV_NOT_FOUND};
	discount(store, kv_path_record(&path));
	kv_tree_remove(&store->tree, &path);
	return (struct kv_reply){.status = KV_OK, .revision = index};
}

static struct kv_reply apply_operation(struct kv_store *store, uint64_t index, const struct kv_command *command)
{
	switch ((enum kv_operation)command->operation) {
	case KV_REGISTER:
		kv_sessions_register(&store->sessions, index);
		return (struct kv_reply){.status = KV_OK, .revision = index};
	case KV_PUT:
		return apply_put(store, index, command);
	case KV_DELETE:
		return apply_delete(store, index, command);
	case KV_CAS:
		return apply_cas(store, index, command);
	case KV_NOTHING:
		break;
	}
	raft_assert(command->operation == KV_NOTHING); /* the decoder lets no other through */
	return (struct kv_reply){.status = KV_OK};
}

struct kv_reply kv_store_apply(struct kv_store *store, uint64_t index, uint64_t time_ms, const uint8_t *command,
			       size_t size)
{
	struct kv_command decoded;
	struct kv_session *session = NULL;
	struct kv_reply reply;

	(void)time_ms; /* no command depends on the time yet */
	raft_assert(index > store->applied);
	raft_assert(index <= KV_REVISION_MAX);
	store->applied = index;
	if (kv_command_decode(command, size, &decoded) != KV_DECODE_OK)
		return (struct kv_reply){.status = KV_BAD_COMMAND};
	/* Without a session nothing protects a request from taking effect twice: the sender's choice. */
	if (decoded.session == 0)
		return apply_operation(store, index, &decoded);
	if (!kv_sessions_admit(&store->sessions, index, &decoded, &session, &reply))
		return reply;
	reply = apply_operation(store, index, &decoded);
	kv_sessions_complete(&store->sessions, session, &reply);
	return reply;
}

/* Reading ---------------------------------------------------------------------------------------------- */

bool kv_store_get(const struct kv_store *store, const uint8_t *key, size_t key_size, struct kv_value *ret_value)
{
	const struct kv_record *record = kv_tree_find(store->tree.root, key, key_size);

	if (record == NULL)
		return false;
	*ret_value = (struct kv_value){
		.data = kv_record_value(record),
		.size = kv_record_value_size(record),
		.revision = kv_record_revision(record),
	};
	return true;
}

uint64_t kv_store_hash(const struct kv_store *store)
{
	return store->hash + store->sessions.hash;
}

void kv_store_stats(const struct kv_store *store, struct kv_stats *ret_stats)
{
	*ret_stats = (struct kv_stats){
		.keys = store->keys,
		.key_bytes = store->key_bytes,
		.value_bytes = store->value_bytes,
		.memory_bytes = sizeof(*store) + store->tree.memory + store->sessions.memory,
		.nodes = store->tree.nodes,
		.sessions = store->sessions.count,
		.applied = store->applied,
	};
}

/* Self-check --------------------------------------------------------------------------------------------- */

static void check_totals(const struct kv_store *store)
{
	struct kv_store totals = {.keys = 0};
	struct kv_path path;

	kv_tree_seek(store->tree.root, NULL, 0, &path);
	for (bool more = kv_path_settle(&path); more; more = kv_path_next(&path)) {
		const struct kv_record *record = kv_path_record(&path);

		raft_assert(kv_record_revision(record) > 0 && kv_record_revision(record) <= store->applied);
		kv_store_count(&totals, record);
	}
	raft_assert(totals.keys == store->keys);
	raft_assert(totals.key_bytes == store->key_bytes);
	raft_assert(totals.value_bytes == store->value_bytes);
	raft_assert(totals.hash == store->hash);
}

void kv_store_check(const struct kv_store *store)
{
	kv_tree_check(&store->tree);
	kv_sessions_check(&store->sessions);
	check_totals(store);
}
