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
	return strlen(name) == strlen("segment-0000000000000000") &&
	       sscanf(name, "segment-%16" SCNx64, ret_sequence) == 1;
}

/* One step of the log -------------------------------------------------------------------------------------- */

/* Where a shadow is built. */
struct builder {
	struct sim *sim;
	unsigned member;
	struct sim_shadow *shadow;
	bool live; /* the member is at work, this is no look at what is left of it */
	char where[32];
};

static struct builder builder_of(struct sim *sim, unsigned member, struct sim_shadow *shadow, bool live)
{
	struct builder builder = {.sim = sim, .member = member, .shadow = shadow, .live = live};
	(void)snprintf(builder.where, sizeof builder.where, "platter of member %u", member + 1);
	return builder;
}

static bool cut_fits(const struct builder *builder, uint64_t index, uint64_t term)
{
	const struct sim_checks *checks = builder->sim->checks;
	const struct sim_log *log = &builder->shadow->log;
	return index <= log->last && sim_entry(checks, sim_log_at(checks, log, index))->term == term;
}

/* What the log was is gone; what it becomes rests on a snapshot. False: there is no such committed entry. */
static bool begin_anew(const struct builder *builder, uint64_t index, uint64_t term)
{
	struct sim *sim = builder->sim;
	struct sim_shadow *shadow = builder->shadow;
	uint32_t entry = sim_check_committed_at(sim->checks, index);
	if (entry == 0 || sim_entry(sim->checks, entry)->term != term)
		return false;
	/* That one may be gone: while the disk of the log was slow newer ones arrived, and a start begins behind those. */
	if (builder->live && sim_snapshot_newest(shadow) < index)
		sim_fail(sim, "member %u begins its log behind entry %" PRIu64 " without a snapshot of it",
			 builder->member + 1, index);
	sim_log_begin(&shadow->log, index);
	sim_log_begin(&shadow->written, 0);
	shadow->rests_on_snapshot = false;
	for (uint64_t k = 0; k < shadow->n_segments; k++)
		shadow->segments[k].needed = false;
	return true;
}

/* The oldest segment that is left: what came before it is known from the entry that it follows. */
static bool begin_log(const struct builder *builder, uint64_t index, uint64_t term)
{
	const struct sim_checks *checks = builder->sim->checks;
	uint32_t entry = index > 0 ? sim_entry_find(checks, index, term) : 0;
	if (index > 0 && entry == 0)
		return false;
	sim_log_lead_to(checks, &builder->shadow->log, entry);
	return true;
}

/* False: this is no header that continues the log. */
static bool open_segment(const struct builder *builder, const uint8_t *bytes, uint64_t size)
{
	struct sim_shadow *shadow = builder->shadow;
	struct format_segment segment;
	uint64_t checksum = 0;
	bool first = shadow->sequence == 0;
	if (format_segment_decode(bytes, size, &segment, &checksum) != FORMAT_OK)
		return false;
	if (!first && (segment.sequence != shadow->sequence + 1 || segment.prev_flush != shadow->flush ||
		       segment.prev_checksum != shadow->checksum))
		return false;
	if (segment.reset && !begin_anew(builder, segment.base_index, segment.base_term))
		return false;
	if (!segment.reset && first && !begin_log(builder, segment.base_index, segment.base_term))
		return false;
	if (!cut_fits(builder, segment.base_index, segment.base_term))
		return false;
	sim_log_cut(&shadow->log, segment.base_index);
	if (first)
		shadow->flush = segment.prev_flush;
	shadow->identity = segment.identity;
	shadow->sequence = segment.sequence;
	shadow->offset = FORMAT_HEADER_SIZE;
	shadow->newest = 0;
	shadow->checksum = checksum;
	shadow->term = segment.term;
	shadow->vote = segment.vote;
	sim_segment_add(shadow, segment.sequence, segment.base_index);
	return true;
}

