/*
 * What the files of the POSIX disk share: disk_posix.c (threads, the interface), disk_posix_jobs.c (what a job
 * does) and disk_posix_graves.c (what becomes of removed files).
 *
 * The threads share with the owner only the lanes' queues and a few fields, under one mutex; files and descriptors
 * belong to whoever opened them.  What this must not know: what the bytes mean.
 */
#ifndef RAFT_KV_DISK_POSIX_INTERNAL_H
#define RAFT_KV_DISK_POSIX_INTERNAL_H

#include "disk.h"

#include <pthread.h>

#define READ_FILES 4u /* descriptors kept open for reading */

struct lane_job {
	struct disk_job job;
	uint64_t submitted_us;
	struct disk_completion completion;
};

/* Jobs in order of submission: [taken, done) wait to be taken back, [done, submitted) to be executed. */
struct lane {
	struct posix_disk *disk;
	pthread_t thread;
	bool started;
	pthread_cond_t wake;
	struct lane_job jobs[DISK_JOBS_MAX];
	uint64_t taken;
	uint64_t done;
	uint64_t submitted;

	/* The thread's own: the file that it wrote last. */
	int fd;
	uint64_t fd_generation;
	char fd_name[DISK_NAME_MAX + 1];
};

struct read_file {
	int fd;
	uint64_t used; /* when, by the count of reads; 0: not in use */
	char name[DISK_NAME_MAX + 1];
};

struct posix_disk {
	struct disk disk; /* first, so that a struct disk is one of these */
	int directory;
	int lock;
	int event;
	bool read_only;

	pthread_mutex_t mutex; /* for what follows, and the lanes' queues */
	int error;	       /* the first failure: final */
	bool stopping;
	uint64_t generation; /* changes with every name: descriptors found by name before are stale */
	struct lane lanes[DISK_LANES];

	/* Large files that were removed, by number: from the first that is still there to `dug`. */
	struct {
		pthread_t thread;
		bool started;
		pthread_cond_t wake;
		bool ending; /* all of them go at once, and then the thread does */
		pthread_mutex_t digging; /* held by who adds one; taken before the mutex */
		uint64_t dug;		 /* changes with both held */
	} graves;

	/* The owner's own. */
	struct read_file read_files[READ_FILES];
	uint64_t read_generation;
	uint64_t n_reads;
	void (*watch)(void *arg, size_t bytes); /* NULL: nobody watches */
	void *watch_arg;
};

void disk_posix_lock(struct posix_disk *disk);
void disk_posix_unlock(struct posix_disk *disk);
void disk_posix_close_fd(int *fd);
uint64_t disk_posix_generation(struct posix_disk *disk);
/* Without signals, which are the loop's business. Returns 0 or negative errno. */
int disk_posix_start_thread(pthread_t *thread, void *(*main)(void *), void *arg, const char *name);

/* From now on there is nothing of this name, if there was; the caller syncs the directory. Returns 0 or negative errno. */
int disk_posix_remove(struct posix_disk *disk, const char *name) __attribute__((warn_unused_result));
int disk_posix_start_graves(struct posix_disk *disk) __attribute__((warn_unused_result));
void disk_posix_end_graves(struct posix_disk *disk); /* after the lanes have ended */

/* Does what the job says, without the mutex held. Returns 0 or negative errno. */
int disk_posix_execute(struct posix_disk *disk, struct lane *lane, const struct disk_job *job)
	__attribute__((warn_unused_result));

#endif
