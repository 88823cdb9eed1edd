/*
 * Encoding and verifying of a snapshot file's bytes.  See snapshot.h and the tables in README.md; the offsets below are
 * the only other place that knows them.
 */
#include "daemon/storage/snapshot.h"

#include "daemon/assert.h"
#include "daemon/entry.h"
#include "daemon/storage/bytes.h"

#include <string.h>
#include <xxhash.h>

static const uint8_t header_magic[8] = {'R', 'A', 'F', 'T', 'K', 'V', 'S', 'N'};
static const uint8_t block_magic[4] = {'R', 'K', 'S', 'B'};
static const uint8_t footer_magic[4] = {'R', 'K', 'S', 'F'};

enum {
	HEADER_AT_MAGIC = 0,
	HEADER_AT_VERSION = 8, /* u16; magic, version, size and checksum keep their places in every version to come */
	HEADER_AT_SIZE = 12,   /* u32, with the configuration and its padding */
	HEADER_AT_CHECKSUM = 16,
	HEADER_AT_CLUSTER = 24,
	HEADER_AT_INDEX = 32,
	HEADER_AT_TERM = 40,
	HEADER_AT_CONFIG_INDEX = 48,
	HEADER_AT_CONFIG_SIZE = 56, /* u32 */
	HEADER_AT_LEVEL = 60,	    /* u32; zero in version 1; keeps its place in every version to come */
};

/* Blocks and the footer begin alike: the checksum covers everything behind itself. */
enum {
	PART_AT_CHECKSUM = 0,
	PART_AT_MAGIC = 8,
	BLOCK_AT_SIZE = 12,  /* u32, of the payload */
	FOOTER_AT_ZERO = 12, /* u32 */
	FOOTER_AT_BLOCKS = 16,
	FOOTER_AT_PAYLOAD = 24,
	FOOTER_AT_LENGTH = 32, /* of the whole file */
};

_Static_assert(HEADER_AT_LEVEL + 4 == SNAPSHOT_HEADER_SIZE, "the fields fill the header");
_Static_assert(FOOTER_AT_LENGTH + 8 == SNAPSHOT_FOOTER_SIZE, "the fields fill the footer");
_Static_assert(BLOCK_AT_SIZE + 4 == SNAPSHOT_BLOCK_HEADER_SIZE, "the fields fill the block's header");

/* The checksum's own field counts as zeros. */
static uint64_t header_checksum(const uint8_t *buf, size_t size)
{
	uint8_t copy[SNAPSHOT_HEADER_SIZE];
	memcpy(copy, buf, sizeof(copy));
	put64(copy + HEADER_AT_CHECKSUM, 0);
	uint64_t seed = XXH3_64bits(copy, sizeof(copy));
	return XXH3_64bits_withSeed(buf + SNAPSHOT_HEADER_SIZE, size - SNAPSHOT_HEADER_SIZE, seed);
}

static uint64_t part_checksum(const uint8_t *buf, size_t size, uint64_t before)
{
	return XXH3_64bits_withSeed(buf + PART_AT_MAGIC, size - PART_AT_MAGIC, before);
}

static uint16_t version_of(uint32_t level)
{
	return level > RAFT_LEVEL_MIN ? 2 : 1;
}

/* Encoding ------------------------------------------------------------------------------------------- */

size_t snapshot_encode_header(struct snapshot_chain *ret_chain, const struct snapshot_header *header, uint8_t *buf)
{
	size_t size = snapshot_header_size(header->config_size);
	raft_assert(header->index > 0 && header->term > 0);
	raft_assert(header->config_size <= SNAPSHOT_CONFIG_MAX);
	raft_assert(header->config_index <= header->index);

	memset(buf, 0, size);
	memcpy(buf + HEADER_AT_MAGIC, header_magic, sizeof(header_magic));
	put16(buf + HEADER_AT_VERSION, version_of(header->level));
	put32(buf + HEADER_AT_LEVEL, header->level > RAFT_LEVEL_MIN ? header->level : 0);
	put32(buf + HEADER_AT_SIZE, (uint32_t)size);
	put64(buf + HEADER_AT_CLUSTER, header->cluster_id);
	put64(buf + HEADER_AT_INDEX, header->index);
	put64(buf + HEADER_AT_TERM, header->term);
	put64(buf + HEADER_AT_CONFIG_INDEX, header->config_index);
	put32(buf + HEADER_AT_CONFIG_SIZE, header->config_size);
	if (header->config_size > 0)
		memcpy(buf + SNAPSHOT_HEADER_SIZE, header->config, header->config_size);
	uint64_t checksum = header_checksum(buf, size);
	put64(buf + HEADER_AT_CHECKSUM, checksum);
	*ret_chain = (struct snapshot_chain){.checksum = checksum, .offset = size};
	return size;
}

