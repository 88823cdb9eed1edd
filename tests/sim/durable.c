/*
 * See durable.h. The same chain of records as recovery reads, followed as it is written. Must not know what the storage
 * believes.
 */
#include "durable.h"

#include "check.h"

#include "daemon/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENTS_MAX 65536u

static bool parse_segment(const char *name, uint64_t *ret_sequence)
{
	return sscanf(name, "segment-%16" SCNx64, ret_sequence) == 1;
}

/* One step of the log -------------------------------------------------------------------------------------- */

/* Where a shadow is built: the platters' bits of the entries follow when it is complete. */
struct builder {
	struct sim *sim;
	unsigned member;
	struct sim_shadow *shadow;
	char where[32];
};

static struct builder builder_of(struct sim *sim, unsigned member, struct sim_shadow *shadow)
{
	struct builder builder = {.sim = sim, .member = member, .shadow = shadow};
	(void)snprintf(builder.where, sizeof builder.where, "platter of member %u", member + 1);
	return builder;
}

static bool cut_fits(const struct builder *builder, uint64_t index, uint64_t term)
{
	const struct sim_log *log = &builder->shadow->log;
	return index <= log->last && builder->sim->checks->entries[sim_log_at(log, index)].term == term;
}

/* False: this is no header that continues the log. */
static bool open_segment(const struct builder *builder, const uint8_t *bytes, uint64_t size)
{
	struct sim_shadow *shadow = builder->shadow;
	struct format_segment segment;
	uint64_t checksum = 0;
	if (format_segment_decode(bytes, size, &segment, &checksum) != FORMAT_OK)
		return false;
	if (shadow->sequence > 0 &&
	    (segment.sequence != shadow->sequence + 1 || segment.prev_flush != shadow->flush ||
	     segment.prev_checksum != shadow->checksum || !cut_fits(builder, segment.base_index, segment.base_term)))
		return false;
	shadow->identity = segment.identity;
	shadow->sequence = segment.sequence;
	shadow->offset = FORMAT_HEADER_SIZE;
	shadow->checksum = checksum;
	shadow->term = segment.term;
	shadow->vote = segment.vote;
	if (segment.base_index < shadow->log.last)
		shadow->log.last = segment.base_index;
	return true;
}

/* The bytes begin where the next record would. False: there is none that is valid and continues the log. */
static bool add_record(const struct builder *builder, const uint8_t *bytes, uint64_t size)
{
	struct sim_shadow *shadow = builder->shadow;
	struct format_record record;
	uint64_t seed = format_seed(&shadow->identity, shadow->sequence, shadow->offset);
	if (format_record_decode(bytes, size, seed, &record) != FORMAT_OK || record.length > size ||
	    !format_record_verify(&record, seed, bytes) || record.flush != shadow->flush + 1 ||
	    record.prev_checksum != shadow->checksum || !cut_fits(builder, record.prev_index, record.prev_term))
		return false;
	shadow->log.last = record.prev_index;
	const uint8_t *at = bytes + FORMAT_RECORD_HEADER_SIZE;
	size_t left = record.entry_bytes;
	for (uint32_t k = 0; k < record.n_entries; k++) {
		struct raft_entry entry;
		size_t n = format_entry_decode(at, left, &entry);
		raft_assert(n > 0);
		sim_log_push(&shadow->log, sim_entry_note(builder->sim, sim_log_at(&shadow->log, shadow->log.last),
							  &entry, builder->where));
		at += n;
		left -= n;
	}
	shadow->term = record.term;
	shadow->vote = record.vote;
	shadow->flush = record.flush;
	shadow->checksum = record.checksum;
	shadow->offset += record.length;
	return true;
}

/* From the platter's bytes --------------------------------------------------------------------------------- */

struct segment_file {
	uint64_t sequence;
	const uint8_t *bytes;
	uint64_t size;
};

struct segment_files {
	struct segment_file *files;
	size_t n, capacity;
};

static void visit_file(void *arg, const char *name, const uint8_t *bytes, uint64_t size)
{
	struct segment_files *files = arg;
	uint64_t sequence;
	if (!parse_segment(name, &sequence))
		return;
	raft_assert(files->n < SEGMENTS_MAX);
	if (files->n == files->capacity) {
		files->capacity = files->capacity * 2 + 8;
		files->files = reallocarray(files->files, files->capacity, sizeof *files->files);
		raft_assert(files->files != NULL);
	}
	files->files[files->n++] = (struct segment_file){sequence, bytes, size};
}

