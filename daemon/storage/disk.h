/*
 * The narrow interface between the log and a disk, with two implementations: disk_posix.c (here) and the
 * simulated disk of tests/sim.
 *
 * All paths are plain file names within ONE directory, the member's data directory.  Synchronous calls are
 * for opening, recovery and reading; everything that must not block the loop is a job: submitted, executed in
 * order within its lane, completed later.  A failed write or sync is final: the disk reports the same
 * error for every later job of both lanes, and the member stops (TRAPS: a failed fsync is never retried).
 * The exception is -ENOSPC from PREPARE, STREAM and SYNC, which leaves the disk usable: the file they were about is
 * not, and its owner removes it.
 *
 * The owner thread makes all calls; completions are taken on it too.
 */
#ifndef RAFT_KV_DISK_H
#define RAFT_KV_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define DISK_NAME_MAX 63u
#define DISK_TEMPORARY_SUFFIX ".tmp" /* of files that are not finished, or removed; left behind by a crash, to be removed */
#define DISK_JOBS_MAX 16u	     /* submitted and not yet taken back, both lanes together */

enum disk_lane {
	DISK_LANE_LOG,	      /* the synced log writes: nothing else may wait in this lane */
	DISK_LANE_BACKGROUND, /* preparing and recycling segment files; snapshots */
	DISK_LANES,
};

enum disk_job_type {
	DISK_JOB_WRITE,	  /* pwrite all of buf at offset of an existing file, then fdatasync (LOG lane) */
	DISK_JOB_PREPARE, /* make name a file of exactly `size` bytes of zeros, synced, directory synced: written
			   * out, not only allocated, so that later syncs change no metadata (BACKGROUND lane).
			   * Under a temporary name first: name exists only when it is complete.  -ENOSPC: cleaned up */
	DISK_JOB_RENAME,  /* rename name to new_name (replacing it), directory synced (either lane); onto itself: only
			   * the directory is synced */
	DISK_JOB_REMOVE,  /* unlink name if it is there, directory synced (either lane); the room of a large file comes back
			   * a little later */
	DISK_JOB_STREAM,  /* cut name at offset and add all of buf there; offset 0 creates it.  Not synced, but what
			   * is not on the disk yet stays bounded, so that the log's syncs do not wait for it
			   * (BACKGROUND lane).  -ENOSPC: the file stays, with part of buf or none,
			   * and pieces that were to follow fail alike */
	DISK_JOB_SYNC,	  /* fsync of name (BACKGROUND lane); the directory is not synced */
};

struct disk_job {
	enum disk_job_type type;
	enum disk_lane lane;
	uint64_t ticket; /* the caller's; comes back with the completion */
	char name[DISK_NAME_MAX + 1];
	char new_name[DISK_NAME_MAX + 1];
	uint64_t offset;
	uint64_t size;	    /* PREPARE: of the file; WRITE, STREAM: bytes in buf */
	const uint8_t *buf; /* WRITE, STREAM: unchanged and alive until the completion was taken */
};

struct disk_completion {
	uint64_t ticket;
	int error;	      /* 0 or negative errno */
	uint64_t duration_us; /* of the job's execution, for the sync latency metric */
};

#define DISK_NO_FILE UINT64_MAX /* size of what is no regular file: a folder, a symbolic link … */

struct disk;

struct disk_ops {
	void (*close)(struct disk *disk); /* waits for jobs under way; frees */

	/* Names of all regular files, and of what is none with DISK_NO_FILE for its size; calls visit for each. 0 or negative
	 * errno. */
	int (*list)(struct disk *disk, void (*visit)(void *arg, const char *name, uint64_t size), void *arg);
	/* Reads up to len bytes at offset. Returns the count (short at the end of the file) or negative errno. */
	int64_t (*read)(struct disk *disk, const char *name, uint64_t offset, uint8_t *buf, size_t len);
	/* Synchronous twin of every job type, for opening, recovery and closing, when no job is under way that is about the
	 * same file. */
	int (*run)(struct disk *disk, const struct disk_job *job);

	/* Copies the job (not buf). Returns 0, -EAGAIN when DISK_JOBS_MAX are outstanding, or the disk's final
	 * error. */
	int (*submit)(struct disk *disk, const struct disk_job *job);
	/* Takes up to max completions, per lane in order of submission. Never blocks. Returns the count. */
	size_t (*take)(struct disk *disk, struct disk_completion *ret, size_t max);
	/* A descriptor that is readable while completions may be waiting, or -1 (simulated disk). take() resets it. */
	int (*fd)(struct disk *disk);
	/* Age in microseconds of the oldest unfinished LOG-lane job, 0 when idle. */
	uint64_t (*oldest_job_age_us)(struct disk *disk);
};

struct disk {
	const struct disk_ops *ops; /* first member of every implementation */
};

/* The POSIX disk: opens directory (which must exist: this never creates one), locks it against a second
 * process with flock on its file "lock" (created if missing), starts the lane threads. Returns 0;
 * -EWOULDBLOCK when another process holds the directory; any other negative errno. */
int disk_posix_open(const char *directory, struct disk **ret_disk) __attribute__((warn_unused_result));

/* From now on `read` is followed by a call with the bytes that were read, on the same thread; NULL: no longer. For a process that
 * has to show while it starts that it does not hang. */
void disk_posix_watch_reads(struct disk *disk, void (*watch)(void *arg, size_t bytes), void *arg);

/* The same without lock and threads and for reading only (raftctl log, raftctl check): submit and run refuse with
 * -EROFS. */
int disk_posix_open_readonly(const char *directory, struct disk **ret_disk) __attribute__((warn_unused_result));

#endif
