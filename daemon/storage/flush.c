/*
 * From queued writes to records on the disk: group commit.
 *
 * A record takes everything that is queued, as far as it fits.  At most two are under way, the one that the disk
 * works on and the next, so that the disk is never idle and the third gathers all that arrives meanwhile.
 */
#include "daemon/storage/internal.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_MIN ((size_t)16 * 1024)
#define BUFFER_KEEP ((size_t)256 * 1024) /* a larger one is given back when the burst is over */

int flush_submit_job(struct storage *storage, struct disk_job *job)
{
	job->ticket = ++storage->next_ticket;
	int r = storage->disk->ops->submit(storage->disk, job);
	raft_assert(r != -EAGAIN); /* we count our jobs */
	if (r < 0 && storage->error == 0)
		storage->error = r;
	return r;
}

struct storage_flight *flush_add_flight(struct storage *storage, enum flight_kind kind, uint64_t ticket)
{
	raft_assert(storage->n_flights < DISK_JOBS_MAX);
	struct storage_flight *flight =
		&storage->flights[(storage->flights_first + storage->n_flights) % DISK_JOBS_MAX];
	*flight = (struct storage_flight){.kind = kind, .ticket = ticket};
	storage->n_flights++;
	if (kind == FLIGHT_RECORD)
		storage->n_records++;
	raft_assert(storage->n_records <= RECORDS_UNDER_WAY_MAX);
	return flight;
}

/* Building a record --------------------------------------------------------------------------------- */

/* What a record of at most size_max bytes would take from the queue. */
static void measure(const struct storage *storage, uint64_t size_max, struct format_record *ret_record)
{
	uint64_t bytes = 0;
	uint32_t n = 0;
	uint64_t last = storage_last_index(storage);
	raft_assert(size_max >= FORMAT_RECORD_MIN);
	for (uint64_t index = storage->submitted_last + 1; index <= last; index++) {
		uint64_t size = format_entry_size(log_cache_get(&storage->cache, index)->size);
		if (format_record_size(bytes + size) > size_max)
			break;
		bytes += size;
		n++;
	}
	ret_record->n_entries = n;
	ret_record->entry_bytes = (uint32_t)bytes;
	ret_record->length = (uint32_t)format_record_size(bytes);
	raft_assert(ret_record->length <= size_max);
}

static uint64_t segment_room(const struct storage *storage)
{
	raft_assert(storage->offset <= storage_newest_segment(storage)->size);
	return storage_newest_segment(storage)->size - storage->offset;
}

/* Chooses what the next record takes, and rolls to a new segment if it must. Returns 0, -EAGAIN when there is
 * nothing to write or no room yet, -ENOMEM, or the disk's error. */
static int plan(struct storage *storage, bool settle, struct format_record *ret_record)
{
	if (storage->markers_first == storage->markers_end && !settle)
		return -EAGAIN;
	measure(storage, storage_record_max(storage), ret_record);
	if (ret_record->length <= segment_room(storage) && !storage->roll_wanted)
		return 0;
	int r = segments_roll(storage);
	if (r != -EAGAIN)
		return r;
	/* No file yet: what still fits must not wait for it. */
	if (ret_record->length <= segment_room(storage))
		return 0;
	if (segment_room(storage) < FORMAT_RECORD_MIN)
		return -EAGAIN;
	uint32_t wanted = ret_record->n_entries;
	measure(storage, segment_room(storage), ret_record);
	return wanted > 0 && ret_record->n_entries == 0 ? -EAGAIN : 0;
}

static int take_buffer(struct storage *storage, size_t size, unsigned *ret_buffer)
{
	unsigned b = 0;
	while (storage->buffers[b].busy)
		b++;
	raft_assert(b < RECORDS_UNDER_WAY_MAX);
	if (storage->buffers[b].capacity < size) {
		size_t capacity = BUFFER_MIN;
		while (capacity < size)
			capacity *= 2;
		free(storage->buffers[b].data); /* not realloc: the old bytes are of no use */
		storage->buffers[b].capacity = 0;
		storage->buffers[b].data = malloc(capacity);
		if (!storage->buffers[b].data)
			return -ENOMEM;
		storage->buffers[b].capacity = capacity;
	}
	*ret_buffer = b;
	return 0;
}