static int compare_files(const void *a, const void *b)
{
	const struct segment_file *x = a, *y = b;
	return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static void build(const struct builder *builder)
{
	struct segment_files files = {0};
	bool whole = true;
	sim_platter_each(builder->sim->members[builder->member].disk_files, visit_file, &files);
	if (files.n > 0)
		qsort(files.files, files.n, sizeof *files.files, compare_files);
	for (size_t k = 0; k < files.n && whole; k++) {
		const struct segment_file *file = &files.files[k];
		whole = open_segment(builder, file->bytes, file->size);
		while (whole &&
		       add_record(builder, file->bytes + builder->shadow->offset, file->size - builder->shadow->offset))
			continue;
	}
	free(files.files);
}

/* The entries' bits ---------------------------------------------------------------------------------------- */

/* Entries above `same`, which both logs share, are no longer, or from now on, on the platter. */
static void mark(struct sim *sim, unsigned member, const struct sim_log *log, uint64_t same, bool held)
{
	struct sim_checks *checks = sim->checks;
	for (uint64_t index = same + 1; index <= log->last; index++) {
		uint32_t *platters = &checks->entries[log->entries[index]].platters;
		*platters = held ? *platters | 1u << member : *platters & ~(1u << member);
	}
}

static void replace(struct sim *sim, unsigned member, const struct sim_shadow *built)
{
	struct sim_shadow *shadow = &sim->checks->members[member].shadow;
	uint64_t same = built->log.last < shadow->log.last ? built->log.last : shadow->log.last;
	while (same > 0 && built->log.entries[same] != shadow->log.entries[same])
		same--;
	mark(sim, member, &shadow->log, same, false);
	mark(sim, member, &built->log, same, true);
	free(shadow->log.entries);
	*shadow = *built;
}

static void rebuild(struct sim *sim, unsigned member)
{
	const struct sim_shadow *shadow = &sim->checks->members[member].shadow;
	struct sim_shadow built = {0};
	struct builder builder = builder_of(sim, member, &built);
	build(&builder);
	built.shrunk = built.flush < shadow->flush || built.sequence < shadow->sequence;
	replace(sim, member, &built);
}

void sim_durable_restart(struct sim *sim, unsigned member)
{
	rebuild(sim, member);
}

/* From synced jobs ----------------------------------------------------------------------------------------- */

/* Recovery writes the last record, or the header, once more. */
static bool is_rewrite(const struct sim_shadow *shadow, uint64_t sequence, uint64_t offset, const uint8_t *buf,
		       size_t size)
{
	struct format_segment segment;
	struct format_record record;
	uint64_t checksum;
	if (sequence != shadow->sequence || offset >= shadow->offset)
		return false;
	if (offset == 0)
		return shadow->offset == FORMAT_HEADER_SIZE &&
		       format_segment_decode(buf, size, &segment, &checksum) == FORMAT_OK &&
		       checksum == shadow->checksum;
	uint64_t seed = format_seed(&shadow->identity, sequence, offset);
	return format_record_decode(buf, size, seed, &record) == FORMAT_OK && record.length <= size &&
	       record.checksum == shadow->checksum && format_record_verify(&record, seed, buf);
}

void sim_durable_write(struct sim *sim, unsigned member, const char *name, uint64_t offset, const uint8_t *buf,
		       size_t size)
{
	struct sim_checks *checks = sim->checks;
	struct sim_shadow *shadow = &checks->members[member].shadow;
	uint64_t sequence = 0;
	if (!parse_segment(name, &sequence) || is_rewrite(shadow, sequence, offset, buf, size))
		return;
	if (sequence != shadow->sequence || offset != shadow->offset)
		sim_fail(sim, "member %u writes to %s at %" PRIu64 ", its log ends in segment %" PRIu64 " at %" PRIu64,
			 member + 1, name, offset, shadow->sequence, shadow->offset);
	uint64_t last = shadow->log.last, term = shadow->term, vote = shadow->vote;
	struct format_record record;
	uint64_t seed = format_seed(&shadow->identity, sequence, offset);
	if (format_record_decode(buf, size, seed, &record) != FORMAT_OK)
		sim_fail(sim, "member %u writes no record to %s at %" PRIu64, member + 1, name, offset);
	/* What the record cuts leaves the platter before what it adds arrives. */
	if (record.prev_index < last) {
		mark(sim, member, &shadow->log, record.prev_index, false);
		if (record.prev_index < checks->committed_last &&
		    checks->committed[record.prev_index + 1].entry == shadow->log.entries[record.prev_index + 1])
			sim_fail(sim, "member %u removes committed entry %" PRIu64 " from its disk", member + 1,
				 record.prev_index + 1);
	}
	struct builder builder = builder_of(sim, member, shadow);
	if (!add_record(&builder, buf, size))
		sim_fail(sim, "member %u writes a record to %s at %" PRIu64 " that does not continue its log",
			 member + 1, name, offset);
	mark(sim, member, &shadow->log, record.prev_index, true);
	if (shadow->term < term || (shadow->term == term && vote != 0 && shadow->vote != vote))
		sim_fail(sim, "member %u: hard state goes back on its disk, from term %" PRIu64 " to %" PRIu64,
			 member + 1, term, shadow->term);
}

static void visit_named(void *arg, const char *name, const uint8_t *bytes, uint64_t size)
{
	struct segment_file *wanted = arg;
	uint64_t sequence;
	if (parse_segment(name, &sequence) && sequence == wanted->sequence)
		*wanted = (struct segment_file){sequence, bytes, size};
}

void sim_durable_rename(struct sim *sim, unsigned member, const char *name, const char *new_name)
{
	struct sim_shadow *shadow = &sim->checks->members[member].shadow;
	struct segment_file file = {0};
	uint64_t before = shadow->log.last;
	if (strcmp(name, new_name) == 0 || !parse_segment(new_name, &file.sequence))
		return;
	sim_platter_each(sim->members[member].disk_files, visit_named, &file);
	struct builder builder = builder_of(sim, member, shadow);
	if (file.bytes == NULL || !open_segment(&builder, file.bytes, file.size))
		sim_fail(sim, "member %u begins %s, which does not continue its log", member + 1, new_name);
	for (uint64_t index = shadow->log.last + 1; index <= before; index++)
		sim->checks->entries[shadow->log.entries[index]].platters &= ~(1u << member);
}
