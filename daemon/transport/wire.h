/*
 * The wire codec between members: one message, one frame. Pure functions over bytes.
 *
 * A frame is a header (magic, version, type, cluster, sender, receiver, term, checksum), a fixed body for its
 * type, and for appends the entries. README.md has the byte table. A decoder trusts nothing: every length is
 * checked before use, every reserved byte must be zero, the checksum is verified before any field is believed.
 *
 * This mirrors the messages of daemon/raft without including it: the replicator translates.
 */
#ifndef RAFT_KV_WIRE_H
#define RAFT_KV_WIRE_H

#include "../entry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_VERSION 1u
#define WIRE_FRAME_SIZE_MAX (8u * 1024u * 1024u)
#define WIRE_ENTRIES_MAX 16384u		    /* in one append */
#define WIRE_ENDPOINT_MAX 200u		    /* characters */
#define WIRE_CHUNK_BYTES_MAX (256u * 1024u) /* of a snapshot in one frame: delays a heartbeat behind it by little */

enum wire_type {
	WIRE_VOTE_REQUEST = 1,
	WIRE_VOTE_REPLY = 2,
	WIRE_APPEND = 3,
	WIRE_APPEND_REPLY = 4,
	WIRE_TIMEOUT_NOW = 5,
	WIRE_HELLO = 6,		   /* after connecting: who is there, with which versions */
	WIRE_SNAPSHOT_OFFER = 7,   /* leader: the log no longer reaches back to what you need; there is a snapshot */
	WIRE_SNAPSHOT_REQUEST = 8, /* receiver: send me this piece of it */
	WIRE_SNAPSHOT_CHUNK = 9,   /* that piece */
	WIRE_NOT_A_MEMBER = 10,	   /* to a stranger: you are not in the committed configuration */
	WIRE_CHECKPOINT = 11, /* leader: what is your state as of this entry? member: this. leader: that is wrong */
	WIRE_ENDPOINT = 12,   /* leader or candidate, to a member that is silent: here I can be answered */
};

struct wire_message {
	uint8_t type; /* enum wire_type */
	uint64_t cluster;
	uint64_t from;
	uint64_t from_incarnation; /* of the sender's data directory */
	uint64_t to;
	uint64_t term; /* of a hello: a number that asks for an answer, or the one that it answers; 0: neither */
	union {
		struct {
			uint64_t last_index, last_term;
			bool pre_vote, transfer;
		} vote_request;
		struct {
			bool granted, pre_vote;
			uint64_t request_term;
		} vote_reply;
		struct {
			uint64_t prev_index, prev_term, commit, round;
			uint32_t n_entries;
			const struct raft_entry *entries; /* encode: the entries. decode: the array given to
							   * wire_decode; data point into the frame */
		} append;
		struct {
			bool rejected;
			uint64_t match, round;
			uint64_t prev_index, conflict_index, conflict_term; /* only if rejected … */
			uint64_t promise_us;				    /* … and this only if not */
		} append_reply;
		struct {
			uint16_t version_min, version_max;
			bool blank;
		} hello;
		struct {
			uint64_t index, term; /* of the last entry it covers: names the snapshot */
			uint64_t size;	      /* bytes of the whole file */
		} snapshot_offer;
		struct {
			uint64_t index, term;
			uint64_t offset;
			uint32_t size; /* wanted, 1 to WIRE_CHUNK_BYTES_MAX; a chunk may bring less */
		} snapshot_request;
		struct {
			uint64_t index, term;
			uint64_t offset;
			uint64_t total;	     /* bytes of the whole file */
			uint32_t size;	     /* bytes in data, 1 to WIRE_CHUNK_BYTES_MAX; offset + size <= total */
			const uint8_t *data; /* encode: not owned. decode: points into the frame */
		} snapshot_chunk;
		struct {
			uint64_t config_index; /* of the committed configuration that does not name the receiver */
		} not_a_member;
		struct {
			uint64_t index; /* of an applied entry */
			uint64_t
				hash; /* of the state as of that entry, the sender's or, with a verdict, the right one */
			bool majority;	/* verdict: most voters have this hash … */
			bool undecided; /* … or they have no hash in common, and this is the leader's */
		} checkpoint;
		struct {
			char peer[WIRE_ENDPOINT_MAX + 1]; /* no control characters, at least one, then zeros */
		} endpoint;
	};
};

enum wire_result {
	WIRE_OK = 0,
	WIRE_E_SHORT = 1,   /* fewer bytes than a header, or than the lengths inside say */
	WIRE_E_MAGIC = 2,   /* not one of ours */
	WIRE_E_VERSION = 3, /* a newer version than this one knows */
	WIRE_E_CHECKSUM = 4,
	WIRE_E_FORMAT = 5, /* impossible contents behind a good checksum: unknown type, bad flag, bad size */
	WIRE_E_LIMIT = 6,  /* too many entries, or too large */
};
const char *wire_result_name(int result);

/* Bytes that wire_encode will write for this message; 0 if it is over a limit. */
size_t wire_encoded_size(const struct wire_message *message);

/* Writes exactly wire_encoded_size(message) bytes to buf, which has that room. */
void wire_encode(const struct wire_message *message, uint8_t *buf);

/* Decodes a frame. Entries go to `entries`, room for max_entries; more in the frame is WIRE_E_LIMIT. On anything
 * but WIRE_OK *ret_message is untouched. */
int wire_decode(const uint8_t *frame, size_t len, struct raft_entry *entries, uint32_t max_entries,
		struct wire_message *ret_message) __attribute__((warn_unused_result));

#endif