/* Writes the record into buf, with zeros up to the end of its last page. Returns the bytes. */
static size_t build(struct storage *storage, struct format_record *record, uint8_t *buf)
{
	uint64_t last = storage->submitted_last + record->n_entries;
	uint64_t seed = format_seed(&storage->identity, storage_newest_segment(storage)->sequence, storage->offset);
	uint8_t *at = buf + FORMAT_RECORD_HEADER_SIZE;
	for (uint64_t index = storage->submitted_last + 1; index <= last; index++)
		at += format_entry_encode(log_cache_get(&storage->cache, index), at);
	raft_assert((size_t)(at - buf) == FORMAT_RECORD_HEADER_SIZE + record->entry_bytes);

	record->prev_checksum = storage->checksum;
	record->flush = storage->flush + 1;
	record->term = storage->term;
	record->vote = storage->vote;
	record->commit = storage->commit < last ? storage->commit : last;
	record->prev_index = storage->submitted_last;
	record->prev_term = storage->submitted_last == storage->base_index
				    ? storage->base_term
				    : log_index_term(&storage->index, storage->submitted_last);
	record->reset = storage->reset_queued;
	record->level = storage->level;
	raft_assert(storage->submitted_last == 0 || record->prev_term > 0);
	format_record_seal(record, seed, buf);
	size_t padding = (size_t)(-(storage->offset + record->length) % FORMAT_PAGE);
	memset(buf + record->length, 0, padding);
	return record->length + padding;
}

/* The record is the disk's now: everything it holds leaves the queue. */
static void account(struct storage *storage, const struct format_record *record, struct storage_flight *flight)
{
	storage->submitted_last += record->n_entries;
	while (storage->markers_first < storage->markers_end &&
	       storage->markers[storage->markers_first].last_index <= storage->submitted_last)
		storage->submitted_seq = storage->markers[storage->markers_first++].seq;
	flight->seq = storage->submitted_seq;
	flight->last_index = storage->submitted_last;
	flight->n_entries = record->n_entries;
	flight->resets = record->reset;
	flight->bytes = record->length;

	if (record->n_entries > 0)
		log_index_add_record(&storage->index, record->prev_index + 1, storage_newest_segment(storage)->sequence,
				     storage->offset, record->length);
	raft_assert(storage->queued_bytes >= record->entry_bytes);
	storage->queued_bytes -= record->entry_bytes;
	if (storage->markers_first == storage->markers_end) {
		raft_assert(storage->queued_bytes == 0);
		storage->markers_first = storage->markers_end = 0;
		storage->queued_writes = 0;
	}
	storage->reset_queued = false;
	storage->settle_us = UINT64_MAX;
	storage->flight_bytes += record->length;
	storage->log_written += record->length;
	storage->flush = record->flush;
	storage->checksum = record->checksum;
	storage->offset += record->length;
}

static int submit_record(struct storage *storage, bool settle)
{
	struct format_record record = {0};
	int r = plan(storage, settle, &record);
	if (r < 0)
		return r;
	unsigned buffer = 0;
	r = take_buffer(storage, (size_t)record.length + FORMAT_PAGE, &buffer);
	if (r == 0 && record.n_entries > 0)
		r = log_index_reserve_run(&storage->index);
	if (r < 0)
		return r;
	uint8_t *data = storage->buffers[buffer].data;
	struct disk_job job = {.type = DISK_JOB_WRITE, .lane = DISK_LANE_LOG, .offset = storage->offset, .buf = data};
	segments_name(job.name, storage_newest_segment(storage)->sequence);
	job.size = build(storage, &record, data);
	raft_assert(job.offset + job.size <= storage_newest_segment(storage)->size);
	r = flush_submit_job(storage, &job);
	if (r < 0)
		return r;
	struct storage_flight *flight = flush_add_flight(storage, FLIGHT_RECORD, job.ticket);
	flight->buffer = buffer;
	storage->buffers[buffer].busy = true;
	account(storage, &record, flight);
	return 0;
}