static void add_entries(const struct builder *builder, const struct format_record *record, const uint8_t *bytes)
{
	const struct sim_checks *checks = builder->sim->checks;
	struct sim_log *log = &builder->shadow->log;
	const uint8_t *at = bytes + FORMAT_RECORD_HEADER_SIZE;
	size_t left = record->entry_bytes;
	for (uint32_t k = 0; k < record->n_entries; k++) {
		struct raft_entry entry;
		size_t n = format_entry_decode(at, left, &entry);
		raft_assert(n > 0);
		sim_log_push(log, sim_entry_note(builder->sim, sim_log_last(checks, log), &entry, builder->where));
		at += n;
		left -= n;
	}
}

/* The bytes begin where the next record would. False: there is none that is valid and continues the log. */
static bool add_record(const struct builder *builder, const uint8_t *bytes, uint64_t size)
{
	struct sim_shadow *shadow = builder->shadow;
	struct format_record record;
	uint64_t seed = format_seed(&shadow->identity, shadow->sequence, shadow->offset);
	if (format_record_decode(bytes, size, seed, &record) != FORMAT_OK || record.length > size ||
	    !format_record_verify(&record, seed, bytes) || record.flush != shadow->flush + 1 ||
	    record.prev_checksum != shadow->checksum)
		return false;
	if (record.reset && !begin_anew(builder, record.prev_index, record.prev_term))
		return false;
	if (!cut_fits(builder, record.prev_index, record.prev_term))
		return false;
	if (builder->live && record.commit > record.prev_index + record.n_entries)
		sim_fail(builder->sim,
			 "%s: a record ends at entry %" PRIu64 " and says that entry %" PRIu64 " is committed",
			 builder->where, record.prev_index + record.n_entries, record.commit);
	sim_log_cut(&shadow->log, record.prev_index);
	struct sim_segment *segment = &shadow->segments[shadow->n_segments - 1];
	if ((record.prev_index > 0 || record.n_entries > 0) && record.prev_index < segment->lowest)
		segment->lowest = record.prev_index;
	add_entries(builder, &record, bytes);
	shadow->term = record.term;
	shadow->vote = record.vote;
	shadow->flush = record.flush;
	shadow->checksum = record.checksum;
	shadow->newest = shadow->offset;
	shadow->newest_entries = record.n_entries;
	shadow->newest_resets = record.reset;
	shadow->newest_us = builder->live ? builder->sim->now_us : 0;
	shadow->offset += record.length;
	return true;
}

/* From the platter's bytes --------------------------------------------------------------------------------- */

struct segment_file {
	uint64_t sequence;
	const uint8_t *bytes;
	uint64_t size;
};

struct found_files {
	const struct builder *builder;
	struct segment_file *segments;
	size_t n, capacity;
};

static void visit_file(void *arg, const char *name, const uint8_t *bytes, uint64_t size)
{
	struct found_files *files = arg;
	const struct builder *builder = files->builder;
	uint64_t number;
	if (sim_snapshot_parse_name(name, &number))
		sim_snapshot_add(builder->sim, builder->member, builder->shadow, number, bytes, size);
	if (!parse_segment(name, &number))
		return;
	raft_assert(files->n < SEGMENTS_MAX);
	if (files->n == files->capacity) {
		files->capacity = files->capacity * 2 + 8;
		files->segments = reallocarray(files->segments, files->capacity, sizeof *files->segments);
		raft_assert(files->segments != NULL);
	}
	files->segments[files->n++] = (struct segment_file){number, bytes, size};
}

