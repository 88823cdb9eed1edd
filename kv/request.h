/*
 * What travels between a client of the cluster (raft-bridge, raftctl) and a member: batches of requests, batches
 * of replies. Pure functions over bytes. One frame:
 *
 *   offset size field
 *   0      4    magic "RKVC"
 *   4      1    version (KV_FRAME_VERSION)
 *   5      1    kind: 1 requests, 2 replies
 *   6      2    reserved, zero
 *   8      4    number of items
 *   12     4    size of the whole frame
 *   16     8    cluster (hash of its name)
 *   24     8    XXH3-64 of the frame with this field zero
 *   32          items, each: id u64, type u8, 3 reserved zero bytes, size u32, then size bytes of body, padded with
 *               zeros to a multiple of 8
 *
 * A client numbers its requests with ids of its own choosing; every request is answered by one reply with its id,
 * in any order, or by nothing when the connection or the member is lost. README.md describes each body.
 */
#ifndef KV_REQUEST_H
#define KV_REQUEST_H

#include "command.h"
#include "store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KV_FRAME_VERSION 1u
#define KV_FRAME_HEADER_SIZE 32u
#define KV_ITEM_HEADER_SIZE 16u
#define KV_FRAME_SIZE_MAX (4u * 1024u * 1024u)

enum kv_request_type {
	KV_REQUEST_COMMAND = 1, /* body: an encoded kv_command; goes through the log */
	KV_REQUEST_GET = 2,	/* body: flags u8 (KV_GET_STALE), 7 zero bytes, key */
	KV_REQUEST_STATUS = 3,	/* body: empty. Reply: KV_ANSWER_OK with an encoded kv_member_status */
	KV_REQUEST_DUMP =
		4, /* body: flags u8 (KV_DUMP_AFTER: start after the key, not at it), 7 zero, applied u64 (of the first
				  * page; 0: this is the first), key to start from. Of this member's state. Reply:
				  * KV_ANSWER_OK with an encoded page; _NOT_FOUND: that state is gone, begin anew */
	KV_REQUEST_LOG = 5, /* body: first index u64, max entries u32, 4 zero. Reply: KV_ANSWER_OK with log entries */
	KV_REQUEST_TRANSFER = 6, /* body: target member u64 (0: the best). KV_ANSWER_OK when the hand-over has begun */
	KV_REQUEST_LEADER = 7,	 /* body: empty. Who leads? KV_ANSWER_OK, or KV_ANSWER_NOT_LEADER with the hint */
	KV_REQUEST_MEMBERS = 8,	 /* body: empty. Reply: KV_ANSWER_OK with an encoded kv_membership (admin.h) */
	KV_REQUEST_CHANGE = 9,	 /* body: an encoded kv_change (admin.h) */
	KV_REQUEST_BOOTSTRAP = 10, /* body: empty. Found the cluster on this member: KV_ANSWER_OK or _REFUSED */
	KV_REQUEST_SNAPSHOT = 11,  /* body: empty. Take a snapshot now: KV_ANSWER_OK when it has begun */
	KV_REQUEST_BACKUP = 12,	   /* body: an encoded kv_backup_request (admin.h) */
	KV_REQUEST_RELOAD = 13,	   /* body: empty. Read the configuration again: KV_ANSWER_OK or _REFUSED, with a text */
	KV_REQUEST_BEATS =
		14, /* body: number u64 of the newest beat known, 0: none. Reply: KV_ANSWER_OK with an encoded
				* kv_beats (admin.h) */
};
#define KV_GET_STALE 1u
#define KV_DUMP_AFTER 1u

/* The first byte of every reply body says how the request fared. */
enum kv_answer {
	KV_ANSWER_OK = 0,	   /* COMMAND: applied, see the kv_reply. GET: found. Others: done */
	KV_ANSWER_NOT_FOUND = 1,   /* GET */
	KV_ANSWER_NOT_LEADER = 2,  /* definite: nothing was appended. number: the leader's id, 0 if unknown */
	KV_ANSWER_UNKNOWN = 3,	   /* appended, then leadership was lost: it may still be applied */
	KV_ANSWER_BUSY = 4,	   /* definite: a queue is full or a hand-over is under way; try again */
	KV_ANSWER_NOT_READY = 5,   /* definite: the leader has not committed in its term yet; try again */
	KV_ANSWER_BAD_REQUEST = 6, /* definite: malformed, too big, unknown type; trying again is useless */
	KV_ANSWER_DISK_FULL = 7,   /* definite: nothing was appended */
	KV_ANSWER_LOST = 8,	   /* definite: a read whose leader lost its leadership; try again */
	KV_ANSWER_REFUSED = 9,	   /* definite: this cannot be done now; data says why and what to do */
};
#define KV_ANSWERS 10u /* how many there are */

/* Writing a frame: reserve the header, add items, finish. The builder owns its buffer, which grows up to
 * KV_FRAME_SIZE_MAX; zero-initialise the struct. */
