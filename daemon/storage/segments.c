/*
 * The files: names, beginning a new segment, and the pool of spare files that segments are made from.
 *
 * A file is zero-filled once, as a spare, and from then on only overwritten: it becomes a segment by
 * getting a header and then a name, in this order and each synced, and a spare again by a rename when its entries
 * are no longer needed.  So whatever bears a segment's name has a valid header, at every moment.
 */
#include "daemon/storage/internal.h"

#include "daemon/assert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT_PREFIX "segment-"
#define SPARE_PREFIX "spare-"

void segments_name(char *ret_name, uint64_t sequence)
{
	(void)snprintf(ret_name, DISK_NAME_MAX + 1, SEGMENT_PREFIX "%016" PRIx64, sequence);
}

void segments_spare_name(char *ret_name, uint32_t number)
{
	(void)snprintf(ret_name, DISK_NAME_MAX + 1, SPARE_PREFIX "%" PRIu32, number);
}

/* Only the spelling that we write ourselves: parse, spell, compare. */
bool segments_parse_name(const char *name, uint64_t *ret_sequence)
{
	char again[DISK_NAME_MAX + 1];
	if (strncmp(name, SEGMENT_PREFIX, strlen(SEGMENT_PREFIX)) != 0)
		return false;
	uint64_t sequence = strtoull(name + strlen(SEGMENT_PREFIX), NULL, 16);
	segments_name(again, sequence);
	if (sequence == 0 || strcmp(name, again) != 0)
		return false;
	*ret_sequence = sequence;
	return true;
}

bool segments_parse_spare(const char *name, uint32_t *ret_number)
{
	char again[DISK_NAME_MAX + 1];
	if (strncmp(name, SPARE_PREFIX, strlen(SPARE_PREFIX)) != 0)
		return false;
	uint32_t number = (uint32_t)strtoul(name + strlen(SPARE_PREFIX), NULL, 10);
	segments_spare_name(again, number);
	if (strcmp(name, again) != 0)
		return false;
	*ret_number = number;
	return true;
}

