/*
 * The files on a member's platter: which snapshots are there, each complete and of committed entries, and which segments.
 * What is removed was covered by something that stays.
 *
 * Must not know what the storage believes.
 */
#include "check.h"

#include "daemon/assert.h"
#include "daemon/storage/snapshot.h"
#include "kv/snapshot_stream.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define META_TIME_SIZE 8u /* what the replica puts in front of the configuration */

bool sim_snapshot_parse_name(const char *name, uint64_t *ret_index)
{
	char again[64];
	if (sscanf(name, "snapshot-%16" SCNx64, ret_index) != 1)
		return false;
	(void)snprintf(again, sizeof again, "snapshot-%016" PRIx64, *ret_index);
	return strcmp(name, again) == 0; /* not one that is being received or written */
}

const struct sim_snapshot *sim_snapshot_find(const struct sim_shadow *shadow, uint64_t index)
{
	for (unsigned k = 0; k < shadow->n_snapshots; k++)
		if (shadow->snapshots[k].index == index)
			return &shadow->snapshots[k];
	return NULL;
}

uint64_t sim_snapshot_newest_good(const struct sim_shadow *shadow)
{
	for (unsigned k = shadow->n_snapshots; k-- > 0;)
		if (!shadow->snapshots[k].refused)
			return shadow->snapshots[k].index;
	return 0;
}

uint64_t sim_snapshot_newest(const struct sim_shadow *shadow)
{
	return shadow->n_snapshots > 0 ? shadow->snapshots[shadow->n_snapshots - 1].index : 0;
}

/* Reading one ----------------------------------------------------------------------------------------------------- */

/* It names those who belonged to the cluster after its last entry. */
static void check_meta(struct sim *sim, unsigned member, const struct snapshot_header *header,
		       const struct snapshot_found *found)
{
	const struct sim_checks *checks = sim->checks;
	uint32_t entry = sim_check_committed_at(checks, header->index);
	const struct sim_config *config = sim_config_of(checks, entry);
	uint8_t bytes[RAFT_CONFIG_SIZE_MAX];
	uint64_t time_ms;
	raft_assert(config != NULL);
	size_t size = raft_config_encode(&config->config, bytes);
	if (header->config_index != config->index || found->payload_size != META_TIME_SIZE + size ||
	    memcmp(found->payload + META_TIME_SIZE, bytes, size) != 0)
		sim_fail(sim,
			 "member %u: the snapshot of entry %" PRIu64
			 " has another configuration than that of entry %" PRIu64,
			 member + 1, header->index, config->index);
	memcpy(&time_ms, found->payload, sizeof time_ms);
	if (time_ms < sim_entry(checks, entry)->time_ms)
		sim_fail(sim, "member %u: the snapshot of entry %" PRIu64 " forgets the time", member + 1,
			 header->index);
}

static void check_header(struct sim *sim, unsigned member, uint64_t index, const struct snapshot_header *header)
{
	const struct sim_checks *checks = sim->checks;
	uint32_t entry = sim_check_committed_at(checks, index);
	if (header->index != index)
		sim_fail(sim, "member %u: the snapshot of entry %" PRIu64 " bears the name of entry %" PRIu64,
			 member + 1, header->index, index);
	if (entry == 0 || sim_entry(checks, entry)->term != header->term)
		sim_fail(sim,
			 "member %u has a snapshot of entry %" PRIu64 " of term %" PRIu64 ", which is not committed",
			 member + 1, index, header->term);
}

/* The chain of checksums through all parts, as daemon/storage/README.md has it: not the code that the members run. */
static bool parts_are_good(const uint8_t *bytes, uint64_t size, uint64_t at, uint64_t before)
{
	while (at < size) {
		uint64_t checksum, part = SNAPSHOT_FOOTER_SIZE;
		uint32_t payload;
		if (size - at < SNAPSHOT_BLOCK_HEADER_SIZE)
			return false;
		memcpy(&checksum, bytes + at, sizeof checksum);
		memcpy(&payload, bytes + at + 12, sizeof payload);
		if (memcmp(bytes + at + 8, "RKSB", 4) == 0)
			part = SNAPSHOT_BLOCK_HEADER_SIZE + (uint64_t)payload;
		if (part > size - at || checksum != XXH3_64bits_withSeed(bytes + at + 8, part - 8, before))
			return false;
		before = checksum;
		at += part;
	}
	return true;
}

/* Looked at when a state may be spoilt only: for speed. */
static bool is_refused(const struct sim *sim, struct kv_store_loader *loader, bool fed)
{
	struct kv_store *store = NULL;
	bool loaded = sim->counts.spoilt_states == 0 || (fed && kv_store_load_finish(loader, &store) == KV_LOAD_OK);
	kv_store_free(store);
	kv_store_load_free(loader);
	return !loaded;
}

/* Whatever bears a snapshot's name is complete. */
static struct sim_snapshot read_snapshot(struct sim *sim, unsigned member, uint64_t index, const uint8_t *bytes,
					 uint64_t size)
{
	struct snapshot_parser parser = {0};
	struct kv_store_loader *loader = kv_store_load_new();
	bool fed = true;
	raft_assert(loader != NULL);
	while (!parser.done) {
		struct snapshot_found found;
		bool begins = !parser.started;
		uint64_t at = parser.chain.offset;
		enum snapshot_result r = snapshot_parse(&parser, bytes + at, size - at, &found);
		if (r != SNAPSHOT_OK)
			sim_fail(sim, "member %u: the snapshot of entry %" PRIu64 " is not whole: byte %" PRIu64,
				 member + 1, index, at);
		if (begins && !parts_are_good(bytes, size, parser.chain.offset, parser.chain.checksum))
			sim_fail(sim, "member %u: the snapshot of entry %" PRIu64 " is damaged and bears its name",
				 member + 1, index);
		if (found.part == SNAPSHOT_PART_BLOCK && sim->counts.spoilt_states > 0)
			fed &= kv_store_load_feed(loader, found.payload, found.payload_size) == KV_LOAD_OK;
		if (found.part != SNAPSHOT_PART_HEADER)
			continue;
		if (index < sim->checks->floor)
			continue; /* of long ago: it was looked at when it was made */
		check_header(sim, member, index, &parser.header);
		check_meta(sim, member, &parser.header, &found);
	}
	if (parser.chain.offset != size)
		sim_fail(sim, "member %u: the snapshot of entry %" PRIu64 " goes on behind its end", member + 1, index);
	return (struct sim_snapshot){
		.index = index, .term = parser.header.term, .size = size, .refused = is_refused(sim, loader, fed)};
}

