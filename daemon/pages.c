/*
 * The long answers: a member's status, a page of its store, of its store's bytes, of its log.
 */
#include "server.h"

#include "daemon/assert.h"
#include "daemon/metrics/process.h"
#include "kv/admin.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t monotonic_ms(void)
{
	struct timespec now;
	int r = clock_gettime(CLOCK_MONOTONIC, &now);
	raft_assert(r == 0);
	return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

void server_answer_status(struct server *server, struct client *client, uint64_t id)
{
	struct kv_stats store;
	replicator_get_status(server->replicator, &server->status, sizeof server->status);
	const struct replicator_status *status = &server->status;
	kv_store_stats(server->store, &store);
	struct replicator_metrics metrics;
	replicator_get_metrics(server->replicator, &metrics, sizeof metrics);
	struct kv_member_status answer = {
		.id = status->id,
		.incarnation = status->incarnation,
		.role = status->role,
		.leader = status->leader,
		.term = status->term,
		.commit = status->commit,
		.applied = status->applied,
		.last = status->last_index,
		.durable = status->durable_index,
		.first = status->first_index,
		.state_hash = kv_store_hash(server->store),
		.rss_bytes = metrics_resident_bytes(),
		.pid = (uint64_t)getpid(),
		.keys = store.keys,
		.store_bytes = store.memory_bytes,
		.sessions = store.sessions,
		.flushes = status->flushes,
		.flushed_entries = status->flushed_entries,
		.flushed_bytes = status->flushed_bytes,
		.sync_us_total = status->sync_us_total,
		.sync_us_max = status->sync_us_max,
		.uptime_ms = monotonic_ms() - server->started_ms,
		.members = server_count_members(server),
		.cpu_us = metrics_cpu_us(),
		.entries_proposed = status->proposals,
		.reads = server->reads_answered,
		.elections = status->elections,
		.mark_index = server->mark_index,
		.mark_hash = server->mark_hash,
		.level = status->level,
		.level_max = status->level_max,
		.version = kv_version_number(RAFT_KV_VERSION),
		.failed_checks = server_failed_checks(server),
		.alarms = server_alarms(server, &metrics),
		.disk_bytes = status->disk_bytes,
		.snapshot_index = status->snapshot_index,
		.snapshot_bytes = status->snapshot_bytes,
		.log_bytes = metrics.log_bytes_since_snapshot,
		.voters = metrics.n_voters,
		.lease = status->lease,
		.lease_us = status->lease_us,
		.leased_reads = status->leased_reads,
	};
	uint8_t *data = clients_answer_data(&server->clients, client, id, (uint32_t)KV_STATUS_SIZE);
	if (data != NULL)
		kv_status_encode(data, &answer);
}

/* A page of the store: first measured, then written, so that no buffer of unknown size is needed. */
struct dump {
	uint32_t count;
	size_t size; /* of the page so far */
	bool more;
	uint8_t *cursor; /* NULL while measuring */
	uint32_t left;	 /* while writing */
};

static bool dump_measure(void *arg, const struct kv_item *item)
{
	struct dump *dump = arg;
	size_t size = KV_DUMP_ITEM_SIZE(item->key_size, item->value_size);
	if (dump->count > 0 && dump->size + size > KV_PAGE_SIZE_MAX) {
		dump->more = true;
		return false;
	}
	dump->size += size;
	dump->count++;
	return true;
}

static bool dump_write(void *arg, const struct kv_item *item)
{
	struct dump *dump = arg;
	if (dump->left == 0)
		return false;
	kv_dump_item_encode(dump->cursor, item);
	dump->cursor += KV_DUMP_ITEM_SIZE(item->key_size, item->value_size);
	dump->left--;
	return true;
}

/* The snapshot that a page is of: the one of the page before, or a new one. NULL: the client was told why not. */
static const struct kv_snapshot *pin(struct server *server, struct client *client, uint64_t id, uint64_t applied)
{
	const struct kv_snapshot *snapshot = applied == 0 ? kv_pins_take(&server->pins, server->store)
							  : kv_pins_find(&server->pins, server->store, applied);
	if (snapshot == NULL)
		clients_answer_plain(&server->clients, client, id, applied == 0 ? KV_ANSWER_BUSY : KV_ANSWER_NOT_FOUND,
				     0, false);
	return snapshot;
}

void server_answer_dump(struct server *server, struct client *client, const struct kv_frame_item *item)
{
	struct kv_dump_request request;
	if (!kv_dump_decode(item->body, item->size, &request)) {
		clients_answer_plain(&server->clients, client, item->id, KV_ANSWER_BAD_REQUEST, 0, false);
		return;
	}
	const struct kv_snapshot *snapshot = pin(server, client, item->id, request.applied);
	if (snapshot == NULL)
		return;
	bool after = (request.flags & KV_DUMP_AFTER) != 0;
	struct dump dump = {.size = KV_DUMP_PAGE_HEADER_SIZE};
	kv_snapshot_walk(snapshot, request.key, request.key_size, after, dump_measure, &dump);
	struct kv_dump_page page = {.applied = kv_snapshot_applied(snapshot),
				    .hash = kv_snapshot_hash(snapshot),
				    .more = dump.more,
				    .count = dump.count};
	uint8_t *data = clients_answer_data(&server->clients, client, item->id, (uint32_t)dump.size);
	if (data == NULL)
		return;
	kv_dump_page_encode(data, &page);
	dump.cursor = data + KV_DUMP_PAGE_HEADER_SIZE;
	dump.left = dump.count;
	kv_snapshot_walk(snapshot, request.key, request.key_size, after, dump_write, &dump);
	raft_assert(dump.left == 0 && dump.cursor == data + dump.size);
}

static uint8_t answer_from_pins(int result)
{
	switch ((enum kv_pins_result)result) {
	case KV_PINS_OK:
		return KV_ANSWER_OK;
	case KV_PINS_GONE:
		return KV_ANSWER_NOT_FOUND;
	case KV_PINS_AGAIN:
	case KV_PINS_MEMORY:
		break;
	}
	return KV_ANSWER_BUSY;
}

void server_answer_backup(struct server *server, struct client *client, const struct kv_frame_item *item)
{
	struct kv_backup_request request;
	if (!kv_backup_decode(item->body, item->size, &request) || (request.pin == 0 && request.offset != 0)) {
		clients_answer_plain(&server->clients, client, item->id, KV_ANSWER_BAD_REQUEST, 0, false);
		return;
	}
	const struct kv_snapshot *snapshot = pin(server, client, item->id, request.pin);
	if (snapshot == NULL)
		return;
	size_t capacity = request.size < KV_PAGE_SIZE_MAX ? request.size : KV_PAGE_SIZE_MAX;
	size_t size = 0;
	struct kv_answer_body answer = {
		.answer = KV_ANSWER_BUSY, .number = kv_snapshot_applied(snapshot), .term = server->status.term};
	uint8_t *data = malloc(KV_BACKUP_DATA_HEADER_SIZE + capacity);
	if (data != NULL)
		answer.answer =
			answer_from_pins(kv_pins_read(&server->pins, server->store, answer.number, request.offset,
						      data + KV_BACKUP_DATA_HEADER_SIZE, capacity, &size));
	if (answer.answer == KV_ANSWER_OK) {
		uint64_t total = htole64(kv_snapshot_stream_size(snapshot));
		memcpy(data, &total, sizeof total);
		answer.data = data;
		answer.size = (uint32_t)(KV_BACKUP_DATA_HEADER_SIZE + size);
	}
	clients_answer(&server->clients, client, item->id, &answer, false);
	free(data);
}

#define LOG_PAGE_ENTRIES_MAX 4096u

static size_t log_page_size(const struct raft_entry *entries, uint32_t n)
{
	size_t size = KV_LOG_PAGE_HEADER_SIZE;
	for (uint32_t k = 0; k < n; k++)
		size += KV_LOG_ITEM_SIZE(entries[k].size);
	return size;
}

static void log_page_write(uint8_t *data, const struct kv_log_page *page, const struct raft_entry *entries)
{
	kv_log_page_encode(data, page);
	data += KV_LOG_PAGE_HEADER_SIZE;
	for (uint32_t k = 0; k < page->count; k++) {
		struct kv_log_item item = {.index = page->first + k,
					   .term = entries[k].term,
					   .time_ms = entries[k].time_ms,
					   .type = entries[k].type,
					   .data = entries[k].data,
					   .size = entries[k].size};
		kv_log_item_encode(data, &item);
		data += KV_LOG_ITEM_SIZE(item.size);
	}
}

void server_answer_log(struct server *server, struct client *client, const struct kv_frame_item *item)
{
	uint64_t first;
	uint32_t max;
	uint32_t n = 0;
	struct raft_entry *entries = malloc(LOG_PAGE_ENTRIES_MAX * sizeof *entries);
	if (entries == NULL || !kv_log_decode(item->body, item->size, &first, &max)) {
		clients_answer_plain(&server->clients, client, item->id,
				     entries == NULL ? KV_ANSWER_BUSY : KV_ANSWER_BAD_REQUEST, 0, false);
		free(entries);
		return;
	}
	replicator_get_status(server->replicator, &server->status, sizeof server->status);
	if (first < server->status.first_index)
		first = server->status.first_index;
	if (max > LOG_PAGE_ENTRIES_MAX)
		max = LOG_PAGE_ENTRIES_MAX;
	if (replicator_read_log(server->replicator, first, entries, max, KV_PAGE_SIZE_MAX / 2, &n) == 0) {
		struct kv_log_page page = {
			.last = server->status.last_index, .commit = server->status.commit, .first = first, .count = n};
		uint8_t *data =
			clients_answer_data(&server->clients, client, item->id, (uint32_t)log_page_size(entries, n));
		if (data != NULL)
			log_page_write(data, &page, entries);
	} else {
		clients_answer_plain(&server->clients, client, item->id, KV_ANSWER_BUSY, 0, false);
	}
	free(entries);
}
