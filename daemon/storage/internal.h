/*
 * What the files of this folder share and nobody else sees: the storage itself.
 *
 * Reading order: storage.c (the interface), flush.c (from queued writes to records on the disk), segments.c (the files),
 * recovery.c (opening), reader.c (older entries); snapshot_output.c (writing snapshots), snapshot_list.c (keeping them),
 * snapshot_verify.c and snapshot_reader.c (reading them).
 *
 * How far each entry is, by index:
 *
 *     base_index < … evicted … | cached, durable | handed to the disk | queued
 *                              ^ cache           ^ durable_index     ^ submitted_last    ^ last_index
 *
 * The queue is not a list of writes: it is the difference between what is in memory and what was handed to the
 * disk.  A cut of entries that were only queued is therefore resolved in memory; one of entries that
 * were handed over lowers submitted_last, and the next record says so on the disk.
 */
#ifndef RAFT_KV_STORAGE_INTERNAL_H
#define RAFT_KV_STORAGE_INTERNAL_H

#include "disk.h"
#include "format.h"
#include "log_cache.h"
#include "log_index.h"
#include "snapshot.h"
#include "snapshots.h"

#define SEGMENT_SIZE_LEAST 16384u /* what the format can live with; configurations keep to STORAGE_SEGMENT_SIZE_MIN */
#define SPARES_MAX 4u		  /* files kept for reuse; more are removed */
#define RECORDS_UNDER_WAY_MAX 2u  /* one that the disk works on, one that waits behind it */
#define SEGMENT_JOBS_MAX 2u	  /* in the background */
#define SNAPSHOT_BUFFERS 2u	  /* of one snapshot on its way to the disk */
#define SNAPSHOT_REMOVALS_MAX 1u
#define BACKGROUND_JOBS_MAX (SEGMENT_JOBS_MAX + SNAPSHOT_OUTPUTS * SNAPSHOT_BUFFERS + SNAPSHOT_REMOVALS_MAX)
#define SNAPSHOTS_KEPT 2u
#define FULL_RETRY_US 500000u	/* a full disk is asked again after this long */
#define MEMORY_RETRY_US 100000u /* and so is a full memory */

enum snapshot_output_kind { SNAPSHOT_WRITTEN, SNAPSHOT_RECEIVED, SNAPSHOT_OUTPUTS };

#define SETTLE_US 100000u /* an idle log gets a record behind its last entries after this long */

/* A log write and its two companions when it begins a segment. */
_Static_assert(3 * RECORDS_UNDER_WAY_MAX + BACKGROUND_JOBS_MAX <= DISK_JOBS_MAX, "all jobs fit into the disk's lanes");

struct storage_segment {
	uint64_t sequence;
	uint64_t size;
	uint64_t base_index; /* the log's end when it was made */
	bool named;	     /* its name is durable */
};

enum flight_kind {
	FLIGHT_HEADER, /* a segment's header, written while the file is still a spare */
	FLIGHT_NAME,   /* the rename that makes the spare a segment */
	FLIGHT_RECORD,
};

/* A job in the disk's LOG lane. */
struct storage_flight {
	enum flight_kind kind;
	uint64_t ticket;
	uint64_t sequence;   /* NAME: of the segment */
	uint64_t seq;	     /* RECORD: writes up to this one are durable with it */
	uint64_t last_index; /* RECORD: entries up to this one; lowered by later cuts */
	uint32_t n_entries;
	bool resets; /* RECORD: the log begins anew with it */
	uint32_t bytes;
	uint8_t *header; /* HEADER: the bytes, owned */
	unsigned buffer; /* RECORD: number of the buffer in use */
};

enum background_kind {
	BACKGROUND_PREPARE,
	BACKGROUND_RECYCLE,
	BACKGROUND_REMOVE,
	BACKGROUND_OUTPUT,	    /* a step of a snapshot on its way to the disk */
	BACKGROUND_REMOVE_SNAPSHOT, /* one that is no longer needed */
};

struct storage_background {
	enum background_kind kind;
	uint64_t ticket;
	uint32_t spare;
	uint64_t size;
	enum snapshot_output_kind output;
	unsigned buffer;
};

/* A snapshot file that counts: its name is durable. */
struct storage_snapshot {
	struct storage_snapshot_info info;
	unsigned readers; /* the file stays while there are any */
	bool damaged;
	bool distrusted; /* … as the owner says: the file may be as it was written */
};

