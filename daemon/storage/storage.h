/*
 * The log and the hard state on disk: one stream of records in fixed-size segment files.
 *
 * Every flush is one record: hard state, commit hint, and zero or more consecutive entries, under one
 * checksum. An entry record whose first index is not beyond the last one replaces the suffix from there on.
 * Flush k + 1 is written only after flush k is durable, so any valid record proves that all before it were:
 * that is how recovery tells a torn tail (cut it) from damage (refuse, say where). README.md has every field.
 *
 * Recent entries are kept in memory, bounded by cache_bytes_max; older ones are read back from the disk.
 * What this must not know: Raft's rules, ZeroMQ, the state machine, clocks.
 *
 * One thread owns a storage; the disk's threads only see finished buffers.
 */
#ifndef RAFT_KV_STORAGE_H
#define RAFT_KV_STORAGE_H

#include "../entry.h"
#include "disk.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORAGE_SEGMENT_SIZE_MIN (4u * 1024u * 1024u) /* holds the largest record */
#define STORAGE_SEGMENT_SIZE_MAX (1024u * 1024u * 1024u)
#define STORAGE_FLUSH_BYTES_MAX (2u * 1024u * 1024u) /* one record; one entry of the largest size fits */
#define STORAGE_MESSAGE_MAX 512u

enum storage_result {
	STORAGE_OK = 0,
	STORAGE_E_CORRUPT = 1,	     /* damage inside the log: ret_message names file and offset */
	STORAGE_E_WRONG_CLUSTER = 2, /* the directory belongs to another cluster or member */
	STORAGE_E_VERSION = 3,	     /* written by a newer version than this one knows */
	STORAGE_E_FULL = 4,	     /* no room on the disk: nothing was queued; try again later */
	STORAGE_E_COMPACTED = 5,     /* the entry asked for is before the log's beginning */
	STORAGE_E_BUSY = 6,	     /* not now: what is under way has to end first */
};
const char *storage_result_name(int result);

struct storage_options {
	uint64_t cluster_id; /* hash of the cluster's name */
	uint64_t member_id;
	uint64_t incarnation;	  /* given to a blank directory; random; 0 is not allowed */
	uint32_t segment_size;	  /* bytes; multiple of 4096; only for segments made from now on */
	uint64_t cache_bytes_max; /* data of entries kept in memory although they are durable */
	uint32_t level_max;	  /* newest feature level that the owner knows; 0: RAFT_LEVEL_MAX */
	/* Snapshots of this entry and later ones do not serve the owner, who has seen what is in them: they count as little as
	 * damaged ones; 0: all serve. */
	uint64_t unusable_from;
	bool on_trial; /* nothing is begun on the disk before the first storage_process: until then storage_give_back is possible */
	bool read_only;			 /* inspect a stopped member: repairs nothing, prepares nothing */
	const struct storage_heal *heal; /* NULL: damage is refused, and nothing is changed */
};

/* What becomes of a damaged directory. Damage that a good snapshot covers is set aside (renamed to *.damaged-N) and the member
 * goes on. Of any other damage the owner is asked: true, and all of the log and the snapshots are set aside and the directory
 * is blank; false, and it is refused and left as it is. */
struct storage_heal {
	/* config: the data of the newest configuration that is still readable, or (in_snapshot) what the owner gave to
	 * that snapshot as its configuration; NULL: none is. */
	bool (*may_give_up)(void *arg, const uint8_t *config, uint32_t size, bool in_snapshot);
	void *arg;
};

struct storage_state {
	bool blank;	      /* the directory held nothing: identity was just written */
	uint64_t incarnation; /* of the directory */
	uint64_t term;
	uint64_t vote;
	uint64_t commit;     /* hint from the newest record; base_index <= commit <= last_index */
	uint64_t base_index; /* the log begins after this */
	uint64_t base_term;
	uint64_t last_index;
	uint64_t torn_bytes;  /* cut from the tail: a flush that never completed */
	char torn_where[128]; /* "segment-… offset …", empty if nothing was cut */

	uint64_t snapshot_index; /* of the newest good one; 0: none. Without one the log is whole: base_index is 0 */
	uint64_t snapshot_term;
	/* The log does not lead to the snapshot or over it: the member died between the two steps of installing one,
	 * or before its own last entries were durable. Nothing behind the snapshot is worth anything: queue a reset to it. */
	bool snapshot_beyond_log;
	char snapshot_damage[192]; /* a newer snapshot that was passed over: file, offset, what; or empty */

	char healed[512]; /* damage that was set aside: file, offset, what was done; or empty */
	bool gave_up;	  /* … and that was everything */
	uint32_t level;	  /* highest feature level in log and snapshots: what the directory asks of a program */
	bool aside; /* the directory holds files that were set aside, now or earlier: it is not what a new one is */
};

struct storage;

/* Opens the log in the disk's directory and recovers it; a blank directory becomes an empty log. On
 * success the storage owns the disk (closes it), on failure the caller still does. ret_message: on a
 * positive or negative result says what is wrong, where, and what to do; STORAGE_MESSAGE_MAX bytes. Returns 0,
 * STORAGE_E_CORRUPT, _WRONG_CLUSTER, _VERSION, _FULL, or negative errno (I/O: fatal). */
int storage_open(struct disk *disk, const struct storage_options *options, struct storage **ret_storage,
		 struct storage_state *ret_state, char *ret_message) __attribute__((warn_unused_result));

