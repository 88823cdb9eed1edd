/*
 * What is done to a copy of a directory, and what must come of it. Bytes are changed as other hands would: checksums fit, where they
 * do not tell what is wrong. Places and checksums are those of daemon/storage/README.md.
 *
 * The newest record is left alone: damage to it looks like a write that was torn.
 */
#include "copies.h"

#include "check.h"

#include "daemon/assert.h"
#include "daemon/storage/format.h"
#include "daemon/storage/snapshot.h"

#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SEGMENTS_MAX 256u
#define SEGMENT_AT_VERSION 8u
#define SEGMENT_AT_CHECKSUM 16u
#define SEGMENT_AT_END 124u
#define RECORD_AT_VERSION 4u
#define RECORD_AT_CHECKSUM 16u
#define SNAPSHOT_AT_VERSION 8u
#define SNAPSHOT_AT_CHECKSUM 16u
#define SNAPSHOT_AT_CLUSTER 24u

/* Finding ---------------------------------------------------------------------------------------------- */

struct found {
	struct copy_file *files[SEGMENTS_MAX]; /* by name */
	unsigned n;
};

static void add_file(struct found *found, struct copy_file *file)
{
	if (found->n == SEGMENTS_MAX)
		return;
	unsigned at = found->n++;
	for (; at > 0 && strcmp(found->files[at - 1]->name, file->name) > 0; at--)
		found->files[at] = found->files[at - 1];
	found->files[at] = file;
}

static void find_segments(const struct copy *copy, struct found *ret)
{
	ret->n = 0;
	for (size_t k = 0; k < copy->n_files; k++)
		if (strlen(copy->files[k].name) == strlen("segment-0000000000000000") &&
		    strncmp(copy->files[k].name, "segment-", 8) == 0)
			add_file(ret, &copy->files[k]);
}

static void find_snapshots(const struct copy *copy, struct found *ret)
{
	uint64_t index;
	ret->n = 0;
	for (size_t k = 0; k < copy->n_files; k++)
		if (sim_snapshot_parse_name(copy->files[k].name, &index))
			add_file(ret, &copy->files[k]);
}

static uint64_t below(struct experiment *experiment, uint64_t bound)
{
	return sim_random_below(&experiment->random, bound);
}

static void decode_segment(const struct copy_file *file, struct format_segment *ret)
{
	uint64_t checksum;
	enum format_result r = format_segment_decode(file->bytes, file->size, ret, &checksum);
	raft_assert(r == FORMAT_OK);
}

/* The log in the segment, as far as it goes: true, and the record at *offset; offset 0 begins. */
static bool next_record(const struct copy_file *file, uint64_t *offset, struct format_record *record)
{
	struct format_segment segment;
	decode_segment(file, &segment);
	uint64_t at = *offset == 0 ? FORMAT_HEADER_SIZE : *offset + record->length;
	if (at >= file->size)
		return false;
	uint64_t seed = format_seed(&segment.identity, segment.sequence, at);
	if (format_record_decode(file->bytes + at, file->size - at, seed, record) != FORMAT_OK ||
	    record->length > file->size - at || !format_record_verify(record, seed, file->bytes + at))
		return false;
	*offset = at;
	return true;
}

/* Where the newest record begins and ends; both the file's size when the segment has none. */
static void find_newest(const struct copy_file *last, uint64_t *ret_from, uint64_t *ret_to)
{
	struct format_record record;
	uint64_t offset = 0;
	*ret_from = *ret_to = last->size;
	while (next_record(last, &offset, &record)) {
		*ret_from = offset;
		*ret_to = offset + record.length;
	}
}

/* Does the segment cut the log behind this index or in front of it, when it is made or with one of its records? */
static bool cuts_to(const struct copy_file *file, uint64_t index)
{
	struct format_segment segment;
	struct format_record record;
	uint64_t offset = 0;
	decode_segment(file, &segment);
	bool cuts = segment.base_index <= index;
	while (!cuts && next_record(file, &offset, &record))
		cuts = record.prev_index <= index;
	return cuts;
}

