/*
 * Encoding and decoding of the log's bytes.  See format.h and the tables in README.md; the offsets below are
 * the only other place that knows them.
 */
#include "daemon/storage/format.h"

#include "daemon/assert.h"
#include "daemon/storage/bytes.h"

#include <string.h>
#include <xxhash.h>

static const uint8_t segment_magic[8] = {'R', 'A', 'F', 'T', 'K', 'V', 'S', 'G'};
static const uint8_t record_magic[4] = {'R', 'K', 'F', 'R'};

/* Segment header. */
enum {
	SEGMENT_AT_MAGIC = 0,
	SEGMENT_AT_VERSION = 8, /* u16; magic, version and checksum keep their places in every version to come */
	SEGMENT_AT_FLAGS = 10,	/* u16; zero in version 1 */
	SEGMENT_AT_SIZE = 12,	/* u32, of this header */
	SEGMENT_AT_CHECKSUM = 16,
	SEGMENT_AT_CLUSTER = 24,
	SEGMENT_AT_MEMBER = 32,
	SEGMENT_AT_INCARNATION = 40,
	SEGMENT_AT_SEQUENCE = 48,
	SEGMENT_AT_SEGMENT_SIZE = 56,
	SEGMENT_AT_PREV_FLUSH = 64,
	SEGMENT_AT_PREV_CHECKSUM = 72,
	SEGMENT_AT_BASE_INDEX = 80,
	SEGMENT_AT_BASE_TERM = 88,
	SEGMENT_AT_TERM = 96,
	SEGMENT_AT_VOTE = 104,
	SEGMENT_AT_COMMIT = 112,
	SEGMENT_AT_LEVEL = 120, /* u32; zero before version 3; keeps its place in every version to come */
	SEGMENT_AT_END = 124,	/* zeros up to FORMAT_HEADER_SIZE */
};

/* Record header. */
enum {
	RECORD_AT_MAGIC = 0,
	RECORD_AT_VERSION = 4, /* u16 */
	RECORD_AT_FLAGS = 6,   /* u16; zero in version 1 */
	RECORD_AT_LENGTH = 8,  /* u32 */
	RECORD_AT_N_ENTRIES = 12,
	RECORD_AT_CHECKSUM = 16,
	RECORD_AT_BODY_CHECKSUM = 24,
	RECORD_AT_PREV_CHECKSUM = 32,
	RECORD_AT_FLUSH = 40,
	RECORD_AT_TERM = 48,
	RECORD_AT_VOTE = 56,
	RECORD_AT_COMMIT = 64,
	RECORD_AT_PREV_INDEX = 72,
	RECORD_AT_PREV_TERM = 80,
	RECORD_AT_ENTRY_BYTES = 88, /* u32 */
	RECORD_AT_LEVEL = 92,	    /* u32; zero before version 3; keeps its place in every version to come */
};

#define FLAG_RESET 1u

/* Entry header. */
enum {
	ENTRY_AT_TERM = 0,
	ENTRY_AT_TIME = 8,
	ENTRY_AT_SIZE = 16, /* u32 */
	ENTRY_AT_TYPE = 20, /* u8, then three zero bytes */
};

_Static_assert(SEGMENT_AT_END <= FORMAT_HEADER_SIZE, "the fields fit into the segment header");
_Static_assert(RECORD_AT_LEVEL + 4 == FORMAT_RECORD_HEADER_SIZE, "the fields fill the record header");
_Static_assert(ENTRY_AT_TYPE + 4 == FORMAT_ENTRY_HEADER_SIZE, "the fields fill the entry header");

/* Only what version 1 cannot say bears a later one: a log that never needed it stays readable for older programs. */
static uint16_t version_of(bool reset, uint32_t level)
{
	if (level > RAFT_LEVEL_MIN)
		return 3;
	return reset ? 2 : 1;
}

/* Level 1 needs no saying. */
static uint32_t level_field(uint32_t level)
{
	return level > RAFT_LEVEL_MIN ? level : 0;
}

/* Version, flags and level of something intact that is not newer than we are. */
static bool is_consistent(uint16_t version, uint16_t flags, uint32_t level)
{
	return (flags & ~FLAG_RESET) == 0 && level_field(level) == level &&
	       version == version_of(flags == FLAG_RESET, level);
}