/* Waits for writes under way and closes; what was queued and not yet submitted is dropped (nobody was
 * promised it). NULL is fine. Returns NULL. */
struct storage *storage_free(struct storage *storage);

/* What is queued from now on, and what waits, asks for a program that knows this feature level; an older one that finds it
 * says so and changes nothing. Never goes back. */
void storage_raise_level(struct storage *storage, uint32_t level);

/* The owner cannot use what was found, opened on trial: it has the disk back, as before storage_open, and may open it anew with
 * other options. No storage_process came before, and no reader is left. */
struct disk *storage_give_back(struct storage *storage) __attribute__((warn_unused_result));

/* Queues one write: hard state, commit hint and, if n_entries > 0, the entries first_index … (replacing any
 * suffix from first_index on). With n_entries == 0 and truncate_from > 0 the suffix from there on is removed.
 * With reset_index > 0 the log begins anew after that index: everything else in it is dropped, in one step that a
 * crash leaves undone or done; a good snapshot at reset_index must be durable, and the write has no entries.
 * Copies everything. seq: the caller's, increasing; reported by storage_durable_seq once the write is
 * on the disk. Returns 0, STORAGE_E_FULL, -EINVAL (a gap, an entry over the limit, an impossible reset), -ENOMEM, or the
 * disk's final error. */
struct storage_write {
	bool own; /* few entries, without which the member could do nothing: like term and vote, they may use the room
		   * that is kept free on a full disk */
	uint64_t seq;
	uint64_t term;
	uint64_t vote;
	uint64_t commit;
	uint64_t truncate_from; /* 0: none; otherwise also implied by first_index */
	uint64_t reset_index;	/* 0: none */
	uint64_t reset_term;	/* of the entry at reset_index */
	uint64_t first_index;
	const struct raft_entry *entries;
	uint32_t n_entries;
};
int storage_append(struct storage *storage, const struct storage_write *write) __attribute__((warn_unused_result));

/* True when storage_append would take an ordinary write now; false: the disk is full. */
bool storage_has_room(const struct storage *storage);
/* The same of exactly that write: so many entries, with so much data in all. Never false while the disk is not full. */
bool storage_takes(const struct storage *storage, uint32_t n_entries, uint64_t data_bytes, bool own);

/* Hands what is queued to the disk as far as it takes it (group commit: while a flush is under way, one more may
 * wait in the disk's lane and the rest gathers here) and takes completions back. Call after queuing and
 * whenever storage_fd is readable. now_us: the owner's monotonic clock, for pacing retries after a full disk.
 * Returns 0 or the disk's final error (negative): the member must stop. */
int storage_process(struct storage *storage, uint64_t now_us) __attribute__((warn_unused_result));

uint64_t storage_durable_seq(const struct storage *storage); /* highest seq such that all up to it are durable */
int storage_fd(const struct storage *storage);		     /* poll for reading; -1 with a simulated disk */
uint64_t storage_oldest_write_age_us(const struct storage *storage); /* 0 when nothing is under way */
uint64_t storage_deadline_us(const struct storage *storage); /* call storage_process then; UINT64_MAX: not needed */

/* Entries first_index … as many as fit into max_entries and bytes_max of data (one always fits; fewer where they come
 * from the disk in pieces: fewer than asked for is no sign of the end). The entries' data stay valid until the next
 * call of any storage function. Returns 0, STORAGE_E_COMPACTED, STORAGE_E_CORRUPT (a record read back no longer
 * matches its checksum), -EINVAL (beyond the end), -ENOMEM, or a read error. */
int storage_read(struct storage *storage, uint64_t first_index, uint32_t max_entries, uint64_t bytes_max,
		 struct raft_entry *ret_entries, uint32_t *ret_n) __attribute__((warn_unused_result));

/* Where the entry lies that storage_read could not read last: file, offset, what is wrong; empty if there was none.  The
 * log goes on in a new segment then, as soon as a file for it is ready, so that the damaged one leaves the log when it is
 * compacted up to what is the last entry now. */
const char *storage_damage(const struct storage *storage);

/* Entries up to index are no longer needed: whole segments before it are recycled. A good snapshot at index or beyond must
 * be durable. term: of the entry at index. Returns 0, -EINVAL (no such snapshot, beyond the end, or another term), or the
 * disk's final error. */
int storage_compact(struct storage *storage, uint64_t index, uint64_t term) __attribute__((warn_unused_result));

struct storage_stats {
	uint64_t flushes; /* completed: one write and one fdatasync each */
	uint64_t flushed_entries;
	uint64_t flushed_bytes;
	uint64_t queued_bytes; /* not yet durable; bounded by the caller (raft: uncommitted_bytes_max) */
	uint64_t cache_bytes;
	uint64_t segments;
	uint64_t disk_bytes;		   /* of segments, spares and snapshots */
	uint64_t snapshot_bytes;	   /* of the snapshots alone */
	uint64_t log_bytes_since_snapshot; /* written to the log since the newest snapshot was begun */
	bool full; /* no room for the next segment: what does not fit into this one is refused */
	uint64_t sync_us_total;
	uint64_t sync_us_max;
	uint64_t sync_histogram
		[20]; /* bucket k: syncs of less than 2^(k+4) microseconds (16 µs … 8 s), last: the rest */
};
void storage_get_stats(const struct storage *storage, struct storage_stats *ret_stats);

#endif