/* Without the oldest segment the log begins behind the base of the next one, unless it is cut in front of that later: a snapshot
 * must reach so far. */
static bool begins_too_late(const struct experiment *experiment, const struct found *found)
{
	struct found snapshots;
	uint64_t newest = 0;
	find_snapshots(&experiment->copy, &snapshots);
	if (snapshots.n > 0)
		(void)sim_snapshot_parse_name(snapshots.files[snapshots.n - 1]->name, &newest);
	for (unsigned k = 1; k < found->n; k++)
		if (cuts_to(found->files[k], newest))
			return false;
	return true;
}

/* Files ------------------------------------------------------------------------------------------------ */

static bool lose_segment(struct experiment *experiment)
{
	struct found found;
	find_segments(&experiment->copy, &found);
	if (found.n < 2)
		return false;
	uint64_t k = below(experiment, found.n - 1);
	experiment->what = k > 0 ? "without a segment" : "without its oldest segment";
	experiment->may_die = true;
	if (k > 0 || begins_too_late(experiment, &found))
		experiment->expected = STORAGE_E_CORRUPT;
	experiment->is_damaged = experiment->expected != ANYTHING;
	copy_remove(&experiment->copy, found.files[k]->name);
	return true;
}

static bool swap_segments(struct experiment *experiment)
{
	struct found found;
	find_segments(&experiment->copy, &found);
	if (found.n < 2)
		return false;
	struct copy_file *one = found.files[below(experiment, found.n - 1)], *other = found.files[found.n - 1];
	struct copy_file was = *one;
	one->bytes = other->bytes;
	one->size = other->size;
	other->bytes = was.bytes;
	other->size = was.size;
	experiment->what = "with two segments exchanged";
	experiment->expected = STORAGE_E_CORRUPT;
	experiment->is_damaged = true;
	return true;
}

static bool resize_segment(struct experiment *experiment)
{
	struct found found;
	find_segments(&experiment->copy, &found);
	if (found.n == 0)
		return false;
	struct copy_file *file = found.files[below(experiment, found.n)];
	bool cut = below(experiment, 2) == 0;
	copy_resize(file, cut ? below(experiment, file->size) : file->size + 1 + below(experiment, 8192));
	experiment->what = cut ? "with a segment cut" : "with a segment that has grown";
	experiment->may_die = true;
	experiment->expected = STORAGE_E_CORRUPT;
	experiment->is_damaged = true;
	return true;
}

static bool harm_snapshot(struct experiment *experiment)
{
	struct found found;
	uint64_t index, how = below(experiment, 3);
	char name[PLATTER_NAME_MAX];
	find_snapshots(&experiment->copy, &found);
	if (found.n == 0)
		return false;
	struct copy_file *file = found.files[below(experiment, found.n)];
	(void)sim_snapshot_parse_name(file->name, &index);
	(void)snprintf(name, sizeof name, "snapshot-%016" PRIx64, index + 1);
	if (how == 0) {
		experiment->what = "without a snapshot";
		copy_remove(&experiment->copy, file->name);
	} else if (how == 1) {
		experiment->what = "with a snapshot that has grown";
		experiment->is_damaged = true;
		copy_resize(file, file->size + 1 + below(experiment, 100));
	} else if (copy_find(&experiment->copy, name) == NULL) {
		experiment->what = "with another snapshot's name";
		experiment->is_damaged = true;
		copy_rename(&experiment->copy, file->name, name);
	} else {
		return false;
	}
	return true;
}