/* Segment ------------------------------------------------------------------------------------------- */

static uint64_t segment_checksum(const uint8_t *buf)
{
	uint8_t copy[FORMAT_HEADER_SIZE];
	memcpy(copy, buf, sizeof(copy));
	put64(copy + SEGMENT_AT_CHECKSUM, 0);
	return XXH3_64bits(copy, sizeof(copy));
}

uint64_t format_segment_encode(const struct format_segment *segment, uint8_t *buf)
{
	raft_assert(segment->segment_size > FORMAT_HEADER_SIZE);
	raft_assert(segment->sequence > 0);

	memset(buf, 0, FORMAT_HEADER_SIZE);
	memcpy(buf + SEGMENT_AT_MAGIC, segment_magic, sizeof(segment_magic));
	put16(buf + SEGMENT_AT_VERSION, version_of(segment->reset, segment->level));
	put32(buf + SEGMENT_AT_LEVEL, level_field(segment->level));
	put16(buf + SEGMENT_AT_FLAGS, segment->reset ? FLAG_RESET : 0);
	put32(buf + SEGMENT_AT_SIZE, FORMAT_HEADER_SIZE);
	put64(buf + SEGMENT_AT_CLUSTER, segment->identity.cluster_id);
	put64(buf + SEGMENT_AT_MEMBER, segment->identity.member_id);
	put64(buf + SEGMENT_AT_INCARNATION, segment->identity.incarnation);
	put64(buf + SEGMENT_AT_SEQUENCE, segment->sequence);
	put64(buf + SEGMENT_AT_SEGMENT_SIZE, segment->segment_size);
	put64(buf + SEGMENT_AT_PREV_FLUSH, segment->prev_flush);
	put64(buf + SEGMENT_AT_PREV_CHECKSUM, segment->prev_checksum);
	put64(buf + SEGMENT_AT_BASE_INDEX, segment->base_index);
	put64(buf + SEGMENT_AT_BASE_TERM, segment->base_term);
	put64(buf + SEGMENT_AT_TERM, segment->term);
	put64(buf + SEGMENT_AT_VOTE, segment->vote);
	put64(buf + SEGMENT_AT_COMMIT, segment->commit);
	uint64_t checksum = segment_checksum(buf);
	put64(buf + SEGMENT_AT_CHECKSUM, checksum);
	return checksum;
}

enum format_result format_segment_decode(const uint8_t *buf, size_t len, struct format_segment *ret_segment,
					 uint64_t *ret_checksum)
{
	if (len < FORMAT_HEADER_SIZE || memcmp(buf, segment_magic, sizeof(segment_magic)) != 0)
		return FORMAT_BAD;
	uint64_t checksum = get64(buf + SEGMENT_AT_CHECKSUM);
	if (checksum != segment_checksum(buf))
		return FORMAT_BAD;
	if (get16(buf + SEGMENT_AT_VERSION) > FORMAT_VERSION)
		return FORMAT_NEWER;
	if (!is_consistent(get16(buf + SEGMENT_AT_VERSION), get16(buf + SEGMENT_AT_FLAGS),
			   get32(buf + SEGMENT_AT_LEVEL)) ||
	    get32(buf + SEGMENT_AT_SIZE) != FORMAT_HEADER_SIZE)
		return FORMAT_BAD;
	struct format_segment segment = {
		.identity = {.cluster_id = get64(buf + SEGMENT_AT_CLUSTER),
			     .member_id = get64(buf + SEGMENT_AT_MEMBER),
			     .incarnation = get64(buf + SEGMENT_AT_INCARNATION)},
		.sequence = get64(buf + SEGMENT_AT_SEQUENCE),
		.segment_size = get64(buf + SEGMENT_AT_SEGMENT_SIZE),
		.prev_flush = get64(buf + SEGMENT_AT_PREV_FLUSH),
		.prev_checksum = get64(buf + SEGMENT_AT_PREV_CHECKSUM),
		.base_index = get64(buf + SEGMENT_AT_BASE_INDEX),
		.base_term = get64(buf + SEGMENT_AT_BASE_TERM),
		.term = get64(buf + SEGMENT_AT_TERM),
		.vote = get64(buf + SEGMENT_AT_VOTE),
		.commit = get64(buf + SEGMENT_AT_COMMIT),
		.reset = get16(buf + SEGMENT_AT_FLAGS) == FLAG_RESET,
		.level = get32(buf + SEGMENT_AT_LEVEL),
	};
	if (segment.sequence == 0 || segment.segment_size <= FORMAT_HEADER_SIZE ||
	    segment.segment_size > STORAGE_SEGMENT_SIZE_MAX || segment.segment_size % FORMAT_PAGE != 0 ||
	    (segment.base_index > 0 && segment.base_term == 0))
		return FORMAT_BAD;
	*ret_segment = segment;
	*ret_checksum = checksum;
	return FORMAT_OK;
}

