/*
 * Snapshots: taking one, dropping it, walking its keys. See store.h; its bytes are in snapshot_stream.c.
 *
 * A snapshot is a reference to the root of the tree, and a copy of the table of sessions whose rings of replies are
 * shared. The copy is bounded by KV_SESSIONS_MAX, whatever the sessions keep.
 */
#include "kv/state.h"

#include <stdlib.h>

struct kv_snapshot *kv_store_snapshot(struct kv_store *store)
{
	uint32_t count = store->sessions.count;
	struct kv_snapshot *snapshot = malloc(sizeof(*snapshot) + count * sizeof(snapshot->sessions[0]));

	if (snapshot == NULL)
		return NULL;
	snapshot->root = store->tree.root == NULL ? NULL : kv_node_ref(store->tree.root);
	snapshot->applied = store->applied;
	snapshot->hash = kv_store_hash(store);
	snapshot->keys = store->keys;
	snapshot->record_bytes = store->keys * KV_RECORD_IMAGE_OFFSET_KEY + store->key_bytes + store->value_bytes;
	snapshot->kept_replies = 0;
	snapshot->session_count = count;
	kv_sessions_copy(&store->sessions, snapshot->sessions);
	for (uint32_t i = 0; i < count; i++)
		snapshot->kept_replies += kv_session_image_kept(&snapshot->sessions[i]);
	return snapshot;
}

struct kv_snapshot *kv_snapshot_free(struct kv_snapshot *snapshot)
{
	if (snapshot != NULL) {
		kv_node_unref(snapshot->root);
		kv_session_images_drop(snapshot->sessions, snapshot->session_count);
		free(snapshot);
	}
	return NULL;
}

uint64_t kv_snapshot_applied(const struct kv_snapshot *snapshot)
{
	return snapshot->applied;
}

uint64_t kv_snapshot_hash(const struct kv_snapshot *snapshot)
{
	return snapshot->hash;
}

void kv_snapshot_walk(const struct kv_snapshot *snapshot, const uint8_t *from, size_t from_size, bool after,
		      bool (*visit)(void *arg, const struct kv_item *item), void *arg)
{
	struct kv_path path;
	bool more;

	kv_tree_seek(snapshot->root, from, from_size, &path);
	more = after && path.found ? kv_path_next(&path) : kv_path_settle(&path);
	for (; more; more = kv_path_next(&path)) {
		const struct kv_record *record = kv_path_record(&path);
		struct kv_item item = {
			.key = kv_record_key(record),
			.key_size = (uint16_t)kv_record_key_size(record),
			.value = kv_record_value(record),
			.value_size = kv_record_value_size(record),
			.revision = kv_record_revision(record),
		};

		if (!visit(arg, &item))
			return;
	}
}
