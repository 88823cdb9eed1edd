/*
 * The bytes of a snapshot file: a header, blocks of the state machine's bytes, a footer.
 *
 * Pure functions over bytes; README.md has the tables.  Every part's checksum is seeded with that of the part before, so
 * that a part is only good behind the very bytes it was written behind: a file can be verified from front to back, on
 * a disk or as it arrives from another member, and a piece of another snapshot never verifies in it.  Nothing in it
 * depends on the member that wrote it.
 *
 * What this must not know: files, disks, memory management, what the payload and the configuration mean.
 */
#ifndef RAFT_KV_STORAGE_SNAPSHOT_H
#define RAFT_KV_STORAGE_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SNAPSHOT_VERSION 2u /* the newest that is read; written only with a level that version 1 cannot say */
#define SNAPSHOT_HEADER_SIZE 64u /* the configuration follows */
#define SNAPSHOT_CONFIG_MAX (32u * 1024u)
#define SNAPSHOT_BLOCK_HEADER_SIZE 16u
#define SNAPSHOT_BLOCK_SIZE (256u * 1024u) /* the largest part, header included */
#define SNAPSHOT_PAYLOAD_MAX (SNAPSHOT_BLOCK_SIZE - SNAPSHOT_BLOCK_HEADER_SIZE)
#define SNAPSHOT_FOOTER_SIZE 40u

_Static_assert(SNAPSHOT_HEADER_SIZE + SNAPSHOT_CONFIG_MAX <= SNAPSHOT_BLOCK_SIZE, "every part fits into a block");

struct snapshot_header {
	uint64_t cluster_id;
	uint64_t index; /* of the last entry that is in the snapshot; never 0 */
	uint64_t term;	/* of that entry; never 0 */
	uint64_t config_index;
	uint32_t config_size;
	uint32_t level;	       /* version 2: the feature level that a program must know; 0 or 1: any does */
	const uint8_t *config; /* opaque */
};

/* What has been encoded, or verified, so far. */
struct snapshot_chain {
	uint64_t checksum; /* of the last part */
	uint64_t n_blocks;
	uint64_t payload_bytes;
	uint64_t offset; /* where the next part begins */
};

/* Encoding: each writes one part, whose bytes go to chain->offset, and moves the chain on. Returns the part's size. */
static inline size_t snapshot_header_size(uint32_t config_size)
{
	return SNAPSHOT_HEADER_SIZE + (((size_t)config_size + 7u) & ~(size_t)7u);
}
size_t snapshot_encode_header(struct snapshot_chain *ret_chain, const struct snapshot_header *header, uint8_t *buf);
/* The payload is in place behind SNAPSHOT_BLOCK_HEADER_SIZE bytes. */
size_t snapshot_seal_block(struct snapshot_chain *chain, uint8_t *buf, uint32_t payload_size);
size_t snapshot_encode_footer(struct snapshot_chain *chain, uint8_t *buf);

enum snapshot_part { SNAPSHOT_PART_HEADER, SNAPSHOT_PART_BLOCK, SNAPSHOT_PART_FOOTER };

struct snapshot_parser {
	struct snapshot_chain chain;   /* of the parts verified so far */
	bool started;		       /* the header was verified */
	bool done;		       /* the footer was */
	struct snapshot_header header; /* without the pointer to the configuration */
};

enum snapshot_result {
	SNAPSHOT_OK,
	SNAPSHOT_MORE,	/* the part is not complete */
	SNAPSHOT_BAD,	/* these bytes do not belong here, or are damaged */
	SNAPSHOT_NEWER, /* intact, and written by a newer version */
};

struct snapshot_found {
	enum snapshot_part part;
	size_t size;		/* of the part; with SNAPSHOT_MORE: at least so many bytes are needed */
	const uint8_t *payload; /* of a block; of the header: the configuration */
	uint32_t payload_size;
};

/* Verifies the part that begins at parser->chain.offset, of which len bytes are there. Moves the parser on if it is
 * complete and good; otherwise leaves it as it was. Not to be called when the parser is done. */
enum snapshot_result snapshot_parse(struct snapshot_parser *parser, const uint8_t *buf, size_t len,
				    struct snapshot_found *ret_found) __attribute__((warn_unused_result));

#endif