/* Entry --------------------------------------------------------------------------------------------- */

size_t format_entry_encode(const struct raft_entry *entry, uint8_t *buf)
{
	size_t padded = (size_t)format_entry_size(entry->size);
	raft_assert(entry->size <= RAFT_ENTRY_SIZE_MAX);
	raft_assert(entry->term > 0);

	memset(buf + padded - 8, 0, 8); /* covers the padding; what else it covers is overwritten */
	put64(buf + ENTRY_AT_TERM, entry->term);
	put64(buf + ENTRY_AT_TIME, entry->time_ms);
	put32(buf + ENTRY_AT_SIZE, entry->size);
	put32(buf + ENTRY_AT_TYPE, entry->type); /* little-endian: the type, then three zeros */
	if (entry->size > 0)
		memcpy(buf + FORMAT_ENTRY_HEADER_SIZE, entry->data, entry->size);
	return padded;
}

size_t format_entry_decode(const uint8_t *buf, size_t len, struct raft_entry *ret_entry)
{
	if (len < FORMAT_ENTRY_HEADER_SIZE)
		return 0;
	struct raft_entry entry = {
		.term = get64(buf + ENTRY_AT_TERM),
		.time_ms = get64(buf + ENTRY_AT_TIME),
		.type = buf[ENTRY_AT_TYPE],
		.size = get32(buf + ENTRY_AT_SIZE),
		.data = buf + FORMAT_ENTRY_HEADER_SIZE,
	};
	if (entry.term == 0 || entry.size > RAFT_ENTRY_SIZE_MAX || get32(buf + ENTRY_AT_TYPE) > UINT8_MAX)
		return 0;
	uint64_t padded = format_entry_size(entry.size);
	if (padded > len)
		return 0;
	*ret_entry = entry;
	return (size_t)padded;
}

/* Record -------------------------------------------------------------------------------------------- */

uint64_t format_seed(const struct format_identity *identity, uint64_t sequence, uint64_t offset)
{
	uint8_t buf[40];
	raft_assert(offset % FORMAT_SECTOR == 0);
	raft_assert(offset >= FORMAT_HEADER_SIZE);
	put64(buf, identity->cluster_id);
	put64(buf + 8, identity->member_id);
	put64(buf + 16, identity->incarnation);
	put64(buf + 24, sequence);
	put64(buf + 32, offset);
	return XXH3_64bits(buf, sizeof(buf));
}

static uint64_t record_checksum(const uint8_t *buf, uint64_t seed)
{
	uint8_t copy[FORMAT_RECORD_HEADER_SIZE];
	memcpy(copy, buf, sizeof(copy));
	put64(copy + RECORD_AT_CHECKSUM, 0);
	return XXH3_64bits_withSeed(copy, sizeof(copy), seed);
}

static uint64_t body_checksum(const struct format_record *record, uint64_t seed, const uint8_t *buf)
{
	return XXH3_64bits_withSeed(buf + FORMAT_RECORD_HEADER_SIZE, record->length - FORMAT_RECORD_HEADER_SIZE, seed);
}