enum snapshot_step {
	STEP_NONE,
	STEP_FILLING, /* parts are written as they fill */
	STEP_ENDING,  /* all bytes are known; the last parts are being written */
	STEP_SYNCING,
	STEP_NAMING,
	STEP_CLEANING, /* waits for writes under way, then removes the file */
	STEP_REMOVING,
};

/* A snapshot on its way to the disk, written here or received. */
struct snapshot_output {
	enum snapshot_step step;
	bool submitted; /* something was handed to the disk for it */
	int result;	/* of the last that ended */
	uint64_t index;
	uint64_t term;
	uint64_t log_mark;	       /* storage->log_written when it was begun */
	struct snapshot_parser parser; /* of a written one only chain and header */
	struct {
		uint8_t *data;
		size_t used;
		bool busy;
	} buffers[SNAPSHOT_BUFFERS];
	unsigned current; /* buffer being filled */
	unsigned n_jobs;
};

/* Writes up to seq are durable once the record that ends at last_index, or beyond, is. */
struct storage_marker {
	uint64_t seq;
	uint64_t last_index;
};

struct storage_retired {
	uint64_t sequence;
	uint64_t size;
};

struct storage {
	struct disk *disk;
	struct storage_options options;
	struct format_identity identity;
	uint32_t level;	 /* feature level of what is written; 0 and 1 are the same */
	int error;	 /* the disk's final one */
	uint64_t now_us; /* of the last storage_process */
	uint64_t next_ticket;

	/* The log as its owner sees it, queued writes included. */
	struct log_cache cache;
	struct log_index index;
	uint64_t base_index;
	uint64_t base_term;
	uint64_t term;
	uint64_t vote;
	uint64_t commit;

	/* Queued: not handed to the disk. */
	struct storage_marker *markers;
	size_t markers_first;
	size_t markers_end;
	size_t markers_capacity;
	uint64_t queued_bytes; /* of encoded entries */
	uint64_t queued_writes;

	/* Handed to the disk. */
	uint64_t submitted_last;
	uint64_t submitted_seq;
	bool reset_queued;  /* the next record says that the log begins anew behind submitted_last */
	uint64_t reset_seq; /* until this is durable the old log stays on the disk */
	uint64_t flush;	    /* number of the newest record */
	uint64_t checksum;  /* its checksum, or that of the segment's header: the chain's end */
	uint64_t offset;    /* in the newest segment, for the next record */
	struct storage_flight flights[DISK_JOBS_MAX];
	unsigned flights_first;
	unsigned n_flights;
	unsigned n_records; /* flights of kind RECORD */
	struct {
		uint8_t *data;
		size_t capacity;
		bool busy;
	} buffers[RECORDS_UNDER_WAY_MAX];
	uint64_t flight_bytes;

	/* Durable. */
	uint64_t durable_index;
	uint64_t durable_seq;

	/* Files. */
	struct storage_segment *segments; /* oldest first, sequences without a gap; the last one is written to */
	size_t n_segments;
	size_t segments_capacity;
	struct storage_retired *retired; /* no longer part of the log, still to be recycled */
	size_t n_retired;
	size_t retired_capacity;
	uint32_t spares[SPARES_MAX]; /* files that are ready */
	unsigned n_spares;
	uint32_t next_spare;
	struct storage_background background[BACKGROUND_JOBS_MAX]; /* in order of submission */
	unsigned n_background;
	unsigned n_segment_jobs;
	bool full; /* the last attempt to prepare a file found no room */
	uint64_t retry_full_us;
	uint64_t retry_memory_us; /* UINT64_MAX: not needed */
	/* When a record without entries is written behind the last entries, or a reset; or UINT64_MAX. */
	uint64_t settle_us;

	/* Snapshots. */
	struct storage_snapshot *snapshots; /* by index, newest first */
	size_t n_snapshots;
	size_t snapshots_capacity;
	struct snapshot_output outputs[SNAPSHOT_OUTPUTS];
	bool removing_snapshot;
	uint64_t log_written; /* bytes of records, ever since opening */
	uint64_t log_mark;    /* log_written when the newest snapshot was begun */

	/* Entries read back from the disk. */
	char damage[128]; /* where the last bad ones lie */
	bool roll_wanted; /* the next record begins a segment: the newest one is damaged */
	uint8_t *read_buffer;
	size_t read_capacity;

	struct storage_stats stats;
};