size_t snapshot_seal_block(struct snapshot_chain *chain, uint8_t *buf, uint32_t payload_size)
{
	size_t size = SNAPSHOT_BLOCK_HEADER_SIZE + (size_t)payload_size;
	raft_assert(payload_size > 0 && payload_size <= SNAPSHOT_PAYLOAD_MAX);
	raft_assert(chain->offset >= SNAPSHOT_HEADER_SIZE);

	memcpy(buf + PART_AT_MAGIC, block_magic, sizeof(block_magic));
	put32(buf + BLOCK_AT_SIZE, payload_size);
	chain->checksum = part_checksum(buf, size, chain->checksum);
	put64(buf + PART_AT_CHECKSUM, chain->checksum);
	chain->n_blocks++;
	chain->payload_bytes += payload_size;
	chain->offset += size;
	return size;
}

size_t snapshot_encode_footer(struct snapshot_chain *chain, uint8_t *buf)
{
	raft_assert(chain->offset >= SNAPSHOT_HEADER_SIZE);
	memcpy(buf + PART_AT_MAGIC, footer_magic, sizeof(footer_magic));
	put32(buf + FOOTER_AT_ZERO, 0);
	put64(buf + FOOTER_AT_BLOCKS, chain->n_blocks);
	put64(buf + FOOTER_AT_PAYLOAD, chain->payload_bytes);
	put64(buf + FOOTER_AT_LENGTH, chain->offset + SNAPSHOT_FOOTER_SIZE);
	chain->checksum = part_checksum(buf, SNAPSHOT_FOOTER_SIZE, chain->checksum);
	put64(buf + PART_AT_CHECKSUM, chain->checksum);
	chain->offset += SNAPSHOT_FOOTER_SIZE;
	return SNAPSHOT_FOOTER_SIZE;
}

/* Verifying ------------------------------------------------------------------------------------------ */

static enum snapshot_result more(struct snapshot_found *ret_found, enum snapshot_part part, size_t size)
{
	*ret_found = (struct snapshot_found){.part = part, .size = size};
	return SNAPSHOT_MORE;
}

static enum snapshot_result parse_header(struct snapshot_parser *parser, const uint8_t *buf, size_t len,
					 struct snapshot_found *ret_found)
{
	if (len < SNAPSHOT_HEADER_SIZE)
		return more(ret_found, SNAPSHOT_PART_HEADER, SNAPSHOT_HEADER_SIZE);
	size_t size = get32(buf + HEADER_AT_SIZE);
	if (memcmp(buf + HEADER_AT_MAGIC, header_magic, sizeof(header_magic)) != 0 || size < SNAPSHOT_HEADER_SIZE ||
	    size > SNAPSHOT_HEADER_SIZE + SNAPSHOT_CONFIG_MAX)
		return SNAPSHOT_BAD;
	if (len < size)
		return more(ret_found, SNAPSHOT_PART_HEADER, size);
	uint64_t checksum = get64(buf + HEADER_AT_CHECKSUM);
	if (checksum != header_checksum(buf, size))
		return SNAPSHOT_BAD;
	if (get16(buf + HEADER_AT_VERSION) > SNAPSHOT_VERSION)
		return SNAPSHOT_NEWER;
	struct snapshot_header header = {
		.cluster_id = get64(buf + HEADER_AT_CLUSTER),
		.index = get64(buf + HEADER_AT_INDEX),
		.term = get64(buf + HEADER_AT_TERM),
		.config_index = get64(buf + HEADER_AT_CONFIG_INDEX),
		.config_size = get32(buf + HEADER_AT_CONFIG_SIZE),
		.level = get32(buf + HEADER_AT_LEVEL),
	};
	if (get16(buf + HEADER_AT_VERSION) != version_of(header.level) || header.level == RAFT_LEVEL_MIN || header.index == 0 || header.term == 0 ||
	    header.config_index > header.index || header.config_size > SNAPSHOT_CONFIG_MAX ||
	    snapshot_header_size(header.config_size) != size)
		return SNAPSHOT_BAD;
	parser->header = header;
	parser->started = true;
	parser->chain = (struct snapshot_chain){.checksum = checksum, .offset = size};
	*ret_found = (struct snapshot_found){.part = SNAPSHOT_PART_HEADER,
					     .size = size,
					     .payload = buf + SNAPSHOT_HEADER_SIZE,
					     .payload_size = header.config_size};
	return SNAPSHOT_OK;
}

