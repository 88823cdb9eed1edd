/*
 * Opening: what the segments say, one record after the other.  See recovery.c for the rule.
 */
#include "daemon/storage/recovery.h"

#include "daemon/assert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static int check_owner(struct recovery *recovery, const struct file *file, const struct format_segment *segment)
{
	const struct storage_options *options = &recovery->storage->options;
	if (segment->identity.cluster_id != options->cluster_id)
		return recovery_refuse(recovery, STORAGE_E_WRONG_CLUSTER, file->name, 0,
				       "belongs to cluster %016" PRIx64 ", this member to %016" PRIx64
				       "; check the cluster's name and the data directory",
				       segment->identity.cluster_id, options->cluster_id);
	if (segment->identity.member_id != options->member_id)
		return recovery_refuse(recovery, STORAGE_E_WRONG_CLUSTER, file->name, 0,
				       "belongs to member %" PRIu64 ", this is member %" PRIu64
				       "; check the data directory",
				       segment->identity.member_id, options->member_id);
	return 0;
}

/* The header must continue what the segments before it say. */
static int check_chain(struct recovery *recovery, const struct file *file, const struct file *before,
		       const struct format_segment *segment)
{
	struct storage *storage = recovery->storage;
	if (segment->sequence != file->number)
		return recovery_refuse_damage(recovery, file, 0, "holds another segment's header");
	if (segment->segment_size != file->size)
		return recovery_refuse_damage(recovery, file, file->size, "has not the size that its header says");
	if (!before)
		return 0;
	if (segment->identity.incarnation != storage->identity.incarnation)
		return recovery_refuse_damage(recovery, file, 0, "belongs to another life of this member");
	if (segment->prev_flush != storage->flush || segment->prev_checksum != storage->checksum)
		return recovery_refuse_damage(recovery, before, storage->offset,
					      "no valid record here, though a later segment says there was one");
	return 0;
}

/* The log is cut behind index: what a record says that replaces a suffix, and a header if the cut was the next thing
 * to be written when the segment began. */
static int cut_to(struct recovery *recovery, const struct file *file, uint64_t offset, uint64_t index, uint64_t term)
{
	struct storage *storage = recovery->storage;
	if (index > storage_last_index(storage))
		return recovery_refuse_damage(recovery, file, offset, "continues a longer log than there is");
	if (index < storage->base_index) {
		/* The entries before the base were compacted away with their segment after some of them had been
		 * replaced here: what is left of the log begins here. */
		storage->base_index = index;
		storage->base_term = term;
		log_cache_begin(&storage->cache, index + 1);
		log_index_begin(&storage->index, index, term);
	} else {
		uint64_t known =
			index == storage->base_index ? storage->base_term : log_index_term(&storage->index, index);
		if (known != term)
			return recovery_refuse_damage(recovery, file, offset, "continues another log than there is");
	}
	if (index < storage_last_index(storage)) {
		log_cache_cut(&storage->cache, index);
		log_index_cut(&storage->index, index);
	}
	return 0;
}

/* The log begins behind index. Returns 0 or -ENOMEM. */
static int begin_log(struct storage *storage, uint64_t index, uint64_t term)
{
	if (log_index_reserve_terms(&storage->index, 1) < 0)
		return -ENOMEM;
	log_cache_begin(&storage->cache, index + 1);
	log_index_begin(&storage->index, index, term);
	storage->base_index = index;
	storage->base_term = term;
	/* Of the segments so far nothing is needed any more, whatever their numbers are. */
	for (size_t i = 0; i < storage->n_segments; i++)
		storage->segments[i].base_index = 0;
	return 0;
}

int recovery_open_segment(struct recovery *recovery, const struct file *file, const struct file *before)
{
	struct storage *storage = recovery->storage;
	struct format_segment segment;
	uint64_t checksum = 0;
	const uint8_t *buf = NULL;
	size_t len = 0;
	int r = recovery_look(recovery, file, 0, FORMAT_HEADER_SIZE, &buf, &len);
	if (r != 0)
		return r;
	switch (format_segment_decode(buf, len, &segment, &checksum)) {
	case FORMAT_OK:
		break;
	case FORMAT_BAD:
		return recovery_refuse_damage(recovery, file, 0, "the segment's header is not valid");
	case FORMAT_NEWER:
		return recovery_refuse_newer(recovery, file, 0);
	}
	r = recovery_check_level(recovery, file->name, 0, segment.level);
	if (r == 0)
		r = check_owner(recovery, file, &segment);
	if (r == 0)
		r = check_chain(recovery, file, before, &segment);
	if (r == 0 && before && !segment.reset)
		r = cut_to(recovery, file, 0, segment.base_index, segment.base_term);
	if (r == 0 && (!before || segment.reset) && begin_log(storage, segment.base_index, segment.base_term) < 0)
		r = recovery_refuse_error(recovery, file->name, 0, -ENOMEM);
	if (r == 0 && segments_reserve(storage) < 0)
		r = recovery_refuse_error(recovery, file->name, 0, -ENOMEM);
	if (r != 0)
		return r;
	if (!before) {
		storage->identity = segment.identity;
		storage->flush = segment.prev_flush;
	}
	storage->segments[storage->n_segments++] = (struct storage_segment){
		.sequence = segment.sequence, .size = file->size, .base_index = segment.base_index, .named = true};
	storage->checksum = checksum;
	storage->offset = FORMAT_HEADER_SIZE;
	storage->term = segment.term;
	storage->vote = segment.vote;
	storage->commit = segment.commit;
	recovery->last_record = 0;
	recovery->last_needs_proof = false;
	return 0;
}

/* Records ------------------------------------------------------------------------------------------- */