struct kv_frame {
	uint8_t *buf;
	size_t len; /* 0 when empty */
	size_t capacity;
	uint32_t n_items;
};
void kv_frame_begin(struct kv_frame *frame); /* empties it, keeps the buffer */
void kv_frame_free(struct kv_frame *frame);
/* Adds an item and returns its body (size bytes, uninitialised but for padding) to be filled; NULL when the frame would be over
 * KV_FRAME_SIZE_MAX (send it and begin anew) or memory is short. The pointer is valid until the next call. */
uint8_t *kv_frame_add(struct kv_frame *frame, uint64_t id, uint8_t type, uint32_t size);
/* Completes header and checksum; frame->buf, frame->len are then to be sent. */
void kv_frame_finish(struct kv_frame *frame, uint8_t kind, uint64_t cluster);
#define KV_FRAME_REQUESTS 1u
#define KV_FRAME_REPLIES 2u

enum kv_frame_result {
	KV_FRAME_OK = 0,
	KV_FRAME_SHORT = 1,
	KV_FRAME_MAGIC = 2,
	KV_FRAME_BAD_VERSION = 3,
	KV_FRAME_CHECKSUM = 4,
	KV_FRAME_FORMAT = 5,
	KV_FRAME_CLUSTER = 6, /* meant for another cluster */
};
const char *kv_frame_result_name(int result);

/* Reading a frame: check it whole (every item's bounds included), then iterate. */
struct kv_frame_reader {
	const uint8_t *cursor;
	const uint8_t *end;
	uint32_t left;
};
struct kv_frame_item {
	uint64_t id;
	uint8_t type;
	const uint8_t *body; /* points into the frame */
	uint32_t size;
};
int kv_frame_read(const uint8_t *buf, size_t len, uint8_t kind, uint64_t cluster, struct kv_frame_reader *ret_reader)
	__attribute__((warn_unused_result));
bool kv_frame_next(struct kv_frame_reader *reader, struct kv_frame_item *ret_item);

/* Bodies of requests. The decoders return false when the body is malformed. */
#define KV_GET_BODY_SIZE(key_size) (8u + (uint32_t)(key_size))
void kv_get_encode(uint8_t *body, uint8_t flags, const uint8_t *key, size_t key_size);
bool kv_get_decode(const uint8_t *body, size_t size, uint8_t *ret_flags, const uint8_t **ret_key, size_t *ret_key_size);
struct kv_dump_request {
	uint8_t flags;
	uint64_t applied; /* of the page before; 0: this is the first */
	const uint8_t *key;
	size_t key_size; /* may be 0 */
};
#define KV_DUMP_BODY_SIZE(key_size) (16u + (uint32_t)(key_size))
void kv_dump_encode(uint8_t *body, const struct kv_dump_request *request);
bool kv_dump_decode(const uint8_t *body, size_t size, struct kv_dump_request *ret_request);
#define KV_LOG_BODY_SIZE 16u
void kv_log_encode(uint8_t *body, uint64_t first_index, uint32_t max_entries);
bool kv_log_decode(const uint8_t *body, size_t size, uint64_t *ret_first_index, uint32_t *ret_max_entries);
#define KV_TRANSFER_BODY_SIZE 8u
void kv_transfer_encode(uint8_t *body, uint64_t target);
bool kv_transfer_decode(const uint8_t *body, size_t size, uint64_t *ret_target);

/* Bodies of replies: answer u8, status u8 (kv_status of a COMMAND), 6 zero bytes, number u64, term u64, then data.
 *   COMMAND  number = kv_reply.revision
 *   GET      number = revision, data = value
 *   NOT_LEADER number = leader's id
 *   STATUS, DUMP, LOG: data as below */
#define KV_REPLY_HEADER_SIZE 24u
struct kv_answer_body {
	uint8_t answer; /* enum kv_answer */
	uint8_t status; /* enum kv_status, COMMAND only */
	uint64_t number;
	uint64_t term;	     /* the answering member's term: a newer one beats an older leader hint */
	const uint8_t *data; /* not owned; encode: copied; decode: points into the body */
	uint32_t size;
};
#define KV_REPLY_BODY_SIZE(data_size) (KV_REPLY_HEADER_SIZE + (uint32_t)(data_size))
void kv_reply_encode(uint8_t *body, const struct kv_answer_body *answer); /* KV_REPLY_BODY_SIZE(answer->size) bytes */
bool kv_reply_decode(const uint8_t *body, size_t size, struct kv_answer_body *ret_answer);

