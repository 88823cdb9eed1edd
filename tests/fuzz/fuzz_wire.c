/*
 * Fuzzes the codec between members (daemon/transport/wire.h): no bytes may crash it, and what it accepts must encode to
 * the same bytes again.
 *
 * A checksum keeps random bytes out, so each input is tried twice: as it is, and with the header's magic, version, size
 * and checksum made to fit.
 */
#include "daemon/assert.h"
#include "daemon/transport/wire.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define HEADER_SIZE 64u
#define AT_CHECKSUM 8u
#define AT_SIZE 56u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_number(uint8_t *at, uint64_t number, unsigned bytes)
{
	for (unsigned k = 0; k < bytes; k++)
		at[k] = (uint8_t)(number >> (8 * k));
}

static void seal(uint8_t *frame, size_t size)
{
	memcpy(frame, "RKVP\1", 5);
	put_number(frame + AT_SIZE, size, 4);
	put_number(frame + AT_CHECKSUM, 0, 8);
	put_number(frame + AT_CHECKSUM, XXH3_64bits(frame, size), 8);
}

static void try_frame(const uint8_t *frame, size_t size, struct raft_entry *entries, uint32_t max_entries)
{
	struct wire_message message;
	int r = wire_decode(frame, size, entries, max_entries, &message);

	raft_assert(wire_result_name(r) != NULL);
	if (r != WIRE_OK)
		return;
	raft_assert(wire_encoded_size(&message) == size);
	uint8_t *again = malloc(size);
	if (again == NULL)
		return;
	wire_encode(&message, again);
	raft_assert(memcmp(again, frame, size) == 0);
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct raft_entry entries[64];

	try_frame(data, size, entries, 64);
	if (size < HEADER_SIZE || size > WIRE_FRAME_SIZE_MAX)
		return 0;
	uint8_t *copy = malloc(size);
	if (copy == NULL)
		return 0;
	memcpy(copy, data, size);
	seal(copy, size);
	try_frame(copy, size, entries, 64);
	try_frame(copy, size, entries, 1);
	free(copy);
	return 0;
}