/* Adds the entries of a verified record to the log in memory. */
static int add_entries(struct recovery *recovery, const struct format_record *record, const uint8_t *buf)
{
	struct storage *storage = recovery->storage;
	const uint8_t *at = buf + FORMAT_RECORD_HEADER_SIZE;
	size_t left = record->entry_bytes;
	if (log_index_reserve_run(&storage->index) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < record->n_entries; i++) {
		struct raft_entry entry;
		size_t n = format_entry_decode(at, left, &entry);
		raft_assert(n > 0); /* the record was verified */
		if (log_cache_reserve(&storage->cache, 1, n) < 0 || log_index_reserve_terms(&storage->index, 1) < 0)
			return -ENOMEM;
		log_index_add_term(&storage->index, storage->cache.next_index, entry.term);
		log_cache_add(&storage->cache, &entry);
		if (entry.type == RAFT_ENTRY_CONFIG && storage->options.heal)
			recovery_note_config(recovery, record->prev_index + 1 + i, entry.data, entry.size, false);
		at += n;
		left -= n;
	}
	if (record->n_entries > 0)
		log_index_add_record(&storage->index, record->prev_index + 1, storage_newest_segment(storage)->sequence,
				     storage->offset, record->length);
	log_cache_evict(&storage->cache, storage_last_index(storage), storage->options.cache_bytes_max);
	return 0;
}

static int apply_record(struct recovery *recovery, const struct file *file, const struct format_record *record,
			const uint8_t *buf)
{
	struct storage *storage = recovery->storage;
	if (record->flush != storage->flush + 1 || record->prev_checksum != storage->checksum)
		return recovery_refuse_damage(recovery, file, storage->offset,
					      "the record does not follow the one before it");
	int r = 0;
	if (!record->reset)
		r = cut_to(recovery, file, storage->offset, record->prev_index, record->prev_term);
	else if (begin_log(storage, record->prev_index, record->prev_term) < 0)
		r = recovery_refuse_error(recovery, file->name, storage->offset, -ENOMEM);
	if (r != 0)
		return r;
	if (add_entries(recovery, record, buf) < 0)
		return recovery_refuse_error(recovery, file->name, storage->offset, -ENOMEM);
	storage->term = record->term;
	storage->vote = record->vote;
	storage->commit = record->commit;
	storage->flush = record->flush;
	storage->checksum = record->checksum;
	recovery->last_record = storage->offset;
	recovery->last_needs_proof = record->n_entries > 0 || record->reset;
	if (record->prev_index + record->n_entries > recovery->snapshot_index)
		storage->log_written += record->length;
	storage->offset += record->length;
	return 0;
}

/* Reads the record at storage->offset. Returns 0 and a record of length 0 when there is no valid one, in which
 * case *ret_torn tells how much of one began there; or an error. */
static int next_record(struct recovery *recovery, const struct file *file, struct format_record *ret_record,
		       const uint8_t **ret_buf, uint64_t *ret_torn)
{
	struct storage *storage = recovery->storage;
	struct format_record record = {0};
	const uint8_t *buf = NULL;
	size_t len = 0;
	*ret_record = record;
	*ret_torn = 0;
	if (file->size - storage->offset < FORMAT_RECORD_MIN)
		return 0;
	int r = recovery_look(recovery, file, storage->offset, FORMAT_RECORD_HEADER_SIZE, &buf, &len);
	if (r != 0)
		return r;
	uint64_t seed = format_seed(&storage->identity, file->number, storage->offset);
	switch (format_record_decode(buf, len, seed, &record)) {
	case FORMAT_OK:
		break;
	case FORMAT_BAD:
		return 0;
	case FORMAT_NEWER:
		return recovery_refuse_newer(recovery, file, storage->offset);
	}
	r = recovery_look(recovery, file, storage->offset, record.length, &buf, &len);
	if (r != 0)
		return r;
	if (len < record.length || !format_record_verify(&record, seed, buf)) {
		*ret_torn = record.length;
		return 0;
	}
	*ret_record = record;
	*ret_buf = buf;
	return recovery_check_level(recovery, file->name, storage->offset, record.level);
}

/* A header that verifies behind the end proves that the record at the end was durable: it is damage then. */
static int check_tail(struct recovery *recovery, const struct file *file)
{
	struct storage *storage = recovery->storage;
	for (uint64_t at = storage->offset + FORMAT_SECTOR; at < file->size; at += FORMAT_SECTOR) {
		struct format_record record;
		const uint8_t *buf = NULL;
		size_t len = 0;
		int r = recovery_look(recovery, file, at, FORMAT_RECORD_HEADER_SIZE, &buf, &len);
		if (r != 0)
			return r;
		uint64_t seed = format_seed(&storage->identity, file->number, at);
		if (format_record_decode(buf, len, seed, &record) != FORMAT_BAD)
			return recovery_refuse_damage(recovery, file, storage->offset,
						      "no valid record here, though there are later ones");
	}
	return 0;
}

int recovery_scan_segment(struct recovery *recovery, const struct file *file, bool last)
{
	struct storage *storage = recovery->storage;
	struct format_record record;
	const uint8_t *buf = NULL;
	uint64_t torn = 0;
	int r = next_record(recovery, file, &record, &buf, &torn);
	while (r == 0 && record.length > 0) {
		r = apply_record(recovery, file, &record, buf);
		if (r == 0)
			r = next_record(recovery, file, &record, &buf, &torn);
	}
	/* In an earlier segment the next header tells whether this is really the end. */
	if (r != 0 || !last)
		return r;
	r = check_tail(recovery, file);
	if (r == 0 && torn > 0) {
		recovery->state->torn_bytes = torn;
		(void)snprintf(recovery->state->torn_where, sizeof(recovery->state->torn_where), "%s offset %" PRIu64,
			       file->name, storage->offset);
	}
	return r;
}
