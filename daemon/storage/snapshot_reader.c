/*
 * Reading a snapshot: block by block for the state machine, or as raw bytes for another member.
 */
#include "daemon/storage/internal.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct snapshot_reader {
	struct storage *storage;
	uint64_t index;
	char name[DISK_NAME_MAX + 1];
	struct snapshot_parser parser;
	uint8_t *config;
	uint8_t buf[SNAPSHOT_BLOCK_SIZE];
};

static int next_part(struct snapshot_reader *reader, struct snapshot_found *ret_found)
{
	struct disk *disk = reader->storage->disk;
	int64_t got =
		disk->ops->read(disk, reader->name, reader->parser.chain.offset, reader->buf, SNAPSHOT_BLOCK_SIZE);
	if (got < 0)
		return (int)got;
	return snapshot_parse(&reader->parser, reader->buf, (size_t)got, ret_found) == SNAPSHOT_OK ? 0
												   : STORAGE_E_CORRUPT;
}

static int open_file(struct snapshot_reader *reader, const struct storage_snapshot *snapshot)
{
	struct snapshot_found found = {.payload_size = 0};
	int r = next_part(reader, &found);
	if (r != 0)
		return r;
	const struct snapshot_header *header = &reader->parser.header;
	if (header->index != snapshot->info.index || header->term != snapshot->info.term)
		return STORAGE_E_CORRUPT; /* another file since it was verified */
	reader->config = malloc((size_t)found.payload_size + 1);
	if (!reader->config)
		return -ENOMEM;
	memcpy(reader->config, found.payload, found.payload_size);
	return 0;
}

int snapshot_reader_new(struct storage *storage, uint64_t index, struct snapshot_reader **ret_reader,
			struct storage_snapshot_info *ret_info, const uint8_t **ret_config)
{
	struct storage_snapshot *snapshot = snapshots_find(storage, index);
	if (!snapshot)
		return -ENOENT;
	struct snapshot_reader *reader = calloc(1, sizeof(*reader));
	if (!reader)
		return -ENOMEM;
	reader->storage = storage;
	reader->index = index;
	snapshots_name(reader->name, index, "");
	int r = open_file(reader, snapshot);
	if (r != 0) {
		free(reader->config);
		free(reader);
		return r;
	}
	snapshot->readers++;
	*ret_reader = reader;
	*ret_info = snapshot->info;
	*ret_config = reader->config;
	return 0;
}

struct snapshot_reader *snapshot_reader_free(struct snapshot_reader *reader)
{
	if (!reader)
		return NULL;
	struct storage_snapshot *snapshot = snapshots_find(reader->storage, reader->index);
	raft_assert(snapshot && snapshot->readers > 0);
	snapshot->readers--;
	snapshots_tend(reader->storage);
	free(reader->config);
	free(reader);
	return NULL;
}

int snapshot_reader_next(struct snapshot_reader *reader, const uint8_t **ret_buf, size_t *ret_len)
{
	struct snapshot_found found = {.part = SNAPSHOT_PART_FOOTER};
	int r = reader->parser.done ? 0 : next_part(reader, &found);
	if (r != 0)
		return r;
	*ret_buf = found.payload;
	*ret_len = found.payload_size;
	return 0;
}

uint64_t snapshot_reader_offset(const struct snapshot_reader *reader)
{
	return reader->parser.chain.offset;
}

int snapshot_reader_raw(struct snapshot_reader *reader, uint64_t offset, uint8_t *buf, size_t len, size_t *ret_len)
{
	struct disk *disk = reader->storage->disk;
	int64_t got = disk->ops->read(disk, reader->name, offset, buf, len);
	if (got < 0)
		return (int)got;
	*ret_len = (size_t)got;
	return 0;
}