/* A piece that goes to another member --------------------------------------------------------------------------------- */

/* A snapshot that is so small is verified whole when its first piece is asked for. */
#define VERIFIED_AT_ONCE (256u * 1024u)

struct piece {
	uint64_t index, offset;
	const uint8_t *bytes;
	uint64_t size;
	bool differs;
};

static void visit_piece(void *arg, const char *name, const uint8_t *bytes, uint64_t size)
{
	struct piece *piece = arg;
	uint64_t index;
	if (sim_snapshot_parse_name(name, &index) && index == piece->index && size <= VERIFIED_AT_ONCE)
		piece->differs = piece->offset + piece->size > size ||
				 memcmp(bytes + piece->offset, piece->bytes, piece->size) != 0;
}

void sim_snapshot_sent(struct sim *sim, unsigned from, uint64_t index, uint64_t offset, const uint8_t *bytes,
		       uint64_t size)
{
	struct disk *files = sim->members[from].disk_files;
	struct piece piece = {.index = index, .offset = offset, .bytes = bytes, .size = size};
	if (offset > 0 || !sim_platter_damaged(files))
		return;
	sim_platter_each(files, visit_piece, &piece);
	if (piece.differs)
		sim_fail(sim, "member %u sends of its snapshot of entry %" PRIu64 " what was never written to it",
			 from + 1, index);
}

/* Coming and going ------------------------------------------------------------------------------------------------ */

void sim_snapshot_add(struct sim *sim, unsigned member, struct sim_shadow *shadow, uint64_t index, const uint8_t *bytes,
		      uint64_t size)
{
	struct sim_snapshot snapshot = read_snapshot(sim, member, index, bytes, size);
	sim_offers_written(sim, member, index);
	unsigned at = 0;
	while (at < shadow->n_snapshots && shadow->snapshots[at].index != index)
		at++;
	if (at < shadow->n_snapshots) {
		shadow->snapshots[at] = snapshot; /* it takes the place of one that is damaged */
		return;
	}
	if (at == SIM_SNAPSHOTS_MAX)
		sim_fail(sim, "member %u keeps more than %u snapshots", member + 1, SIM_SNAPSHOTS_MAX);
	for (; at > 0 && shadow->snapshots[at - 1].index > index; at--)
		shadow->snapshots[at] = shadow->snapshots[at - 1];
	shadow->snapshots[at] = snapshot;
	shadow->n_snapshots++;
}

static uint64_t segment_begin(const struct sim_segment *segment)
{
	return segment->lowest < segment->base ? segment->lowest : segment->base;
}

uint64_t sim_segments_begin(const struct sim_shadow *shadow)
{
	if (shadow->n_segments == 0 || !shadow->segments[0].needed)
		return 0;
	uint64_t begin = segment_begin(&shadow->segments[0]);
	for (uint64_t k = 1; k < shadow->n_segments; k++)
		if (segment_begin(&shadow->segments[k]) < begin)
			begin = segment_begin(&shadow->segments[k]);
	return begin;
}

/* The log on the platter must not begin behind what the snapshots cover. */
static void check_covered(const struct sim *sim, unsigned member, const struct sim_shadow *shadow, const char *what)
{
	uint64_t base = sim_segments_begin(shadow);
	uint64_t newest = sim_snapshot_newest(shadow);
	if (base > newest)
		sim_fail(sim,
			 "member %u removes %s: its log begins behind entry %" PRIu64
			 ", its snapshots reach to entry %" PRIu64,
			 member + 1, what, base, newest);
}

void sim_snapshot_remove(struct sim *sim, unsigned member, struct sim_shadow *shadow, uint64_t index)
{
	unsigned kept = 0;
	for (unsigned k = 0; k < shadow->n_snapshots; k++)
		if (shadow->snapshots[k].index != index)
			shadow->snapshots[kept++] = shadow->snapshots[k];
	shadow->n_snapshots = kept;
	check_covered(sim, member, shadow, "a snapshot");
}

void sim_segment_add(struct sim_shadow *shadow, uint64_t sequence, uint64_t base)
{
	shadow->segments = sim_check_grow(shadow->segments, &shadow->segments_capacity, shadow->n_segments,
					  sizeof *shadow->segments);
	shadow->segments[shadow->n_segments++] = (struct sim_segment){
		.sequence = sequence, .base = base, .lowest = base > 0 ? base : UINT64_MAX, .needed = true};
}

void sim_segment_remove(struct sim *sim, unsigned member, struct sim_shadow *shadow, uint64_t sequence)
{
	if (shadow->n_segments < 2 || shadow->segments[0].sequence != sequence)
		sim_fail(sim, "member %u removes segment %" PRIu64 ", which is not the oldest of several", member + 1,
			 sequence);
	shadow->n_segments--;
	memmove(shadow->segments, shadow->segments + 1, shadow->n_segments * sizeof *shadow->segments);
	check_covered(sim, member, shadow, "a segment");
}