/* Anywhere, but for the newest record. */
static bool flip_bits(struct experiment *experiment)
{
	struct found found;
	uint64_t from, to;
	find_segments(&experiment->copy, &found);
	if (found.n == 0)
		return false;
	const struct copy_file *last = found.files[found.n - 1];
	find_newest(last, &from, &to);
	for (uint64_t n = 1 + below(experiment, 4); n > 0; n--) {
		struct copy_file *file = &experiment->copy.files[below(experiment, experiment->copy.n_files)];
		uint64_t at = file->size > 0 ? below(experiment, file->size) : 0;
		if (file->size > 0 && (file != last || at < from || at >= to))
			file->bytes[at] ^= (uint8_t)(1u << below(experiment, 8));
	}
	experiment->what = "with bits flipped";
	experiment->may_die = true;
	return true;
}

/* One of the records, and where it is; false: there is none. */
static bool choose_record(struct experiment *experiment, const struct copy_file *file, struct format_record *ret,
			  uint64_t *ret_offset)
{
	struct format_record record;
	uint64_t offset = 0, seen = 0;
	while (next_record(file, &offset, &record))
		if (below(experiment, ++seen) == 0) {
			*ret = record;
			*ret_offset = offset;
		}
	return seen > 0;
}

/* The disk writes a record once more, to another place of its segment. Behind the end of the log, where the next one would begin or
 * later, it is nothing, and nobody misses anything; over another record it is damage. */
bool sim_copy_misplace(struct experiment *experiment)
{
	struct found found;
	struct format_record record, other;
	uint64_t offset, from, end, place = 0;
	find_segments(&experiment->copy, &found);
	if (found.n == 0)
		return false;
	bool behind = below(experiment, 2) == 0;
	struct copy_file *last = found.files[found.n - 1];
	struct copy_file *file = behind ? last : found.files[below(experiment, found.n)];
	if (!choose_record(experiment, file, &record, &offset))
		return false;
	find_newest(last, &from, &end);
	if (behind) {
		if (record.length > last->size - end)
			return false;
		place = end + below(experiment, (last->size - end - record.length) / FORMAT_SECTOR + 1) * FORMAT_SECTOR;
	} else if (!choose_record(experiment, file, &other, &place) || place == offset ||
		   record.length > file->size - place || (file == last && place + record.length > from)) {
		return false;
	}
	memmove(file->bytes + place, file->bytes + offset, record.length);
	experiment->what = behind ? "with a record also behind its end" : "with a record over another";
	experiment->expected = behind ? 0 : STORAGE_E_CORRUPT;
	experiment->is_damaged = !behind;
	experiment->may_die = true;
	return true;
}

/* No later segment covers that: if it is set aside, all is. What was in front of it would make a good log that ends too early. */
bool sim_copy_lose_newest_header(struct experiment *experiment)
{
	struct found found;
	find_segments(&experiment->copy, &found);
	if (found.n < 2)
		return false;
	memset(found.files[found.n - 1]->bytes, 0, FORMAT_HEADER_SIZE);
	experiment->what = "without its newest segment's header";
	experiment->expected = STORAGE_E_CORRUPT;
	experiment->is_damaged = experiment->may_die = true;
	return true;
}

/* Of its log only that segment is left, whose records are gone, as if none of them had ever been written; and of its snapshots these,
 * older: if not NULL, of which the newest does not verify. */
static void leave_rotten_snapshot(struct experiment *experiment, struct copy_file *segment, struct copy_file *older,
				  struct copy_file *newest)
{
	struct copy left;
	memset(segment->bytes + FORMAT_HEADER_SIZE, 0, segment->size - FORMAT_HEADER_SIZE);
	newest->bytes[below(experiment, newest->size)] ^= (uint8_t)(1u << below(experiment, 8));
	copy_init(&left);
	(void)copy_put(&left, segment->name, segment->bytes, segment->size);
	if (older != NULL)
		(void)copy_put(&left, older->name, older->bytes, older->size);
	(void)copy_put(&left, newest->name, newest->bytes, newest->size);
	copy_fini(&experiment->copy);
	experiment->copy = left;
	experiment->expected = STORAGE_E_CORRUPT;
	experiment->is_damaged = experiment->may_die = true;
}

