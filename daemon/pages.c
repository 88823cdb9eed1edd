/*
 * The long answers: a member's status, a page of its store, of its store's bytes, of its log.
 */
#include "answers.h"
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
	replicator_get_status(server->replicator, &server->status, sizeof server->status);
	const struct replicator_status *status = &server->status;
	struct replicator_metrics metrics;
	replicator_get_metrics(server->replicator, &metrics, sizeof metrics);
	struct kv_member_status answer;
	answers_status(status, server->store, &answer);
	answer.rss_bytes = metrics_resident_bytes();
	answer.pid = (uint64_t)getpid();
	answer.uptime_ms = monotonic_ms() - server->started_ms;
	answer.cpu_us = metrics_cpu_us();
	answer.members = server_count_members(server);
	answer.voters = metrics.n_voters;
	answer.reads = server->reads_answered;
	answer.mark_index = server->mark_index;
	answer.mark_hash = server->mark_hash;
	answer.version = kv_version_number(RAFT_KV_VERSION);
	answer.failed_checks = server_failed_checks(server);
	answer.alarms = server_alarms(server, &metrics);
	answer.log_bytes = metrics.log_bytes_since_snapshot;
	uint8_t *data = clients_answer_data(&server->clients, client, id, (uint32_t)KV_STATUS_SIZE);
	if (data != NULL)
		kv_status_encode(data, &answer);
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
	struct kv_dump_page page;
	size_t size = answers_dump_measure(snapshot, &request, KV_PAGE_SIZE_MAX, &page);
	uint8_t *data = clients_answer_data(&server->clients, client, item->id, (uint32_t)size);
	if (data != NULL)
		answers_dump_write(snapshot, &request, &page, data, size);
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
			clients_answer_data(&server->clients, client, item->id, (uint32_t)answers_log_size(entries, n));
		if (data != NULL)
			answers_log_write(&page, entries, data);
	} else {
		clients_answer_plain(&server->clients, client, item->id, KV_ANSWER_BUSY, 0, false);
	}
	free(entries);
}