static inline uint64_t storage_last_index(const struct storage *storage)
{
	return storage->cache.next_index - 1;
}

static inline struct storage_segment *storage_newest_segment(const struct storage *storage)
{
	return &storage->segments[storage->n_segments - 1];
}

/* The largest record that this storage writes: a segment of its options holds it. */
static inline uint64_t storage_record_max(const struct storage *storage)
{
	uint64_t room = storage->options.segment_size - FORMAT_HEADER_SIZE;
	return room < FORMAT_RECORD_MAX ? room : FORMAT_RECORD_MAX;
}

/* segments.c */
void segments_name(char *ret_name, uint64_t sequence);
void segments_spare_name(char *ret_name, uint32_t number);
bool segments_parse_name(const char *name, uint64_t *ret_sequence);
bool segments_parse_spare(const char *name, uint32_t *ret_number);
int segments_reserve(struct storage *storage) __attribute__((warn_unused_result));
/* Begins a new segment in a spare file. Returns 0; -EAGAIN: no spare is ready; -ENOMEM; or the disk's error. */
int segments_roll(struct storage *storage) __attribute__((warn_unused_result));
/* Takes segments that lie before the base out of the log. */
void segments_retire(struct storage *storage);
/* Prepares, recycles and removes files in the background as needed. */
void segments_tend(struct storage *storage);
void segments_background_done(struct storage *storage, const struct storage_background *done, int error);
/* Hands a job to the BACKGROUND lane. Returns false on the disk's error, which is kept in storage->error. */
bool background_submit(struct storage *storage, const struct storage_background *background, struct disk_job *job);

/* snapshot_list.c */
#define SNAPSHOT_PART_SUFFIX ".part" /* of one that is being received; survives a restart */
void snapshots_name(char *ret_name, uint64_t index, const char *suffix);
bool snapshots_parse_name(const char *name, const char *suffix, uint64_t *ret_index);
/* Room for one more. Returns 0 or -ENOMEM. */
int snapshots_reserve(struct storage *storage) __attribute__((warn_unused_result));
void snapshots_add(struct storage *storage,
		   const struct storage_snapshot *snapshot);			  /* replaces one at the same index */
struct storage_snapshot *snapshots_find(struct storage *storage, uint64_t index); /* a good one, or NULL */
/* Removes what is no longer needed. */
void snapshots_tend(struct storage *storage);
void snapshots_removed(struct storage *storage, int error);

/* snapshot_output.c */
void outputs_tend(struct storage *storage);
void outputs_done(struct storage *storage, const struct storage_background *done, int error);
void outputs_release(struct storage *storage);

/* snapshot_verify.c */
struct snapshot_verdict {
	struct snapshot_parser
		parser; /* up to the last good part; of a file that is to be continued, before the footer */
	int result;	/* 0, STORAGE_E_CORRUPT, STORAGE_E_VERSION, or negative errno */
	const char *what;
};
enum snapshot_extent {
	SNAPSHOT_WHOLE,	  /* all of the file must be good */
	SNAPSHOT_PARTIAL, /* it may end anywhere */
	SNAPSHOT_HEADER,  /* only that is read, and must be good */
};
struct snapshot_verdict snapshot_verify(struct disk *disk, const char *name, uint64_t size,
					enum snapshot_extent extent);

/* flush.c */
/* Hands a job to the disk and gives it a ticket; a refusal is final. */
int flush_submit_job(struct storage *storage, struct disk_job *job) __attribute__((warn_unused_result));
struct storage_flight *flush_add_flight(struct storage *storage, enum flight_kind kind, uint64_t ticket);
void flush_submit(struct storage *storage);
void flush_flight_done(struct storage *storage, const struct disk_completion *completion);
void flush_release_buffers(struct storage *storage);

/* reader.c */
int reader_read(struct storage *storage, uint64_t first_index, uint32_t max_entries, uint64_t bytes_max,
		struct raft_entry *ret_entries, uint32_t *ret_n) __attribute__((warn_unused_result));
void reader_release(struct storage *storage, size_t capacity_max);

/* recovery.c */
int recovery_run(struct storage *storage, struct storage_state *ret_state, char *ret_message)
	__attribute__((warn_unused_result));

/* The newest feature level that the owner knows. */
static inline uint32_t storage_level_max(const struct storage *storage)
{
	return storage->options.level_max != 0 ? storage->options.level_max : RAFT_LEVEL_MAX;
}

#endif