/* All that is left is a snapshot that does not verify; the records are gone, as if none of them had ever been written. What it
 * stood for would be forgotten, and come back if it is ever read again. */
bool sim_copy_leave_rotten_snapshot(struct experiment *experiment)
{
	struct found segments, snapshots;
	find_segments(&experiment->copy, &segments);
	find_snapshots(&experiment->copy, &snapshots);
	if (segments.n == 0 || snapshots.n == 0)
		return false;
	leave_rotten_snapshot(experiment, segments.files[0], NULL, snapshots.files[snapshots.n - 1]);
	experiment->what = "with nothing but a snapshot that does not verify";
	return true;
}

/* The log of what is left ends before the newest snapshot, which does not verify: it may have begun anew behind that, and the record
 * that said so was cut like a torn one. An older snapshot is as good as ever, and is not all that the member had. */
bool sim_copy_end_before_rotten_snapshot(struct experiment *experiment)
{
	struct found segments, snapshots;
	struct format_segment segment;
	uint64_t older_index = 0;
	find_segments(&experiment->copy, &segments);
	find_snapshots(&experiment->copy, &snapshots);
	if (segments.n == 0 || snapshots.n < 2)
		return false;
	struct copy_file *first = segments.files[0], *older = snapshots.files[snapshots.n - 2];
	decode_segment(first, &segment);
	(void)sim_snapshot_parse_name(older->name, &older_index);
	if (segment.base_index > older_index)
		return false;
	leave_rotten_snapshot(experiment, first, older, snapshots.files[snapshots.n - 1]);
	experiment->what = "with a log that ends before a snapshot that does not verify";
	return true;
}

/* Nothing but snapshots: the log is lost. They are another cluster's, in half of the cases, and then nothing of them is given up. */
bool sim_copy_leave_snapshots(struct experiment *experiment)
{
	struct found segments, snapshots;
	bool others = below(experiment, 2) == 0;
	find_segments(&experiment->copy, &segments);
	find_snapshots(&experiment->copy, &snapshots);
	if (segments.n == 0 || snapshots.n == 0)
		return false;
	while (segments.n > 0) {
		copy_remove(&experiment->copy, segments.files[0]->name);
		find_segments(&experiment->copy, &segments);
	}
	if (others)
		experiment->options.cluster_id++;
	experiment->what = others ? "with nothing but another cluster's snapshots" : "with nothing but snapshots";
	experiment->expected = others ? STORAGE_E_WRONG_CLUSTER : STORAGE_E_CORRUPT;
	experiment->is_damaged = experiment->may_die = !others;
	return true;
}

/* Other hands ------------------------------------------------------------------------------------------ */

static bool mistake_owner(struct experiment *experiment)
{
	struct found found;
	find_segments(&experiment->copy, &found);
	if (found.n == 0)
		return false;
	bool cluster = below(experiment, 2) == 0;
	if (cluster)
		experiment->options.cluster_id++;
	else
		experiment->options.member_id++;
	experiment->what = cluster ? "opened in another cluster" : "opened by another member";
	experiment->expected = STORAGE_E_WRONG_CLUSTER;
	return true;
}

/* A segment of another life of the member, of another one, or of another cluster, behind others or alone. */
static bool mix_segments(struct experiment *experiment)
{
	struct found found;
	struct format_segment segment;
	find_segments(&experiment->copy, &found);
	if (found.n < 2)
		return false;
	struct copy_file *file = found.files[1 + below(experiment, found.n - 1)];
	decode_segment(file, &segment);
	uint64_t how = below(experiment, 3);
	if (how == 0)
		segment.identity.incarnation ^= 1;
	else if (how == 1)
		segment.identity.member_id++;
	else
		segment.identity.cluster_id++;
	(void)format_segment_encode(&segment, file->bytes);
	experiment->what = how == 0 ? "with a segment of an earlier life" : "with a segment of somebody else";
	experiment->expected = how == 0 ? STORAGE_E_CORRUPT : STORAGE_E_WRONG_CLUSTER;
	experiment->is_damaged = true;
	return true;
}

