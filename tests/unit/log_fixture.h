/*
 * What the tests of the log share: a model of what the log must hold, writes that go to both, and the comparison.
 *
 * An entry's data follow from its index and its salt, so the model remembers no bytes.
 */
#ifndef RAFT_KV_TESTS_LOG_FIXTURE_H
#define RAFT_KV_TESTS_LOG_FIXTURE_H

#include "daemon/storage/snapshots.h"
#include "tests/unit/memory_disk.h"

#define MODEL_ENTRIES_MAX 2048u
#define FIXTURE_CLUSTER 0xc1
#define FIXTURE_MEMBER 3u
#define FIXTURE_INCARNATION 0x1234567890abcdefull

struct log_model {
	uint64_t term;
	uint64_t vote;
	uint64_t commit;
	uint64_t base;
	uint64_t last;
	struct {
		uint64_t term;
		uint64_t salt;
		uint32_t size;
	} entries[MODEL_ENTRIES_MAX + 1]; /* by index */
};

struct log_write {
	uint64_t seq;
	uint64_t term;
	uint64_t vote;
	uint64_t first_index; /* 0: at the end */
	uint64_t truncate_from;
	uint32_t n_entries;
	uint32_t size; /* of each */
	uint64_t salt;
};

struct storage_options log_fixture_options(uint32_t segment_size);
struct raft_entry log_fixture_entry(const struct log_model *model, uint64_t index, uint8_t *buf);
void log_model_apply(struct log_model *model, const struct log_write *write);
/* Queues the write in the storage and applies it to the model if it was taken. Returns storage_append's result. */
int log_fixture_append(struct storage *storage, struct log_model *model, const struct log_write *write);
/* Reads first … last back, at most chunk entries a call. Returns the first index that differs from the model, 0 if
 * none does; *ret_error: what storage_read said, if it failed. */
uint64_t log_fixture_compare(struct storage *storage, const struct log_model *model, uint64_t first, uint64_t last,
			     uint32_t chunk, int *ret_error);
/* Process and run the disk until nothing is left to do. Returns storage_process's result. */
int log_fixture_drain(struct storage *storage, struct memory_disk *disk, uint64_t seed);

/* Writes a small snapshot up to index, executing jobs of the BACKGROUND lane only. Returns 0 when it is durable. */
int log_fixture_snapshot(struct storage *storage, struct memory_disk *disk, uint64_t index, uint64_t term);
/* The same, and compacts the log up to it. Returns storage_compact's result. */
int log_fixture_compact(struct storage *storage, struct memory_disk *disk, uint64_t index, uint64_t term);

#endif