void flush_submit(struct storage *storage)
{
	/* Not worth a segment of its own, whose header would do as well. */
	bool settle = storage->settle_us <= storage->now_us &&
		      (segment_room(storage) >= FORMAT_RECORD_MIN || storage->roll_wanted);
	if (storage->settle_us <= storage->now_us)
		storage->settle_us = UINT64_MAX;
	storage->retry_memory_us = UINT64_MAX;
	while (storage->error == 0 && storage->n_records < RECORDS_UNDER_WAY_MAX) {
		int r = submit_record(storage, settle);
		if (r == -ENOMEM) {
			storage->retry_memory_us = storage->now_us + MEMORY_RETRY_US;
			storage->settle_us = settle ? storage->retry_memory_us : storage->settle_us;
		}
		if (r < 0)
			return; /* the disk's own errors are kept in storage->error */
		settle = false;
	}
}

/* Completions --------------------------------------------------------------------------------------- */

static void count_sync(struct storage_stats *stats, uint64_t us)
{
	size_t buckets = sizeof(stats->sync_histogram) / sizeof(stats->sync_histogram[0]);
	size_t k = 0;
	while (k + 1 < buckets && us >= (uint64_t)1 << (k + 4))
		k++;
	stats->sync_histogram[k]++;
	stats->sync_us_total += us;
	if (us > stats->sync_us_max)
		stats->sync_us_max = us;
}

static void record_done(struct storage *storage, const struct storage_flight *flight, uint64_t us)
{
	storage->buffers[flight->buffer].busy = false;
	storage->n_records--;
	raft_assert(storage->flight_bytes >= flight->bytes);
	storage->flight_bytes -= flight->bytes;
	raft_assert(flight->seq >= storage->durable_seq);
	storage->durable_seq = flight->seq;
	storage->durable_index = flight->last_index;
	/* The next record proves this one: without one, damage to it would pass for a torn tail. */
	if ((flight->n_entries > 0 || flight->resets) && storage->n_records == 0)
		storage->settle_us = storage->now_us + SETTLE_US;
	if (storage->roll_wanted && storage->n_spares > 0 && storage->n_records == 0)
		storage->settle_us = storage->now_us; /* it was wanted when no record could be added */
	storage->stats.flushes++;
	storage->stats.flushed_entries += flight->n_entries;
	storage->stats.flushed_bytes += flight->bytes;
	count_sync(&storage->stats, us);
}

void flush_flight_done(struct storage *storage, const struct disk_completion *completion)
{
	struct storage_flight flight = storage->flights[storage->flights_first];
	raft_assert(storage->n_flights > 0);
	raft_assert(flight.ticket == completion->ticket);
	storage->flights_first = (storage->flights_first + 1) % DISK_JOBS_MAX;
	storage->n_flights--;
	free(flight.header);
	if (completion->error < 0) {
		/* Final, and nothing of what is queued behind it may count as durable. */
		if (storage->error == 0)
			storage->error = completion->error;
		return;
	}
	switch (flight.kind) {
	case FLIGHT_HEADER:
		break;
	case FLIGHT_NAME:
		for (size_t i = storage->n_segments; i-- > 0;)
			if (storage->segments[i].sequence == flight.sequence)
				storage->segments[i].named = true;
		break;
	case FLIGHT_RECORD:
		record_done(storage, &flight, completion->duration_us);
		break;
	}
}

void flush_release_buffers(struct storage *storage)
{
	for (unsigned b = 0; b < RECORDS_UNDER_WAY_MAX; b++)
		if (!storage->buffers[b].busy && storage->buffers[b].capacity > BUFFER_KEEP) {
			free(storage->buffers[b].data);
			storage->buffers[b].data = NULL;
			storage->buffers[b].capacity = 0;
		}
}
