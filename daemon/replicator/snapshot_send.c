/*
 * Sending snapshots to members that need what the log no longer has: an offer with each heartbeat until they have it, and
 * pieces of the file when they ask. The receiver sets the pace and knows how far it is; nothing is remembered here but
 * the file that is open.
 *
 * A file may rot after it was verified. The receiver finds that out and refuses it, but would be offered the same again and again:
 * so what is sent is verified here as well, and a new snapshot takes the place of a damaged one.
 *
 * What this must not know: what the bytes mean.
 */
#include "replica_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SENDING_KEEP_US 10000000u /* the file is closed when nobody has asked for so long */
#define BLOCKS_PER_PIECE 2u /* verified for each piece: more than it holds, so that what was skipped is made up for */

static void sending_end(struct replica *replica)
{
	replica->sending.reader = snapshot_reader_free(replica->sending.reader);
	free(replica->sending.buf);
	replica->sending.buf = NULL;
}

void replica_sending_fini(struct replica *replica)
{
	sending_end(replica);
}

void replica_offer_snapshots(struct replica *replica, const uint64_t *peers, size_t n_peers)
{
	struct storage_snapshot_info newest;
	struct raft_status status;
	if (n_peers == 0 || !storage_snapshot_newest(replica->storage, &newest))
		return;
	raft_get_own_status(replica->core, &status);
	if (newest.index < status.base_index)
		return; /* the one that the log begins behind is damaged: the next one is under way */
	for (size_t k = 0; k < n_peers; k++) {
		struct replica_peer *peer = replica_find_peer(replica, peers[k]);
		if (peer == NULL || replica->now_us < peer->offered_us + replica->options.raft.heartbeat_us ||
		    !replica_may_send_log(replica, peers[k]))
			continue;
		peer->offered_us = replica->now_us;
		struct wire_message wire = replica_wire_message(replica, WIRE_SNAPSHOT_OFFER, peer->id);
		wire.term = status.hard_state.term; /* durable: this member leads */
		wire.snapshot_offer.index = newest.index;
		wire.snapshot_offer.term = newest.term;
		wire.snapshot_offer.size = newest.file_bytes;
		replica_send_wire(replica, &wire);
	}
}

/* Disks, and file systems with checksums, report their damage as an error. */
static bool is_damage(int r)
{
	return r == STORAGE_E_CORRUPT || r == -EIO;
}

static void replace_damaged(struct replica *replica, uint64_t index)
{
	const struct snapshot_reader *reader = replica->sending.reader;
	uint64_t offset = reader != NULL ? snapshot_reader_offset(reader) : 0; /* no reader: its header is */
	sending_end(replica);
	if (!storage_snapshot_distrust(replica->storage, index))
		return; /* it is being read: the next request finds out again */
	replica_log_about(replica, (struct replica_about){.index = index}, 2, "damaged",
			  "snapshot-%016llx is damaged, or cannot be read, at offset %llu: it is not sent any more, "
			  "and a new one replaces it",
			  (unsigned long long)index, (unsigned long long)offset);
	replica->taking.wanted = true;
	replica->work_left = true;
}

/* Opens the snapshot that is asked for; anew for its first piece: whoever refuses it asks for that again, and what was good before
 * may not be any more. False: it is not here any more, and the next offer will be of another. */
static bool sending_open(struct replica *replica, uint64_t index, uint64_t term, uint64_t offset)
{
	struct replica_sending *sending = &replica->sending;
	struct storage_snapshot_info info;
	const uint8_t *config;
	if (sending->reader != NULL && sending->index == index && offset > 0)
		return sending->term == term;
	sending_end(replica);
	sending->buf = malloc(WIRE_CHUNK_BYTES_MAX);
	if (sending->buf == NULL)
		return false;
	int r = snapshot_reader_new(replica->storage, index, &sending->reader, &info, &config);
	if (is_damage(r)) {
		replace_damaged(replica, index);
		return false;
	}
	if (r != 0) {
		sending_end(replica);
		replica_log(replica, 6, "snapshot-gone", "a member asks for the snapshot of entry %llu: %s",
			    (unsigned long long)index, r > 0 ? storage_result_name(r) : strerror(-r));
		return false;
	}
	sending->index = info.index;
	sending->term = info.term;
	sending->total = info.file_bytes;
	return sending->term == term;
}

/* Verifies the file from where that ended the last time, no further than it takes for a piece that ends at `end`. 0: nothing is
 * wrong so far. A member that had the beginning from somebody else is ahead of this: it verifies all of it anyway. */
static int verify_piece(struct snapshot_reader *reader, uint64_t end)
{
	for (unsigned k = 0; k < BLOCKS_PER_PIECE && snapshot_reader_offset(reader) < end; k++) {
		const uint8_t *buf;
		size_t len;
		int r = snapshot_reader_next(reader, &buf, &len);
		if (r != 0)
			return r;
	}
	return 0;
}

void replica_on_snapshot_request(struct replica *replica, const struct wire_message *wire)
{
	struct replica_sending *sending = &replica->sending;
	uint64_t offset = wire->snapshot_request.offset;
	uint32_t wanted = wire->snapshot_request.size;
	size_t n = 0;
	if (!sending_open(replica, wire->snapshot_request.index, wire->snapshot_request.term, offset) ||
	    offset >= sending->total)
		return;
	sending->used_us = replica->now_us;
	if (wanted > sending->total - offset)
		wanted = (uint32_t)(sending->total - offset);
	int r = snapshot_reader_raw(sending->reader, offset, sending->buf, wanted, &n);
	if (r == 0)
		r = verify_piece(sending->reader, offset + n);
	if (is_damage(r)) {
		replace_damaged(replica, sending->index);
		return;
	}
	if (r != 0 || n == 0) {
		replica_log(replica, 3, "snapshot-unreadable",
			    "cannot read the snapshot of entry %llu at offset %llu: %s",
			    (unsigned long long)sending->index, (unsigned long long)offset, strerror(-r));
		return;
	}
	struct wire_message chunk = replica_wire_message(replica, WIRE_SNAPSHOT_CHUNK, wire->from);
	chunk.snapshot_chunk.index = sending->index;
	chunk.snapshot_chunk.term = sending->term;
	chunk.snapshot_chunk.offset = offset;
	chunk.snapshot_chunk.total = sending->total;
	chunk.snapshot_chunk.size = (uint32_t)n;
	chunk.snapshot_chunk.data = sending->buf;
	replica_send_wire(replica, &chunk);
}

/* An open file is kept on the disk: it must not be for ever. */
void replica_tend_sending(struct replica *replica)
{
	if (replica->sending.reader != NULL && replica->now_us >= replica->sending.used_us + SENDING_KEEP_US)
		sending_end(replica);
}
