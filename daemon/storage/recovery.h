/*
 * What the files of recovery share: recovery.c (the directory, the order of things), recovery_segments.c (what the log
 * says), recovery_snapshots.c (what there is besides), recovery_repair.c (making it durable and usable) and
 * recovery_heal.c (setting damage aside).
 */
#ifndef RAFT_KV_STORAGE_RECOVERY_H
#define RAFT_KV_STORAGE_RECOVERY_H

#include "internal.h"

enum file_kind { FILE_SEGMENT, FILE_SNAPSHOT, FILE_PART, FILE_SPARE, FILE_TEMPORARY };

struct file {
	enum file_kind kind;
	uint64_t number; /* sequence, index of the snapshot, or number of the spare */
	uint64_t size;
	char name[DISK_NAME_MAX + 1];
};

/* Sorted by kind and number: segments first. */
struct files {
	struct file *items;
	size_t count;
	size_t capacity;
	size_t n_segments;
	uint32_t n_asides; /* the highest number behind ASIDE_SUFFIX */
	bool out_of_memory;
	char no_file[DISK_NAME_MAX + 1]; /* bears the name of one of ours, and is none; "": nothing does */
};

#define ASIDE_SUFFIX ".damaged-" /* and a number: files that were set aside */

struct recovery {
	struct storage *storage;
	struct storage_state *state;
	char *message;
	struct files files;

	/* The part of the segment being read that is in memory. */
	uint8_t *window;
	size_t window_capacity;
	uint64_t window_offset;
	size_t window_length;
	const struct file *window_file;

	uint64_t last_record;	 /* in the newest segment: where the last good record begins, 0 if there is none */
	bool last_needs_proof;	 /* that record has entries, or is a reset */
	uint64_t snapshot_index; /* of the newest good one */
	/* Of the newest one whose bytes are good, though the owner may refuse what they say of its state. */
	uint64_t whole_index;
	struct snapshot_verdict damage; /* of the newest damaged one */
	const struct file *damaged;
	bool damage_is_state; /* … whose bytes are good: the owner refuses what they say */
	/* Of the newest one that the disk did not let us read, newer than all good ones. */
	struct snapshot_verdict unread_verdict;
	const struct file *unread;
	const struct file *bad; /* the segment that the log cannot be read beyond; NULL: it is not a segment's fault */

	/* The newest configuration that could be read, for recovery_heal. */
	uint8_t *config;
	uint32_t config_size;
	uint64_t config_index;
	bool config_in_snapshot;
};

/* recovery.c: saying what is wrong; each returns the result that it was given or stands for. */
__attribute__((format(printf, 5, 6))) int recovery_refuse(struct recovery *recovery, int result, const char *name,
							  uint64_t offset, const char *format, ...);
int recovery_refuse_damage(struct recovery *recovery, const struct file *file, uint64_t offset, const char *what);
int recovery_refuse_error(struct recovery *recovery, const char *name, uint64_t offset, int error);
int recovery_refuse_newer(struct recovery *recovery, const struct file *file, uint64_t offset);
/* Part of the log or a snapshot asks for a program that knows this level: 0 and noted, or refused. */
int recovery_check_level(struct recovery *recovery, const char *name, uint64_t offset, uint32_t level)
	__attribute__((warn_unused_result));
/* What is ours in the directory, sorted. Returns 0 or negative errno; items is to be freed in both cases. */
int recovery_list_files(struct disk *disk, struct files *files) __attribute__((warn_unused_result));
/* Makes len bytes at offset available, fewer where the file ends. Returns 0 or an error that is described. */
int recovery_look(struct recovery *recovery, const struct file *file, uint64_t offset, size_t len,
		  const uint8_t **ret_buf, size_t *ret_len) __attribute__((warn_unused_result));
/* Runs a job. Returns 0 or an error that is described. */
int recovery_run_job(struct recovery *recovery, struct disk_job *job) __attribute__((warn_unused_result));

/* recovery_segments.c */
int recovery_open_segment(struct recovery *recovery, const struct file *file, const struct file *before)
	__attribute__((warn_unused_result));
int recovery_scan_segment(struct recovery *recovery, const struct file *file, bool last)
	__attribute__((warn_unused_result));

/* recovery_snapshots.c */
/* Verifies the snapshots, before the log is read … */
int recovery_read_snapshots(struct recovery *recovery) __attribute__((warn_unused_result));
/* … and judges afterwards whether they and the log make a whole. */
int recovery_judge_snapshots(struct recovery *recovery) __attribute__((warn_unused_result));
/* Refuses for the snapshot in recovery->unread. */
int recovery_refuse_unread(struct recovery *recovery) __attribute__((warn_unused_result));

/* recovery_heal.c */
/* The directory is damaged, and recovery->message says where. Returns -EAGAIN when damage was set aside: begin again;
 * STORAGE_E_CORRUPT when it stays as it is; or an error that is described. */
int recovery_heal(struct recovery *recovery) __attribute__((warn_unused_result));
void recovery_note_config(struct recovery *recovery, uint64_t index, const uint8_t *data, uint32_t size, bool snapshot);

/* recovery_repair.c */
int recovery_rewrite_tail(struct recovery *recovery, const struct file *file) __attribute__((warn_unused_result));
/* Takes over spares and the snapshot that was being received; what cannot be used is removed. */
int recovery_adopt_files(struct recovery *recovery) __attribute__((warn_unused_result));
int recovery_create_log(struct recovery *recovery) __attribute__((warn_unused_result));

#endif