/* STATUS data. Encoded as a list of u64 in this order, so that later versions can append. */
struct kv_member_status {
	uint64_t id;
	uint64_t incarnation;
	uint64_t role;	 /* 0 follower, 1 pre-candidate, 2 candidate, 3 leader, 4 learner */
	uint64_t leader; /* 0: none known */
	uint64_t term;
	uint64_t commit;
	uint64_t applied;
	uint64_t last;
	uint64_t durable;
	uint64_t first;	     /* index of the first entry in the log */
	uint64_t state_hash; /* at applied */
	uint64_t rss_bytes;
	uint64_t pid;
	uint64_t keys;
	uint64_t store_bytes; /* memory of the store */
	uint64_t sessions;
	uint64_t flushes; /* completed syncs of the log since start */
	uint64_t flushed_entries;
	uint64_t flushed_bytes;
	uint64_t sync_us_total;
	uint64_t sync_us_max;
	uint64_t uptime_ms;
	uint64_t members;	   /* in the configuration */
	uint64_t cpu_us;	   /* user and system time of the process since its start */
	uint64_t entries_proposed; /* since start */
	uint64_t reads;		   /* linearizable reads answered since start */
	uint64_t elections;	   /* campaigns started by this member since start */
	/* The state after all entries before this index, a multiple of KV_MARK_ENTRIES: members that are never asked at the
	 * same index pass the same marks. 0: none since the start. */
	uint64_t mark_index;
	uint64_t mark_hash;
	/* From raft-kv 0.2 on; of an older member 0. */
	uint64_t level;		 /* feature level of the cluster */
	uint64_t level_max;	 /* the newest that this member knows */
	uint64_t version;	 /* kv_version_number of its program */
	uint64_t failed_checks;	 /* bits of enum kv_check (admin.h) */
	uint64_t alarms;	 /* bits of enum kv_alarm (admin.h) */
	uint64_t disk_bytes;	 /* of the data directory: segments, spares, snapshots */
	uint64_t snapshot_index; /* of the newest snapshot, 0: none */
	uint64_t snapshot_bytes; /* of its file */
	uint64_t log_bytes;	 /* written to the log since that snapshot */
	uint64_t voters;	 /* in the configuration */
	uint64_t lease;	       /* 1: it answers reads by lease while it leads and has one; 0: each needs a round */
	uint64_t lease_us;     /* leader: how long its lease lasts at least; 0: it has none now */
	uint64_t leased_reads; /* answered by lease since start, in batches as clients sent them */
};
#define KV_MARK_ENTRIES 4096u
#define KV_STATUS_SIZE (sizeof(struct kv_member_status))
void kv_status_encode(uint8_t *data, const struct kv_member_status *status); /* KV_STATUS_SIZE bytes */
/* Shorter data (an older member) leaves the rest zero; longer (newer) is cut. False: not a multiple of 8 or empty. */
bool kv_status_decode(const uint8_t *data, size_t size, struct kv_member_status *ret_status);

/* "MAJOR.MINOR.PATCH", whatever follows, as one number that can be compared: 16 bits each. 0: it is none. */
uint64_t kv_version_number(const char *text);

/* DUMP data: applied u64, hash u64, flags u32 (1: more follows; continue after the last key), count u32, then for each
 * item: revision u64, value size u32, key size u16, 2 zero, key, value (unpadded).
 * LOG data: last index u64, commit u64, first index u64 of this page, count u32, 4 zero; then for each entry: index u64, term u64,
 * time_ms u64, type u8, 3 zero, size u32, data (unpadded).
 * A page never exceeds KV_PAGE_SIZE_MAX unless it holds a single item. */
#define KV_PAGE_SIZE_MAX (1024u * 1024u)
struct kv_dump_page {
	uint64_t applied, hash;
	bool more;
	uint32_t count;
	const uint8_t *items; /* undecoded rest */
	size_t items_size;
};
struct kv_log_page {
	uint64_t last, commit, first;
	uint32_t count;
	const uint8_t *entries;
	size_t entries_size;
};
struct kv_log_item {
	uint64_t index, term, time_ms;
	uint8_t type;
	const uint8_t *data;
	uint32_t size;
};
#define KV_DUMP_PAGE_HEADER_SIZE 24u
#define KV_DUMP_ITEM_SIZE(key_size, value_size) (16u + (size_t)(key_size) + (size_t)(value_size))
#define KV_LOG_PAGE_HEADER_SIZE 32u
#define KV_LOG_ITEM_SIZE(data_size) (32u + (size_t)(data_size))
void kv_dump_page_encode(uint8_t *data, const struct kv_dump_page *page); /* header only */
void kv_dump_item_encode(uint8_t *data, const struct kv_item *item);
bool kv_dump_page_decode(const uint8_t *data, size_t size, struct kv_dump_page *ret_page);
bool kv_dump_item_decode(struct kv_dump_page *page, struct kv_item *ret_item); /* advances; false: end or malformed */
void kv_log_page_encode(uint8_t *data, const struct kv_log_page *page);	       /* header only */
void kv_log_item_encode(uint8_t *data, const struct kv_log_item *item);
bool kv_log_page_decode(const uint8_t *data, size_t size, struct kv_log_page *ret_page);
bool kv_log_item_decode(struct kv_log_page *page, struct kv_log_item *ret_item);

/* The number that stands for a cluster's name in every frame and file: XXH3-64 of it, never 0. */
uint64_t kv_cluster_id(const char *name);

#endif