static enum snapshot_result parse_block(struct snapshot_parser *parser, const uint8_t *buf, size_t len,
					struct snapshot_found *ret_found)
{
	uint32_t payload_size = get32(buf + BLOCK_AT_SIZE);
	if (payload_size == 0 || payload_size > SNAPSHOT_PAYLOAD_MAX)
		return SNAPSHOT_BAD;
	size_t size = SNAPSHOT_BLOCK_HEADER_SIZE + (size_t)payload_size;
	if (len < size)
		return more(ret_found, SNAPSHOT_PART_BLOCK, size);
	uint64_t checksum = part_checksum(buf, size, parser->chain.checksum);
	if (get64(buf + PART_AT_CHECKSUM) != checksum)
		return SNAPSHOT_BAD;
	parser->chain.checksum = checksum;
	parser->chain.n_blocks++;
	parser->chain.payload_bytes += payload_size;
	parser->chain.offset += size;
	*ret_found = (struct snapshot_found){.part = SNAPSHOT_PART_BLOCK,
					     .size = size,
					     .payload = buf + SNAPSHOT_BLOCK_HEADER_SIZE,
					     .payload_size = payload_size};
	return SNAPSHOT_OK;
}

static enum snapshot_result parse_footer(struct snapshot_parser *parser, const uint8_t *buf, size_t len,
					 struct snapshot_found *ret_found)
{
	if (len < SNAPSHOT_FOOTER_SIZE)
		return more(ret_found, SNAPSHOT_PART_FOOTER, SNAPSHOT_FOOTER_SIZE);
	uint64_t checksum = part_checksum(buf, SNAPSHOT_FOOTER_SIZE, parser->chain.checksum);
	if (get64(buf + PART_AT_CHECKSUM) != checksum || get32(buf + FOOTER_AT_ZERO) != 0 ||
	    get64(buf + FOOTER_AT_BLOCKS) != parser->chain.n_blocks ||
	    get64(buf + FOOTER_AT_PAYLOAD) != parser->chain.payload_bytes ||
	    get64(buf + FOOTER_AT_LENGTH) != parser->chain.offset + SNAPSHOT_FOOTER_SIZE)
		return SNAPSHOT_BAD;
	parser->chain.checksum = checksum;
	parser->chain.offset += SNAPSHOT_FOOTER_SIZE;
	parser->done = true;
	*ret_found = (struct snapshot_found){.part = SNAPSHOT_PART_FOOTER, .size = SNAPSHOT_FOOTER_SIZE};
	return SNAPSHOT_OK;
}

enum snapshot_result snapshot_parse(struct snapshot_parser *parser, const uint8_t *buf, size_t len,
				    struct snapshot_found *ret_found)
{
	raft_assert(!parser->done);
	if (!parser->started)
		return parse_header(parser, buf, len, ret_found);
	if (len < SNAPSHOT_BLOCK_HEADER_SIZE)
		return more(ret_found, SNAPSHOT_PART_BLOCK, SNAPSHOT_BLOCK_HEADER_SIZE);
	if (memcmp(buf + PART_AT_MAGIC, block_magic, sizeof(block_magic)) == 0)
		return parse_block(parser, buf, len, ret_found);
	if (memcmp(buf + PART_AT_MAGIC, footer_magic, sizeof(footer_magic)) == 0)
		return parse_footer(parser, buf, len, ret_found);
	return SNAPSHOT_BAD;
}
