/*
 * The store as the replicator's state machine, as far as it is written out and loaded whole: snapshots. Commands are
 * applied in requests.c, where their clients wait.
 */
#include "server.h"

#include "daemon/assert.h"
#include "daemon/service/service.h"
#include "kv/snapshot_stream.h"

#include <errno.h>
#include <stdlib.h>

/* What snapshot_take hands out. */
struct state_snapshot {
	struct kv_snapshot *snapshot;
	struct kv_snapshot_stream *stream;
};

void server_snapshot_free(void *arg, void *opaque)
{
	struct state_snapshot *taken = opaque;
	(void)arg;
	if (taken == NULL)
		return;
	kv_snapshot_stream_free(taken->stream);
	kv_snapshot_free(taken->snapshot);
	free(taken);
}

void *server_snapshot_take(void *arg)
{
	struct server *server = arg;
	struct state_snapshot *taken = calloc(1, sizeof *taken);
	if (taken == NULL)
		return NULL;
	taken->snapshot = kv_store_snapshot(server->store);
	taken->stream = taken->snapshot != NULL ? kv_snapshot_stream_new(taken->snapshot) : NULL;
	if (taken->stream != NULL)
		return taken;
	server_snapshot_free(arg, taken);
	return NULL;
}

size_t server_snapshot_read(void *arg, void *opaque, uint8_t *buf, size_t capacity)
{
	struct state_snapshot *taken = opaque;
	(void)arg;
	return kv_snapshot_stream_read(taken->stream, buf, capacity);
}

/* Loading ---------------------------------------------------------------------------------------------- */

/* What was applied is in it, and nothing from behind its entry. */
int server_restore_begin(void *arg, uint64_t index)
{
	struct server *server = arg;
	struct kv_stats stats;
	raft_assert(server->loader == NULL);
	server->loader = kv_store_load_new();
	if (server->loader == NULL)
		return -ENOMEM;
	kv_store_stats(server->store, &stats);
	kv_store_load_between(server->loader, stats.applied, index);
	return 0;
}

/* Says in the journal what the errno cannot: which rule the bytes break, and where. */
static int refuse(struct server *server, int result)
{
	service_log(2, "snapshot-refused", "the snapshot's bytes are refused at %llu: %s",
		    (unsigned long long)kv_store_load_offset(server->loader), kv_load_result_name(result));
	return result == KV_LOAD_MEMORY ? -ENOMEM : result == KV_LOAD_VERSION ? -EPROTONOSUPPORT : -EBADMSG;
}

int server_restore_feed(void *arg, const uint8_t *buf, size_t len)
{
	struct server *server = arg;
	int r = kv_store_load_feed(server->loader, buf, len);
	return r == KV_LOAD_OK ? 0 : refuse(server, r);
}

int server_restore_end(void *arg, bool success)
{
	struct server *server = arg;
	struct kv_store *store = NULL;
	int r = 0;
	if (success) {
		int loaded = kv_store_load_finish(server->loader, &store);
		if (loaded != KV_LOAD_OK)
			r = refuse(server, loaded);
	}
	server->loader = kv_store_load_free(server->loader);
	if (store != NULL) {
		kv_store_free(server->store);
		server->store = store;
		server->mark_index = server->mark_passed = 0; /* the state may have jumped over some */
	}
	return r;
}

uint64_t server_state_hash(void *arg)
{
	const struct server *server = arg;
	return kv_store_hash(server->store);
}