int segments_reserve(struct storage *storage)
{
	if (storage->n_segments < storage->segments_capacity)
		return 0;
	size_t capacity = storage->segments_capacity > 0 ? storage->segments_capacity * 2 : 8;
	struct storage_segment *grown = reallocarray(storage->segments, capacity, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	storage->segments = grown;
	storage->segments_capacity = capacity;
	return 0;
}

/* Rolling ------------------------------------------------------------------------------------------- */

/* Header and name are two jobs of the LOG lane, in front of the segment's first record: each is synced before the next
 * begins, and if one fails the disk refuses the rest. */
int segments_roll(struct storage *storage)
{
	if (storage->n_spares == 0)
		return -EAGAIN;
	if (segments_reserve(storage) < 0)
		return -ENOMEM;
	uint8_t *header = malloc(FORMAT_HEADER_SIZE);
	if (!header)
		return -ENOMEM;

	struct format_segment segment = {
		.identity = storage->identity,
		.sequence = storage_newest_segment(storage)->sequence + 1,
		.segment_size = storage->options.segment_size,
		.prev_flush = storage->flush,
		.prev_checksum = storage->checksum,
		.base_index = storage->submitted_last,
		.base_term = storage->submitted_last == storage->base_index
				     ? storage->base_term
				     : log_index_term(&storage->index, storage->submitted_last),
		.term = storage->term,
		.vote = storage->vote,
		.commit = storage->commit < storage->submitted_last ? storage->commit : storage->submitted_last,
		.reset = storage->reset_queued,
		.level = storage->level,
	};
	raft_assert(segment.base_index == 0 || segment.base_term > 0);
	uint64_t checksum = format_segment_encode(&segment, header);

	uint32_t spare = storage->spares[0]; /* the one that waits longest */
	struct disk_job job = {
		.type = DISK_JOB_WRITE, .lane = DISK_LANE_LOG, .size = FORMAT_HEADER_SIZE, .buf = header};
	segments_spare_name(job.name, spare);
	int r = flush_submit_job(storage, &job);
	if (r < 0) {
		free(header);
		return r;
	}
	flush_add_flight(storage, FLIGHT_HEADER, job.ticket)->header = header;
	job.type = DISK_JOB_RENAME;
	segments_name(job.new_name, segment.sequence);
	r = flush_submit_job(storage, &job);
	if (r < 0)
		return r;
	flush_add_flight(storage, FLIGHT_NAME, job.ticket)->sequence = segment.sequence;

	storage->n_spares--;
	memmove(storage->spares, storage->spares + 1, storage->n_spares * sizeof(*storage->spares));
	storage->segments[storage->n_segments++] = (struct storage_segment){
		.sequence = segment.sequence, .size = segment.segment_size, .base_index = segment.base_index};
	storage->offset = FORMAT_HEADER_SIZE;
	storage->checksum = checksum;
	storage->roll_wanted = false;
	return 0;
}

/* Recycling ----------------------------------------------------------------------------------------- */

/* The header of the segment behind holds the hard state, and whatever it and later ones cut from this one was
 * written there again: see recovery.c, apply_record. */
void segments_retire(struct storage *storage)
{
	size_t n = 0;
	if (storage->durable_seq < storage->reset_seq)
		return; /* a crash may still lead back to the old log: all of it must be there then */
	while (n + 1 < storage->n_segments && storage->segments[n + 1].named &&
	       storage->segments[n + 1].base_index <= storage->base_index)
		n++;
	if (n == 0)
		return;
	if (storage->n_retired + n > storage->retired_capacity) {
		size_t capacity = storage->n_retired + n;
		struct storage_retired *grown = reallocarray(storage->retired, capacity, sizeof(*grown));
		if (!grown)
			return; /* they stay part of the log until the next compaction */
		storage->retired = grown;
		storage->retired_capacity = capacity;
	}
	for (size_t i = 0; i < n; i++)
		storage->retired[storage->n_retired++] = (struct storage_retired){
			.sequence = storage->segments[i].sequence, .size = storage->segments[i].size};
	storage->n_segments -= n;
	memmove(storage->segments, storage->segments + n, storage->n_segments * sizeof(*storage->segments));
	raft_assert(storage->n_segments > 0);
	/* What is not durable yet still needs the term in front of it. */
	uint64_t needed = storage->durable_index < storage->base_index ? storage->durable_index : storage->base_index;
	log_index_forget(&storage->index, storage->segments[0].sequence, needed);
}

bool background_submit(struct storage *storage, const struct storage_background *background, struct disk_job *job)
{
	raft_assert(storage->n_background < BACKGROUND_JOBS_MAX);
	job->lane = DISK_LANE_BACKGROUND;
	if (flush_submit_job(storage, job) < 0)
		return false;
	struct storage_background *slot = &storage->background[storage->n_background++];
	*slot = *background;
	slot->ticket = job->ticket;
	return true;
}

static bool add_background(struct storage *storage, const struct storage_background *background, struct disk_job *job)
{
	raft_assert(storage->n_segment_jobs < SEGMENT_JOBS_MAX);
	if (!background_submit(storage, background, job))
		return false;
	storage->n_segment_jobs++;
	return true;
}

/* The files that are spares or are about to become one. */
static unsigned spares_expected(const struct storage *storage)
{
	unsigned n = storage->n_spares;
	for (unsigned i = 0; i < storage->n_background; i++)
		if (storage->background[i].kind == BACKGROUND_PREPARE ||
		    storage->background[i].kind == BACKGROUND_RECYCLE)
			n++;
	return n;
}

/* Recycles or removes the oldest retired segment. In order: a crash must not leave a gap in the sequence. */
static bool tend_retired(struct storage *storage)
{
	struct storage_retired retired = storage->retired[0];
	struct storage_background background = {.kind = BACKGROUND_REMOVE, .size = retired.size};
	struct disk_job job = {.type = DISK_JOB_REMOVE};
	segments_name(job.name, retired.sequence);
	if (retired.size == storage->options.segment_size && spares_expected(storage) < SPARES_MAX) {
		background.kind = BACKGROUND_RECYCLE;
		background.spare = storage->next_spare;
		job.type = DISK_JOB_RENAME;
		segments_spare_name(job.new_name, storage->next_spare++);
	}
	if (!add_background(storage, &background, &job))
		return false;
	storage->n_retired--;
	memmove(storage->retired, storage->retired + 1, storage->n_retired * sizeof(*storage->retired));
	return true;
}

void segments_tend(struct storage *storage)
{
	if (storage->options.read_only || storage->options.on_trial)
		return;
	while (storage->error == 0 && storage->n_segment_jobs < SEGMENT_JOBS_MAX && storage->n_retired > 0)
		if (!tend_retired(storage))
			return;
	if (storage->error < 0 || storage->n_segment_jobs == SEGMENT_JOBS_MAX || spares_expected(storage) > 0 ||
	    (storage->full && storage->now_us < storage->retry_full_us))
		return;
	struct storage_background background = {
		.kind = BACKGROUND_PREPARE, .spare = storage->next_spare, .size = storage->options.segment_size};
	struct disk_job job = {.type = DISK_JOB_PREPARE, .size = storage->options.segment_size};
	segments_spare_name(job.name, storage->next_spare++);
	(void)add_background(storage, &background, &job); /* a refusal is kept in storage->error */
}

void segments_background_done(struct storage *storage, const struct storage_background *done, int error)
{
	raft_assert(storage->n_segment_jobs > 0);
	storage->n_segment_jobs--;
	if (error < 0) {
		if (done->kind == BACKGROUND_PREPARE && error == -ENOSPC) {
			storage->full = true;
			storage->retry_full_us = storage->now_us + FULL_RETRY_US;
		} else if (storage->error == 0) {
			storage->error = error;
		}
		return;
	}
	if (done->kind != BACKGROUND_REMOVE) {
		raft_assert(storage->n_spares < SPARES_MAX);
		storage->spares[storage->n_spares++] = done->spare;
		storage->full = false;
		if (storage->roll_wanted)
			storage->settle_us = storage->now_us; /* an idle log goes on in it, too */
	}
}
