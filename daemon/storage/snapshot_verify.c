/*
 * Reading a snapshot file from front to back, to know whether all of it is good.
 */
#include "daemon/storage/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Verifies the part at the parser's place. Returns the parser's result, or negative errno. */
static int verify_part(struct disk *disk, const char *name, struct snapshot_parser *parser, uint8_t *buf)
{
	struct snapshot_found found;
	int64_t got = disk->ops->read(disk, name, parser->chain.offset, buf, SNAPSHOT_BLOCK_SIZE);
	if (got < 0)
		return (int)got;
	return (int)snapshot_parse(parser, buf, (size_t)got, &found);
}

struct snapshot_verdict snapshot_verify(struct disk *disk, const char *name, uint64_t size, enum snapshot_extent extent)
{
	struct snapshot_verdict verdict = {.result = 0};
	uint8_t *buf = malloc(SNAPSHOT_BLOCK_SIZE);
	if (!buf)
		return (struct snapshot_verdict){.result = -ENOMEM, .what = strerror(ENOMEM)};
	struct snapshot_parser parser = {0};
	int r = SNAPSHOT_OK;
	while (r == SNAPSHOT_OK && !parser.done && !(parser.started && extent == SNAPSHOT_HEADER)) {
		verdict.parser = parser;
		r = verify_part(disk, name, &parser, buf);
	}
	free(buf);
	if (r < 0) {
		verdict.result = r;
		verdict.what = strerror(-r);
	} else if (r == SNAPSHOT_NEWER) {
		verdict.result = STORAGE_E_VERSION;
		verdict.what = "was written in a format that is newer than this program, raft-kv " RAFT_KV_VERSION
			       "; install the newer version again. Nothing was changed";
	} else if (extent == SNAPSHOT_PARTIAL) {
		return verdict;
	} else if (r != SNAPSHOT_OK) {
		verdict.result = STORAGE_E_CORRUPT;
		verdict.what = r == SNAPSHOT_MORE ? "the snapshot ends too early" : "the snapshot is damaged";
	} else if (extent == SNAPSHOT_WHOLE && parser.chain.offset != size) {
		verdict.result = STORAGE_E_CORRUPT;
		verdict.what = "the snapshot goes on behind its end";
		verdict.parser = parser;
	} else {
		verdict.parser = parser;
	}
	return verdict;
}
