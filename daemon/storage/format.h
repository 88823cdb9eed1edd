/*
 * The bytes of the log on disk: segment headers, flush records and the entries within them.
 *
 * Pure functions over bytes; README.md has the tables.  What this must not know: files, disks, memory management, what
 * the fields mean to Raft.  Every length is checked before it is used; a decoder never reads beyond what it was
 * given, whatever the bytes are.
 */
#ifndef RAFT_KV_STORAGE_FORMAT_H
#define RAFT_KV_STORAGE_FORMAT_H

#include "../entry.h"
#include "storage.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FORMAT_VERSION 3u	      /* the newest that is read; written only where it says more than the one before */
#define FORMAT_SECTOR 512u	      /* records begin at multiples of this: the unit that a disk writes whole */
#define FORMAT_PAGE 4096u	      /* writes end at multiples of this: the kernel never has to read first */
#define FORMAT_HEADER_SIZE 4096u      /* of a segment */
#define FORMAT_RECORD_HEADER_SIZE 96u /* entries follow */
#define FORMAT_ENTRY_HEADER_SIZE 24u  /* data follow, padded to a multiple of 8 */
#define FORMAT_RECORD_MIN FORMAT_SECTOR /* a record without entries */
#define FORMAT_RECORD_MAX STORAGE_FLUSH_BYTES_MAX

_Static_assert(FORMAT_RECORD_MAX % FORMAT_SECTOR == 0, "records are whole sectors");
_Static_assert(FORMAT_RECORD_HEADER_SIZE + FORMAT_ENTRY_HEADER_SIZE + RAFT_ENTRY_SIZE_MAX + 8u <= FORMAT_RECORD_MAX,
	       "one entry of the largest size fits into one record");
_Static_assert(FORMAT_HEADER_SIZE + FORMAT_RECORD_MAX <= STORAGE_SEGMENT_SIZE_MIN,
	       "a segment holds the largest record");

enum format_result {
	FORMAT_OK,
	FORMAT_BAD,   /* these bytes are not what was asked for, or are damaged */
	FORMAT_NEWER, /* intact, and written by a newer version */
};

/* Whose log it is.  Part of every checksum, so that another member's bytes never verify here. */
struct format_identity {
	uint64_t cluster_id;
	uint64_t member_id;
	uint64_t incarnation;
};

struct format_segment {
	struct format_identity identity;
	uint64_t sequence;
	uint64_t segment_size;
	uint64_t prev_flush;	/* number of the last flush before this segment, 0 if there is none */
	uint64_t prev_checksum; /* its checksum: the chain runs through all segments */
	uint64_t base_index;	/* the log is cut after this index, mostly its end, when the segment is made … */
	uint64_t base_term;
	uint64_t term; /* … and the hard state, so that older segments can be forgotten */
	uint64_t vote;
	uint64_t commit;
	bool reset; /* version 2: not cut but begun anew behind base_index; whatever was before is gone */
	uint32_t level; /* version 3: the feature level that a program must know; 0 or 1: any does */
};

struct format_record {
	uint32_t length; /* bytes on disk, a multiple of FORMAT_SECTOR */
	uint32_t n_entries;
	uint32_t entry_bytes; /* of the encoded entries, without the padding behind */
	uint64_t checksum;    /* of the header, and through body_checksum of everything */
	uint64_t body_checksum;
	uint64_t prev_checksum; /* of the record before this one, or of the segment's header */
	uint64_t flush;		/* consecutive over all segments */
	uint64_t term;
	uint64_t vote;
	uint64_t commit;
	uint64_t prev_index; /* the log is cut after this index; the entries follow it */
	uint64_t prev_term;  /* of the entry at prev_index */
	bool reset;	     /* version 2: the log begins anew behind prev_index, whatever it was before */
	uint32_t level;	     /* version 3: as above */
};

/* Fills exactly FORMAT_HEADER_SIZE bytes; returns the checksum in them. */
uint64_t format_segment_encode(const struct format_segment *segment, uint8_t *buf);
enum format_result format_segment_decode(const uint8_t *buf, size_t len, struct format_segment *ret_segment,
					 uint64_t *ret_checksum) __attribute__((warn_unused_result));

/* What a record's checksums start from: where it must be and to whom it must belong. */
uint64_t format_seed(const struct format_identity *identity, uint64_t sequence, uint64_t offset);

/* Bytes of one entry, and of a record that holds entry_bytes of them. */
static inline uint64_t format_entry_size(uint32_t size)
{
	return FORMAT_ENTRY_HEADER_SIZE + (((uint64_t)size + 7u) & ~(uint64_t)7u);
}

static inline uint64_t format_record_size(uint64_t entry_bytes)
{
	return (FORMAT_RECORD_HEADER_SIZE + entry_bytes + FORMAT_SECTOR - 1u) & ~(uint64_t)(FORMAT_SECTOR - 1u);
}

/* Writes one entry; buf has room for format_entry_size(entry->size). Returns the bytes written. */
size_t format_entry_encode(const struct raft_entry *entry, uint8_t *buf);
/* Reads one entry, whose data point into buf. Returns the bytes consumed, 0 if these bytes are no entry. */
size_t format_entry_decode(const uint8_t *buf, size_t len, struct raft_entry *ret_entry);

/* Completes a record whose entries are already in place behind the header: zeroes the padding, writes the header. Takes
 * length, n_entries, entry_bytes, prev_checksum and what follows it from *record, and sets both checksums in it. */
void format_record_seal(struct format_record *record, uint64_t seed, uint8_t *buf);
/* Checks the header alone, at least FORMAT_RECORD_HEADER_SIZE bytes: whoever passes was written here by us. */
enum format_result format_record_decode(const uint8_t *buf, size_t len, uint64_t seed, struct format_record *ret_record)
	__attribute__((warn_unused_result));
/* Checks what follows the header: checksum, and that the entries fill it exactly. buf holds record->length bytes. */
bool format_record_verify(const struct format_record *record, uint64_t seed, const uint8_t *buf)
	__attribute__((warn_unused_result));

#endif