/* A record that verifies and does not fit. */
static bool forge_record(struct experiment *experiment)
{
	struct found found;
	struct format_segment segment;
	struct format_record record, chosen;
	uint64_t offset = 0, chosen_at = 0, seen = 0;
	find_segments(&experiment->copy, &found);
	if (found.n == 0)
		return false;
	struct copy_file *file = found.files[below(experiment, found.n)];
	while (next_record(file, &offset, &record))
		if (below(experiment, ++seen) == 0) {
			chosen = record;
			chosen_at = offset;
		}
	if (seen == 0 || chosen.reset)
		return false;
	decode_segment(file, &segment);
	uint64_t how = below(experiment, 3);
	if (how == 0)
		chosen.flush++;
	else if (how == 1)
		chosen.prev_index += 1000000, chosen.prev_term += chosen.prev_term == 0;
	else
		chosen.prev_term++;
	experiment->what = how == 0 ? "with a record left out" : how == 1 ? "with a longer log" : "with another log";
	if (how < 2)
		experiment->expected = STORAGE_E_CORRUPT;
	experiment->is_damaged = how < 2;
	format_record_seal(&chosen, format_seed(&segment.identity, segment.sequence, chosen_at),
			   file->bytes + chosen_at);
	return true;
}

/* A number in a header, and the checksum that fits: of the header, then of what follows it with that as its seed. */
static void seal_header(uint8_t *header, size_t size, size_t at_checksum, size_t behind, uint64_t seed)
{
	memset(header + at_checksum, 0, sizeof(uint64_t));
	uint64_t checksum = XXH3_64bits_withSeed(header, size, seed);
	if (behind > 0)
		checksum = XXH3_64bits_withSeed(header + size, behind, checksum);
	checksum = htole64(checksum);
	memcpy(header + at_checksum, &checksum, sizeof checksum);
}

/* Any number in a header is another one, as a program with a bug would write it. All that can be asked for is that it is survived. */
static bool write_nonsense(struct experiment *experiment)
{
	struct found found;
	struct format_segment segment;
	struct format_record record;
	uint64_t offset = 0, chosen = 0, seen = 0;
	find_segments(&experiment->copy, &found);
	if (found.n == 0)
		return false;
	struct copy_file *file = found.files[below(experiment, found.n)];
	decode_segment(file, &segment);
	while (next_record(file, &offset, &record))
		if (below(experiment, ++seen) == 0)
			chosen = offset;
	uint8_t *header = file->bytes + chosen;
	size_t from = chosen == 0 ? SEGMENT_AT_CHECKSUM + 8 : RECORD_AT_CHECKSUM + 8;
	size_t to = chosen == 0 ? SEGMENT_AT_END : FORMAT_RECORD_HEADER_SIZE;
	for (uint64_t n = 1 + below(experiment, 3); n > 0; n--)
		header[from + below(experiment, to - from)] =
			below(experiment, 2) == 0 ? 0 : (uint8_t)below(experiment, 256);
	if (chosen == 0)
		seal_header(header, FORMAT_HEADER_SIZE, SEGMENT_AT_CHECKSUM, 0, 0);
	else
		seal_header(header, FORMAT_RECORD_HEADER_SIZE, RECORD_AT_CHECKSUM, 0,
			    format_seed(&segment.identity, segment.sequence, chosen));
	experiment->what = "with nonsense in it";
	experiment->is_nonsense = true;
	return true;
}

