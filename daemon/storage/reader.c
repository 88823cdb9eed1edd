/*
 * Entries that have left memory, read back from the disk.
 *
 * A run is read whole and every record in it verified again: bytes that were good when they were written can
 * rot, and must not reach a follower or the state machine.
 */
#include "daemon/storage/internal.h"

#include "daemon/assert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_BYTES_MAX ((size_t)1024 * 1024) /* of one call, unless a single run is longer */

void reader_release(struct storage *storage, size_t capacity_max)
{
	if (storage->read_capacity <= capacity_max) {
		raft_assert(storage->read_buffer || storage->read_capacity == 0);
		return;
	}
	free(storage->read_buffer);
	storage->read_buffer = NULL;
	storage->read_capacity = 0;
}

/* What is asked for, and how far it got. */
struct reading {
	uint64_t next_index;
	uint64_t last_index; /* inclusive: up to here the current run is good for */
	uint32_t max_entries;
	uint64_t bytes_max;
	struct raft_entry *entries;
	uint32_t n;
	uint64_t bytes;
	bool done;
};

static void take_entry(struct reading *reading, const struct raft_entry *entry)
{
	if (reading->n == reading->max_entries ||
	    (reading->n > 0 &&
	     (reading->bytes >= reading->bytes_max || entry->size > reading->bytes_max - reading->bytes))) {
		reading->done = true;
		return;
	}
	reading->entries[reading->n++] = *entry;
	reading->bytes += entry->size;
	reading->next_index++;
}

/* Takes the wanted entries of one verified record. */
static void take_record(struct reading *reading, const struct format_record *record, const uint8_t *buf)
{
	const uint8_t *at = buf + FORMAT_RECORD_HEADER_SIZE;
	size_t left = record->entry_bytes;
	for (uint32_t i = 0; i < record->n_entries && !reading->done; i++) {
		struct raft_entry entry;
		uint64_t index = record->prev_index + 1 + i;
		size_t n = format_entry_decode(at, left, &entry);
		raft_assert(n > 0); /* the record was verified */
		at += n;
		left -= n;
		if (index > reading->last_index)
			return;
		if (index == reading->next_index)
			take_entry(reading, &entry);
	}
}

/* Says where, and has the log go on in a new segment: at once, should it be idle. Once is enough, however often it is read: while
 * there is no new segment, on a full disk, what is left of the old one is for votes. Returns the error. */
static int note_damage(struct storage *storage, const struct log_run *run, uint64_t at, int error)
{
	char name[DISK_NAME_MAX + 1];
	segments_name(name, run->sequence);
	(void)snprintf(storage->damage, sizeof(storage->damage), "%s offset %" PRIu64 ": %s", name, run->offset + at,
		       error < 0 ? strerror(-error) : "the record is damaged");
	if (run->sequence == storage_newest_segment(storage)->sequence && !storage->options.read_only &&
	    !storage->roll_wanted) {
		storage->roll_wanted = true;
		storage->settle_us = storage->now_us;
	}
	return error;
}

/* Walks the records of a run that lies in buf. Returns 0 or STORAGE_E_CORRUPT. */
static int walk_run(struct storage *storage, const struct log_run *run, const uint8_t *buf, struct reading *reading)
{
	size_t at = 0;
	while (at < run->length && !reading->done && reading->next_index <= reading->last_index) {
		struct format_record record;
		uint64_t seed = format_seed(&storage->identity, run->sequence, (uint64_t)run->offset + at);
		if (format_record_decode(buf + at, run->length - at, seed, &record) != FORMAT_OK ||
		    record.length > run->length - at || !format_record_verify(&record, seed, buf + at))
			return note_damage(storage, run, at, STORAGE_E_CORRUPT);
		take_record(reading, &record, buf + at);
		at += record.length;
	}
	/* The index promised these entries. */
	return reading->done || reading->next_index > reading->last_index
		       ? 0
		       : note_damage(storage, run, at, STORAGE_E_CORRUPT);
}

static int reserve_buffer(struct storage *storage, size_t size)
{
	if (storage->read_capacity >= size)
		return 0;
	uint8_t *buffer = malloc(size);
	if (!buffer)
		return -ENOMEM;
	free(storage->read_buffer);
	storage->read_buffer = buffer;
	storage->read_capacity = size;
	return 0;
}

/* The last entry that run number r is good for: behind it the next run, or the queue, begins. */
static uint64_t run_last(const struct storage *storage, size_t r)
{
	uint64_t last = storage->submitted_last;
	if (r + 1 < storage->index.n_runs)
		last = storage->index.runs[r + 1].first_index - 1;
	/* A record under way may be half on the disk: what is not durable is in memory only. */
	return last < storage->durable_index ? last : storage->durable_index;
}

static int read_run(struct storage *storage, const struct log_run *run, uint8_t *buf)
{
	char name[DISK_NAME_MAX + 1];
	segments_name(name, run->sequence);
	int64_t got = storage->disk->ops->read(storage->disk, name, run->offset, buf, run->length);
	if (got < 0)
		return note_damage(storage, run, 0, (int)got);
	return (uint64_t)got == run->length ? 0 : note_damage(storage, run, (uint64_t)got, STORAGE_E_CORRUPT);
}

int reader_read(struct storage *storage, uint64_t first_index, uint32_t max_entries, uint64_t bytes_max,
		struct raft_entry *ret_entries, uint32_t *ret_n)
{
	size_t r = log_index_find(&storage->index, first_index);
	raft_assert(first_index <= storage->durable_index);
	raft_assert(r < storage->index.n_runs);
	size_t size = storage->index.runs[r].length;
	/* Some more than the data asked for, since headers and the entries in front come with them. */
	size_t wanted = bytes_max < READ_BYTES_MAX / 2 ? (size_t)bytes_max * 2 + FORMAT_PAGE : READ_BYTES_MAX;
	int e = reserve_buffer(storage, size > wanted ? size : wanted);
	if (e < 0)
		return e;

	struct reading reading = {
		.next_index = first_index, .max_entries = max_entries, .bytes_max = bytes_max, .entries = ret_entries};
	size_t used = 0;
	for (; r < storage->index.n_runs && !reading.done; r++) {
		const struct log_run *run = &storage->index.runs[r];
		reading.last_index = run_last(storage, r);
		/* The rest is still in memory: that is the next call's. */
		if (run->length > storage->read_capacity - used || log_cache_get(&storage->cache, reading.next_index))
			break;
		e = read_run(storage, run, storage->read_buffer + used);
		if (e == 0)
			e = walk_run(storage, run, storage->read_buffer + used, &reading);
		if (e != 0)
			return e;
		used += run->length;
	}
	raft_assert(reading.n > 0);
	*ret_n = reading.n;
	return 0;
}