static int compare_files(const void *a, const void *b)
{
	const struct segment_file *x = a, *y = b;
	return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static void build(const struct builder *builder)
{
	struct found_files files = {.builder = builder};
	bool whole = true;
	sim_platter_each(builder->sim->members[builder->member].disk_files, visit_file, &files);
	if (files.n > 0)
		qsort(files.segments, files.n, sizeof *files.segments, compare_files);
	for (size_t k = 0; k < files.n && whole; k++) {
		const struct segment_file *file = &files.segments[k];
		whole = open_segment(builder, file->bytes, file->size);
		while (whole &&
		       add_record(builder, file->bytes + builder->shadow->offset, file->size - builder->shadow->offset))
			continue;
	}
	free(files.segments);
}

void sim_durable_free(struct sim_shadow *shadow)
{
	free(shadow->log.entries);
	free(shadow->written.entries);
	free(shadow->segments);
	*shadow = (struct sim_shadow){0};
}

static void swap_logs(struct sim_shadow *shadow)
{
	struct sim_log log = shadow->log;
	shadow->log = shadow->written;
	shadow->written = log;
}

static void stop_resting(struct sim_shadow *shadow)
{
	raft_assert(shadow->rests_on_snapshot);
	shadow->rests_on_snapshot = false;
	swap_logs(shadow);
}

void sim_durable_rest(const struct sim_checks *checks, struct sim_shadow *shadow, uint64_t index)
{
	if (shadow->rests_on_snapshot && shadow->log.base == index)
		return;
	/* Newer than the one it rests on: a start syncs names that the crash had left to chance, that of a snapshot, too. */
	if (shadow->rests_on_snapshot)
		stop_resting(shadow);
	if (sim_log_at(checks, &shadow->log, index) == sim_check_committed_at(checks, index))
		return;
	swap_logs(shadow);
	sim_log_begin(&shadow->log, index);
	shadow->rests_on_snapshot = true;
}

void sim_durable_pass_over(const struct sim_checks *checks, struct sim_shadow *shadow, uint64_t index)
{
	stop_resting(shadow);
	const struct sim_snapshot *older = sim_snapshot_find(shadow, index);
	if (older != NULL && !older->refused)
		sim_durable_rest(checks, shadow, index);
}

/* A record header that verifies behind the end of the log. */
static void visit_behind(void *arg, const char *name, const uint8_t *bytes, uint64_t size)
{
	struct builder *builder = arg;
	const struct sim_shadow *shadow = builder->shadow;
	uint64_t sequence;
	if (!parse_segment(name, &sequence) || sequence != shadow->sequence)
		return;
	for (uint64_t at = shadow->offset + FORMAT_SECTOR; at < size; at += FORMAT_SECTOR) {
		struct format_record record;
		uint64_t seed = format_seed(&shadow->identity, sequence, at);
		builder->live |= format_record_decode(bytes + at, size - at, seed, &record) != FORMAT_BAD;
	}
}

bool sim_durable_build(struct sim *sim, unsigned member, struct sim_shadow *ret_built)
{
	struct builder builder = builder_of(sim, member, ret_built, false);
	build(&builder);
	sim_platter_each(sim->members[member].disk_files, visit_behind, &builder);
	sim_durable_rest(sim->checks, ret_built, sim_snapshot_newest_good(ret_built));
	return !builder.live;
}

bool sim_durable_newest(const struct sim *sim, unsigned member, struct sim_newest *ret_newest)
{
	const struct sim_shadow *shadow = &sim->checks->members[member].shadow;
	*ret_newest = (struct sim_newest){.sequence = shadow->sequence,
					  .offset = shadow->newest,
					  .size = shadow->offset - shadow->newest,
					  .n_entries = shadow->newest_entries};
	return shadow->newest > 0;
}

/* What was cut in front is gone for good, so flushes are counted, not entries. */
void sim_durable_restart(struct sim *sim, unsigned member)
{
	struct sim_shadow *shadow = &sim->checks->members[member].shadow;
	struct sim_shadow built = {0};
	struct builder builder = builder_of(sim, member, &built, false);
	if (sim->checks->members[member].retired)
		return;
	build(&builder);
	sim_durable_rest(sim->checks, &built, sim_snapshot_newest_good(&built));
	built.shrunk = built.flush < shadow->flush || built.sequence < shadow->sequence ||
		       sim_snapshot_newest(&built) < sim_snapshot_newest(shadow) ||
		       sim_segments_begin(&built) > sim_snapshot_newest_good(&built);
	sim_durable_free(shadow);
	*shadow = built;
}

/* What this directory promised may still arrive when it is not there any more. */
static void remember_former(struct sim_checks *checks, unsigned member)
{
	const struct sim_shadow *shadow = &checks->members[member].shadow;
	checks->former =
		sim_check_grow(checks->former, &checks->former_capacity, checks->n_former, sizeof *checks->former);
	checks->former[checks->n_former++] = (struct sim_former){.member = member,
								 .incarnation = shadow->identity.incarnation,
								 .term = shadow->term,
								 .vote = shadow->vote,
								 .last = sim_log_last(checks, &shadow->log)};
}

void sim_durable_wipe(struct sim *sim, unsigned member)
{
	struct sim_watch *watch = &sim->checks->members[member];
	remember_former(sim->checks, member);
	sim_durable_free(&watch->shadow);
	watch->retired = false;
	watch->forgotten = 0;
	watch->sent_term = watch->sent_vote_term = watch->sent_vote = 0;
}

/* It is there again: its platter says what it holds. */
static void forget_former(struct sim_checks *checks, unsigned member)
{
	uint64_t incarnation = checks->members[member].shadow.identity.incarnation;
	size_t kept = 0;
	for (size_t k = 0; k < checks->n_former; k++)
		if (checks->former[k].member != member || checks->former[k].incarnation != incarnation)
			checks->former[kept++] = checks->former[k];
	checks->n_former = kept;
}

void sim_durable_exchange(struct sim *sim, unsigned member)
{
	struct sim_watch *watch = &sim->checks->members[member];
	struct sim_put_away other = watch->away;
	raft_assert(!watch->retired && watch->forgotten == 0);
	if (watch->shadow.sequence > 0)
		remember_former(sim->checks, member);
	watch->away = (struct sim_put_away){.shadow = watch->shadow,
					    .sent_term = watch->sent_term,
					    .sent_vote_term = watch->sent_vote_term,
					    .sent_vote = watch->sent_vote};
	watch->shadow = other.shadow;
	watch->sent_term = other.sent_term;
	watch->sent_vote_term = other.sent_vote_term;
	watch->sent_vote = other.sent_vote;
	if (watch->shadow.sequence > 0)
		forget_former(sim->checks, member);
}

bool sim_durable_is_whole(const struct sim *sim, unsigned member)
{
	const struct sim_watch *watch = &sim->checks->members[member];
	return !watch->retired && watch->forgotten == 0 && !watch->shadow.shrunk && watch->shadow.sequence > 0 &&
	       watch->shadow.identity.incarnation == sim->members[member].incarnation;
}

void sim_durable_drop_away(struct sim *sim, unsigned member)
{
	struct sim_watch *watch = &sim->checks->members[member];
	sim_durable_free(&watch->away.shadow);
	watch->away = (struct sim_put_away){0};
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

/* What the platter holds before a job. A record cuts and adds in one: what it cuts and adds again was never gone. */
struct before_job {
	uint64_t term, vote;
	uint64_t committed; /* of the entries that it holds */
	uint64_t known;	    /* to the member */
	bool rested;
	uint64_t rested_on; /* that snapshot: not the newest, if the member could not read that */
};

/* What is written goes on from what is written, whatever a start would make of it. */
static struct before_job begin_job(const struct sim *sim, unsigned member)
{
	struct sim_shadow *shadow = &sim->checks->members[member].shadow;
	struct before_job before = {.term = shadow->term, .vote = shadow->vote, .rested = shadow->rests_on_snapshot};
	if (before.rested) {
		before.rested_on = shadow->log.base;
		stop_resting(shadow);
	}
	before.committed = sim_log_committed(sim->checks, &shadow->log);
	before.known = sim->members[member].up ? sim->checks->members[member].before.commit : 0;
	return before;
}

/* A member that was away may obey a leader of the past and cut what others have committed since; it has acknowledged none of that
 * to the leader that committed it, so enough others hold it. What it knew to be committed it keeps, in its log or in a snapshot: that may
 * be on the disk before what was to be written earlier. */
static void end_job(struct sim *sim, unsigned member, struct before_job before)
{
	struct sim_shadow *shadow = &sim->checks->members[member].shadow;
	uint64_t committed = sim_log_committed(sim->checks, &shadow->log);
	if (committed < before.committed)
		sim_check_survives(sim, before.committed);
	uint64_t kept = sim_snapshot_newest(shadow) > committed ? sim_snapshot_newest(shadow) : committed;
	if (kept < before.committed && kept < before.known)
		sim_fail(sim, "member %u removes committed entry %" PRIu64 " from its disk", member + 1, committed + 1);
	if (shadow->term < before.term ||
	    (shadow->term == before.term && before.vote != 0 && shadow->vote != before.vote))
		sim_fail(sim, "member %u: hard state goes back on its disk, from term %" PRIu64 " to %" PRIu64,
			 member + 1, before.term, shadow->term);
	if (before.rested)
		sim_durable_rest(sim->checks, shadow, before.rested_on);
}

void sim_durable_write(struct sim *sim, unsigned member, const char *name, uint64_t offset, const uint8_t *buf,
		       size_t size)
{
	struct sim_shadow *shadow = &sim->checks->members[member].shadow;
	uint64_t sequence = 0;
	if (sim->checks->members[member].retired || !parse_segment(name, &sequence) ||
	    is_rewrite(shadow, sequence, offset, buf, size))
		return;
	if (sequence != shadow->sequence || offset != shadow->offset)
		sim_fail(sim, "member %u writes to %s at %" PRIu64 ", its log ends in segment %" PRIu64 " at %" PRIu64,
			 member + 1, name, offset, shadow->sequence, shadow->offset);
	struct builder builder = builder_of(sim, member, shadow, true);
	struct before_job before = begin_job(sim, member);
	if (!add_record(&builder, buf, size))
		sim_fail(sim, "member %u writes to %s at %" PRIu64 " what does not continue its log", member + 1, name,
			 offset);
	end_job(sim, member, before);
}

struct named_file {
	const char *name;
	const uint8_t *bytes;
	uint64_t size;
};

static void visit_named(void *arg, const char *name, const uint8_t *bytes, uint64_t size)
{
	struct named_file *wanted = arg;
	if (strcmp(name, wanted->name) == 0)
		*wanted = (struct named_file){wanted->name, bytes, size};
}

static struct named_file find_file(struct sim *sim, unsigned member, const char *name)
{
	struct named_file file = {.name = name};
	sim_platter_each(sim->members[member].disk_files, visit_named, &file);
	return file;
}

static void begin_segment(struct sim *sim, unsigned member, const char *name)
{
	struct sim_shadow *shadow = &sim->checks->members[member].shadow;
	struct named_file file = find_file(sim, member, name);
	struct builder builder = builder_of(sim, member, shadow, true);
	struct before_job before = begin_job(sim, member);
	if (file.bytes == NULL || !open_segment(&builder, file.bytes, file.size))
		sim_fail(sim, "member %u begins %s, which does not continue its log", member + 1, name);
	end_job(sim, member, before);
}

void sim_durable_rename(struct sim *sim, unsigned member, const char *name, const char *new_name)
{
	struct sim_shadow *shadow = &sim->checks->members[member].shadow;
	uint64_t number;
	if (strcmp(name, new_name) == 0 || sim->checks->members[member].retired)
		return;
	if (parse_segment(name, &number))
		sim_segment_remove(sim, member, shadow, number);
	if (sim_snapshot_parse_name(name, &number))
		sim_snapshot_remove(sim, member, shadow, number);
	if (parse_segment(new_name, &number))
		begin_segment(sim, member, new_name);
	if (sim_snapshot_parse_name(new_name, &number)) {
		struct named_file file = find_file(sim, member, new_name);
		raft_assert(file.bytes != NULL);
		sim_snapshot_add(sim, member, shadow, number, file.bytes, file.size);
	}
}
