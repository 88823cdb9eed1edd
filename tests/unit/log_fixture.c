/*
 * What the tests of the log share.  See log_fixture.h.
 */
#include "tests/unit/log_fixture.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define READ_MAX 256u

struct storage_options log_fixture_options(uint32_t segment_size)
{
	return (struct storage_options){
		.cluster_id = FIXTURE_CLUSTER,
		.member_id = FIXTURE_MEMBER,
		.incarnation = FIXTURE_INCARNATION,
		.segment_size = segment_size,
		.cache_bytes_max = 1024 * 1024,
	};
}

/* Fills buf, of the entry's size, with its data. */
struct raft_entry log_fixture_entry(const struct log_model *model, uint64_t index, uint8_t *buf)
{
	struct raft_entry entry = {
		.term = model->entries[index].term,
		.time_ms = model->entries[index].salt * 1000 + index,
		.type = index % 7 == 0 ? RAFT_ENTRY_NOOP : RAFT_ENTRY_COMMAND,
		.size = model->entries[index].size,
		.data = buf,
	};
	uint64_t state = index * 0x9e3779b97f4a7c15u + model->entries[index].salt;
	for (uint32_t i = 0; i < entry.size; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		buf[i] = (uint8_t)(state >> 56);
	}
	return entry;
}

void log_model_apply(struct log_model *model, const struct log_write *write)
{
	if (write->truncate_from > 0 && write->truncate_from <= model->last)
		model->last = write->truncate_from - 1;
	if (write->n_entries > 0 && write->first_index > 0)
		model->last = write->first_index - 1;
	raft_assert(model->last + write->n_entries <= MODEL_ENTRIES_MAX);
	for (uint32_t i = 0; i < write->n_entries; i++) {
		model->last++;
		model->entries[model->last].term = write->term;
		model->entries[model->last].salt = write->salt;
		model->entries[model->last].size = write->size;
	}
	model->term = write->term;
	model->vote = write->vote;
	model->commit = 0;
}

int log_fixture_append(struct storage *storage, struct log_model *model, const struct log_write *write)
{
	struct log_model *after = malloc(sizeof(*after));
	struct raft_entry *entries = calloc(write->n_entries + 1u, sizeof(*entries));
	uint8_t *data = malloc((size_t)write->n_entries * write->size + 1);
	raft_assert(after && entries && data);
	*after = *model;
	log_model_apply(after, write);
	uint64_t first = after->last - write->n_entries + 1;
	for (uint32_t i = 0; i < write->n_entries; i++)
		entries[i] = log_fixture_entry(after, first + i, data + (size_t)i * write->size);
	struct storage_write storage_write = {
		.seq = write->seq,
		.term = write->term,
		.vote = write->vote,
		.commit = after->commit,
		.truncate_from = write->truncate_from,
		.first_index = write->n_entries > 0 ? first : 0,
		.entries = entries,
		.n_entries = write->n_entries,
	};
	int r = storage_append(storage, &storage_write);
	if (r == 0)
		*model = *after;
	free(data);
	free(entries);
	free(after);
	return r;
}

static bool entry_matches(const struct log_model *model, uint64_t index, const struct raft_entry *entry)
{
	uint8_t *buf = malloc(model->entries[index].size + 1u);
	raft_assert(buf);
	struct raft_entry expected = log_fixture_entry(model, index, buf);
	bool same = entry->term == expected.term && entry->time_ms == expected.time_ms &&
		    entry->type == expected.type && entry->size == expected.size &&
		    memcmp(entry->data, expected.data, expected.size) == 0;
	free(buf);
	return same;
}

uint64_t log_fixture_compare(struct storage *storage, const struct log_model *model, uint64_t first, uint64_t last,
			     uint32_t chunk, int *ret_error)
{
	struct raft_entry entries[READ_MAX];
	*ret_error = 0;
	for (uint64_t index = first; index <= last;) {
		uint32_t n = 0;
		uint32_t want = chunk < READ_MAX ? chunk : READ_MAX;
		int r = storage_read(storage, index, want, UINT64_MAX, entries, &n);
		if (r != 0) {
			*ret_error = r;
			return index;
		}
		raft_assert(n > 0 && n <= want);
		for (uint32_t i = 0; i < n && index <= last; i++, index++)
			if (!entry_matches(model, index, &entries[i]))
				return index;
	}
	return 0;
}

int log_fixture_drain(struct storage *storage, struct memory_disk *disk, uint64_t seed)
{
	int r = storage_process(storage, 1);
	while (r == 0 && !memory_disk_is_dead(disk) && !memory_disk_is_idle(disk)) {
		memory_disk_run_all(disk, seed++);
		r = storage_process(storage, 1);
	}
	return r;
}

int log_fixture_snapshot(struct storage *storage, struct memory_disk *disk, uint64_t index, uint64_t term)
{
	struct storage_snapshot_begin begin = {.index = index, .term = term};
	struct storage_snapshot_progress progress;
	int r = storage_snapshot_begin(storage, &begin);
	if (r == 0)
		r = storage_snapshot_finish(storage);
	storage_snapshot_written(storage, &progress);
	while (r == 0 && progress.phase != STORAGE_SNAPSHOT_IDLE && memory_disk_step(disk, DISK_LANE_BACKGROUND)) {
		r = storage_process(storage, 1);
		storage_snapshot_written(storage, &progress);
	}
	if (r == 0 && progress.phase != STORAGE_SNAPSHOT_IDLE)
		return -EIO; /* the process died */
	return r == 0 ? progress.result : r;
}

int log_fixture_compact(struct storage *storage, struct memory_disk *disk, uint64_t index, uint64_t term)
{
	int r = log_fixture_snapshot(storage, disk, index, term);
	return r == 0 ? storage_compact(storage, index, term) : r;
}