void format_record_seal(struct format_record *record, uint64_t seed, uint8_t *buf)
{
	size_t used = FORMAT_RECORD_HEADER_SIZE + (size_t)record->entry_bytes;
	raft_assert(record->length <= FORMAT_RECORD_MAX);
	raft_assert(record->length == format_record_size(record->entry_bytes));
	raft_assert((record->n_entries == 0) == (record->entry_bytes == 0));

	memset(buf + used, 0, record->length - used);
	record->body_checksum = body_checksum(record, seed, buf);
	memset(buf, 0, FORMAT_RECORD_HEADER_SIZE);
	memcpy(buf + RECORD_AT_MAGIC, record_magic, sizeof(record_magic));
	put16(buf + RECORD_AT_VERSION, version_of(record->reset, record->level));
	put32(buf + RECORD_AT_LEVEL, level_field(record->level));
	put16(buf + RECORD_AT_FLAGS, record->reset ? FLAG_RESET : 0);
	put32(buf + RECORD_AT_LENGTH, record->length);
	put32(buf + RECORD_AT_N_ENTRIES, record->n_entries);
	put64(buf + RECORD_AT_BODY_CHECKSUM, record->body_checksum);
	put64(buf + RECORD_AT_PREV_CHECKSUM, record->prev_checksum);
	put64(buf + RECORD_AT_FLUSH, record->flush);
	put64(buf + RECORD_AT_TERM, record->term);
	put64(buf + RECORD_AT_VOTE, record->vote);
	put64(buf + RECORD_AT_COMMIT, record->commit);
	put64(buf + RECORD_AT_PREV_INDEX, record->prev_index);
	put64(buf + RECORD_AT_PREV_TERM, record->prev_term);
	put32(buf + RECORD_AT_ENTRY_BYTES, record->entry_bytes);
	record->checksum = record_checksum(buf, seed);
	put64(buf + RECORD_AT_CHECKSUM, record->checksum);
}

enum format_result format_record_decode(const uint8_t *buf, size_t len, uint64_t seed, struct format_record *ret_record)
{
	if (len < FORMAT_RECORD_HEADER_SIZE || memcmp(buf, record_magic, sizeof(record_magic)) != 0)
		return FORMAT_BAD;
	if (get64(buf + RECORD_AT_CHECKSUM) != record_checksum(buf, seed))
		return FORMAT_BAD;
	if (get16(buf + RECORD_AT_VERSION) > FORMAT_VERSION)
		return FORMAT_NEWER;
	struct format_record record = {
		.length = get32(buf + RECORD_AT_LENGTH),
		.n_entries = get32(buf + RECORD_AT_N_ENTRIES),
		.entry_bytes = get32(buf + RECORD_AT_ENTRY_BYTES),
		.checksum = get64(buf + RECORD_AT_CHECKSUM),
		.body_checksum = get64(buf + RECORD_AT_BODY_CHECKSUM),
		.prev_checksum = get64(buf + RECORD_AT_PREV_CHECKSUM),
		.flush = get64(buf + RECORD_AT_FLUSH),
		.term = get64(buf + RECORD_AT_TERM),
		.vote = get64(buf + RECORD_AT_VOTE),
		.commit = get64(buf + RECORD_AT_COMMIT),
		.prev_index = get64(buf + RECORD_AT_PREV_INDEX),
		.prev_term = get64(buf + RECORD_AT_PREV_TERM),
		.reset = get16(buf + RECORD_AT_FLAGS) == FLAG_RESET,
		.level = get32(buf + RECORD_AT_LEVEL),
	};
	if (!is_consistent(get16(buf + RECORD_AT_VERSION), get16(buf + RECORD_AT_FLAGS),
			   get32(buf + RECORD_AT_LEVEL)) ||
	    record.length > FORMAT_RECORD_MAX || record.entry_bytes > FORMAT_RECORD_MAX - FORMAT_RECORD_HEADER_SIZE ||
	    record.length != format_record_size(record.entry_bytes) ||
	    record.prev_index > UINT64_MAX - record.n_entries || (record.prev_index > 0 && record.prev_term == 0))
		return FORMAT_BAD;
	*ret_record = record;
	return FORMAT_OK;
}

bool format_record_verify(const struct format_record *record, uint64_t seed, const uint8_t *buf)
{
	raft_assert(record->length >= FORMAT_RECORD_MIN && record->length <= FORMAT_RECORD_MAX);
	if (record->body_checksum != body_checksum(record, seed, buf))
		return false;
	const uint8_t *at = buf + FORMAT_RECORD_HEADER_SIZE;
	size_t left = record->entry_bytes;
	for (uint32_t i = 0; i < record->n_entries; i++) {
		struct raft_entry entry;
		size_t n = format_entry_decode(at, left, &entry);
		if (n == 0)
			return false;
		at += n;
		left -= n;
	}
	return left == 0;
}
