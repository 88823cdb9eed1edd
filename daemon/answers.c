/* See answers.h. */
#include "answers.h"

#include "daemon/assert.h"

#include <string.h>

_Static_assert(KV_ENDPOINT_MAX == REPLICATOR_ENDPOINT_MAX && KV_MEMBERS_MAX == RAFT_MEMBERS_MAX,
	       "what the replicator knows fits what clients are told");
_Static_assert((int)KV_MEMBER_VOTER == (int)REPLICATOR_VOTER && (int)KV_MEMBER_LEARNER == (int)REPLICATOR_LEARNER &&
		       (int)KV_MEMBER_JOINING == (int)REPLICATOR_JOINING,
	       "the same numbers");

void answers_status(const struct replicator_status *status, const struct kv_store *store,
		    struct kv_member_status *ret_answer)
{
	struct kv_stats stats;
	kv_store_stats(store, &stats);
	*ret_answer = (struct kv_member_status){
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
		.state_hash = kv_store_hash(store),
		.keys = stats.keys,
		.store_bytes = stats.memory_bytes,
		.sessions = stats.sessions,
		.flushes = status->flushes,
		.flushed_entries = status->flushed_entries,
		.flushed_bytes = status->flushed_bytes,
		.sync_us_total = status->sync_us_total,
		.sync_us_max = status->sync_us_max,
		.entries_proposed = status->proposals,
		.elections = status->elections,
		.level = status->level,
		.level_max = status->level_max,
		.disk_bytes = status->disk_bytes,
		.snapshot_index = status->snapshot_index,
		.snapshot_bytes = status->snapshot_bytes,
		.lease = status->lease,
		.lease_us = status->lease_us,
		.leased_reads = status->leased_reads,
	};
}

void answers_membership(const struct replicator_membership *membership, struct kv_membership *ret_answer)
{
	*ret_answer = (struct kv_membership){.index = membership->index,
					     .committed = membership->committed,
					     .count = membership->n_members};
	for (unsigned k = 0; k < membership->n_members; k++) {
		ret_answer->members[k].id = membership->members[k].id;
		ret_answer->members[k].role = (uint8_t)membership->members[k].role;
		ret_answer->members[k].incarnation = membership->members[k].incarnation;
		memcpy(ret_answer->members[k].peer, membership->members[k].peer, sizeof ret_answer->members[k].peer);
		memcpy(ret_answer->members[k].client, membership->members[k].client,
		       sizeof ret_answer->members[k].client);
	}
}

void answers_beats(const struct replicator_beat *beats, unsigned n, struct kv_beats *answer)
{
	raft_assert(n <= KV_BEATS_MAX);
	answer->count = n;
	for (unsigned k = 0; k < n; k++) {
		struct kv_beat *to = &answer->beats[k];
		*to = (struct kv_beat){.number = beats[k].number,
				       .term = beats[k].term,
				       .age_us = beats[k].age_us,
				       .quorum = beats[k].quorum,
				       .quorum_us = beats[k].quorum_us,
				       .n_answers = beats[k].n_answers};
		for (unsigned j = 0; j < beats[k].n_answers; j++) {
			to->answers[j].id = beats[k].answers[j].id;
			to->answers[j].after_us = beats[k].answers[j].after_us;
		}
	}
}

/* The log ---------------------------------------------------------------------------------------------- */

size_t answers_log_size(const struct raft_entry *entries, uint32_t n)
{
	size_t size = KV_LOG_PAGE_HEADER_SIZE;
	for (uint32_t k = 0; k < n; k++)
		size += KV_LOG_ITEM_SIZE(entries[k].size);
	return size;
}

void answers_log_write(const struct kv_log_page *page, const struct raft_entry *entries, uint8_t *data)
{
	kv_log_page_encode(data, page);
	data += KV_LOG_PAGE_HEADER_SIZE;
	for (uint32_t k = 0; k < page->count; k++) {
		const struct kv_log_item item = {.index = page->first + k,
						 .term = entries[k].term,
						 .time_ms = entries[k].time_ms,
						 .type = entries[k].type,
						 .data = entries[k].data,
						 .size = entries[k].size};
		kv_log_item_encode(data, &item);
		data += KV_LOG_ITEM_SIZE(item.size);
	}
}

/* The store -------------------------------------------------------------------------------------------- */

struct measure {
	size_t size, size_max;
	uint32_t count;
	bool more;
};

struct writing {
	uint32_t left;
	uint8_t *cursor;
};

static bool measure_item(void *arg, const struct kv_item *item)
{
	struct measure *measure = arg;
	size_t size = KV_DUMP_ITEM_SIZE(item->key_size, item->value_size);
	measure->more = measure->count > 0 && measure->size + size > measure->size_max;
	if (measure->more)
		return false;
	measure->size += size;
	measure->count++;
	return true;
}

static bool write_item(void *arg, const struct kv_item *item)
{
	struct writing *writing = arg;
	if (writing->left == 0)
		return false;
	kv_dump_item_encode(writing->cursor, item);
	writing->cursor += KV_DUMP_ITEM_SIZE(item->key_size, item->value_size);
	writing->left--;
	return true;
}

static void walk(const struct kv_snapshot *snapshot, const struct kv_dump_request *request,
		 bool (*visit)(void *arg, const struct kv_item *item), void *arg)
{
	kv_snapshot_walk(snapshot, request->key, request->key_size, (request->flags & KV_DUMP_AFTER) != 0, visit, arg);
}

size_t answers_dump_measure(const struct kv_snapshot *snapshot, const struct kv_dump_request *request, size_t size_max,
			    struct kv_dump_page *ret_page)
{
	struct measure measure = {.size = KV_DUMP_PAGE_HEADER_SIZE, .size_max = size_max};
	walk(snapshot, request, measure_item, &measure);
	*ret_page = (struct kv_dump_page){.applied = kv_snapshot_applied(snapshot),
					  .hash = kv_snapshot_hash(snapshot),
					  .more = measure.more,
					  .count = measure.count};
	return measure.size;
}

void answers_dump_write(const struct kv_snapshot *snapshot, const struct kv_dump_request *request,
			const struct kv_dump_page *page, uint8_t *data, size_t size)
{
	struct writing writing = {.left = page->count, .cursor = data + KV_DUMP_PAGE_HEADER_SIZE};
	kv_dump_page_encode(data, page);
	walk(snapshot, request, write_item, &writing);
	raft_assert(writing.left == 0 && writing.cursor == data + size);
}
