/*
 * Snapshots for the tests of the storage: bytes that follow from an index, and whole files as another member would have
 * written them.
 */
#ifndef RAFT_KV_TESTS_SNAPSHOT_FIXTURE_H
#define RAFT_KV_TESTS_SNAPSHOT_FIXTURE_H

#include "daemon/storage/snapshot.h"
#include "tests/unit/storage_fixture.h"

#define BIG (3u * SNAPSHOT_PAYLOAD_MAX + 1000u)

static inline uint8_t snapshot_byte(uint64_t index, size_t i)
{
	uint64_t x = (index * 0x9e3779b97f4a7c15u + i) * 6364136223846793005u;
	return (uint8_t)(x >> 56);
}

static inline uint8_t *snapshot_payload(uint64_t index, size_t size)
{
	uint8_t *bytes = malloc(size + 1);
	assert_non_null(bytes);
	for (size_t i = 0; i < size; i++)
		bytes[i] = snapshot_byte(index, i);
	return bytes;
}

/* The whole file, with blocks of the given payload size and a configuration that follows from the index. */
static inline uint8_t *snapshot_file(uint64_t index, uint64_t term, size_t size, size_t block, size_t *ret_size)
{
	uint8_t *bytes = malloc(SNAPSHOT_BLOCK_SIZE + size + (size / block + 2) * 64);
	uint8_t *payload = snapshot_payload(index, size);
	uint8_t config[5] = {1, 2, 3, 4, (uint8_t)index};
	struct snapshot_chain chain;
	struct snapshot_header header = {.cluster_id = FIXTURE_CLUSTER,
					 .index = index,
					 .term = term,
					 .config_index = index - 1,
					 .config_size = sizeof(config),
					 .config = config};
	assert_non_null(bytes);
	(void)snapshot_encode_header(&chain, &header, bytes);
	for (size_t at = 0; at < size; at += block) {
		size_t n = size - at < block ? size - at : block;
		memcpy(bytes + chain.offset + SNAPSHOT_BLOCK_HEADER_SIZE, payload + at, n);
		(void)snapshot_seal_block(&chain, bytes + chain.offset, (uint32_t)n);
	}
	(void)snapshot_encode_footer(&chain, bytes + chain.offset);
	free(payload);
	*ret_size = (size_t)chain.offset;
	return bytes;
}

/* Reads the snapshot at index to its end. Returns 0 if it holds size bytes that follow from the index. */
static inline int snapshot_compare(struct storage *storage, uint64_t index, size_t size)
{
	struct snapshot_reader *reader = NULL;
	struct storage_snapshot_info info;
	const uint8_t *config = NULL;
	const uint8_t *buf = NULL;
	size_t len = 1;
	size_t at = 0;
	int r = snapshot_reader_new(storage, index, &reader, &info, &config);
	while (r == 0 && len > 0) {
		r = snapshot_reader_next(reader, &buf, &len);
		for (size_t i = 0; r == 0 && i < len; i++, at++)
			if (buf[i] != snapshot_byte(index, at))
				r = -1;
	}
	snapshot_reader_free(reader);
	return r == 0 && at != size ? -2 : r;
}

static inline struct storage_snapshot_progress written(struct storage *storage)
{
	struct storage_snapshot_progress progress;
	storage_snapshot_written(storage, &progress);
	return progress;
}

static inline struct storage_snapshot_progress received(struct storage *storage)
{
	struct storage_snapshot_progress progress;
	storage_received(storage, &progress);
	return progress;
}

static inline uint64_t newest_snapshot(struct storage *storage)
{
	struct storage_snapshot_info info = {.index = 0};
	return storage_snapshot_newest(storage, &info) ? info.index : 0;
}

/* One operation of the background lane, and the storage learns of it. */
static inline bool work_background(struct fixture *f)
{
	bool some = memory_disk_step(f->disk, DISK_LANE_BACKGROUND);
	assert_int_equal(storage_process(f->storage, 1), 0);
	return some;
}

static inline int begin_snapshot(struct fixture *f, uint64_t index, uint64_t term)
{
	uint8_t config[5] = {1, 2, 3, 4, (uint8_t)index};
	struct storage_snapshot_begin what = {.index = index,
					      .term = term,
					      .config_index = index - 1,
					      .config = config,
					      .config_size = sizeof(config)};
	return storage_snapshot_begin(f->storage, &what);
}

/* Writes a whole one and waits until it is durable or given up. Returns its result. */
static inline int write_snapshot(struct fixture *f, uint64_t index, size_t size)
{
	uint8_t *payload = snapshot_payload(index, size);
	int r = begin_snapshot(f, index, 3);
	for (size_t at = 0; r == 0 && at < size;) {
		size_t taken = 0;
		size_t n = size - at < 100000 ? size - at : 100000;
		r = storage_snapshot_write(f->storage, payload + at, n, &taken);
		at += r == 0 ? taken : 0;
		if (r == 0 && taken < n)
			(void)work_background(f);
	}
	free(payload);
	if (r == 0)
		r = storage_snapshot_finish(f->storage);
	while (written(f->storage).phase != STORAGE_SNAPSHOT_IDLE)
		assert_true(work_background(f));
	return r == 0 ? written(f->storage).result : r;
}

/* Feeds file from where it stands, in chunks, until all is taken. Returns the first result that is not 0. */
static inline int feed_snapshot(struct fixture *f, const uint8_t *file, size_t size, size_t chunk)
{
	int r = 0;
	while (r == 0 && received(f->storage).phase == STORAGE_SNAPSHOT_WRITING) {
		size_t at = (size_t)received(f->storage).offset;
		size_t taken = 0;
		size_t n = size - at < chunk ? size - at : chunk;
		if (at == size)
			break;
		r = storage_receive_write(f->storage, at, file + at, n, &taken);
		if (r == 0 && taken < n)
			(void)work_background(f);
	}
	return r;
}

static inline void finish_receiving(struct fixture *f)
{
	while (received(f->storage).phase != STORAGE_SNAPSHOT_IDLE)
		assert_true(work_background(f));
}

#endif