static bool age_segment(struct experiment *experiment)
{
	struct found found;
	struct format_segment segment;
	find_segments(&experiment->copy, &found);
	if (found.n == 0)
		return false;
	struct copy_file *file = found.files[below(experiment, found.n)];
	decode_segment(file, &segment);
	segment.level = SIM_LEVEL_MAX + 1;
	(void)format_segment_encode(&segment, file->bytes);
	if (below(experiment, 2) == 0) {
		file->bytes[SEGMENT_AT_VERSION]++;
		seal_header(file->bytes, FORMAT_HEADER_SIZE, SEGMENT_AT_CHECKSUM, 0, 0);
		experiment->is_damaged = true; /* the check cannot read it */
	}
	experiment->what = "with a segment of a newer version";
	experiment->expected = STORAGE_E_VERSION;
	return true;
}

static bool age_record(struct experiment *experiment)
{
	struct found found;
	struct format_segment segment;
	struct format_record record;
	uint64_t offset = 0;
	find_segments(&experiment->copy, &found);
	if (found.n == 0 || !next_record(found.files[found.n - 1], &offset, &record))
		return false;
	struct copy_file *file = found.files[found.n - 1];
	decode_segment(file, &segment);
	uint64_t seed = format_seed(&segment.identity, segment.sequence, offset);
	record.level = SIM_LEVEL_MAX + 1;
	format_record_seal(&record, seed, file->bytes + offset);
	if (below(experiment, 2) == 0) {
		file->bytes[offset + RECORD_AT_VERSION]++;
		seal_header(file->bytes + offset, FORMAT_RECORD_HEADER_SIZE, RECORD_AT_CHECKSUM, 0, seed);
		experiment->is_damaged = true;
	}
	experiment->what = "with a record of a newer version";
	experiment->expected = STORAGE_E_VERSION;
	return true;
}

static bool change_snapshot(struct experiment *experiment)
{
	struct found found;
	struct snapshot_parser parser = {0};
	struct snapshot_found part;
	find_snapshots(&experiment->copy, &found);
	if (found.n == 0)
		return false;
	struct copy_file *file = found.files[found.n - 1];
	enum snapshot_result r = snapshot_parse(&parser, file->bytes, file->size, &part);
	raft_assert(r == SNAPSHOT_OK);
	bool newer = below(experiment, 2) == 0;
	if (newer)
		file->bytes[SNAPSHOT_AT_VERSION] = SNAPSHOT_VERSION + 1;
	else
		file->bytes[SNAPSHOT_AT_CLUSTER] ^= 1;
	seal_header(file->bytes, SNAPSHOT_HEADER_SIZE, SNAPSHOT_AT_CHECKSUM, part.size - SNAPSHOT_HEADER_SIZE, 0);
	experiment->what =
		newer ? "with a snapshot of a newer version" : "with a snapshot of another cluster, cut short";
	if (newer)
		experiment->expected = STORAGE_E_VERSION;
	experiment->is_damaged = true; /* the parts behind do not follow such a header */
	return true;
}

/* The disk --------------------------------------------------------------------------------------------- */

static bool break_disk(struct experiment *experiment)
{
	experiment->copy.fails_at = 1 + below(experiment, 1 + below(experiment, 60));
	experiment->copy.done_all_the_same = below(experiment, 2) == 0;
	experiment->what = "on a disk that fails";
	return true;
}

/* As before its first start, and there may be no room. */
static bool begin_anew(struct experiment *experiment)
{
	struct copy empty;
	copy_init(&empty);
	copy_fini(&experiment->copy);
	experiment->copy = empty;
	experiment->begins = true;
	if (below(experiment, 2) == 0)
		experiment->copy.full = true;
	else
		(void)break_disk(experiment);
	experiment->what = "emptied, on a disk that fails or is full";
	return true;
}

bool sim_copy_harm(struct experiment *experiment)
{
	static bool (*const table[])(struct experiment *) = {
		lose_segment,  swap_segments,	resize_segment, harm_snapshot,	flip_bits,
		mistake_owner, mix_segments,	forge_record,	write_nonsense, age_segment,
		age_record,    change_snapshot, break_disk,	begin_anew,
	};
	return table[below(experiment, sizeof table / sizeof *table)](experiment);
}
