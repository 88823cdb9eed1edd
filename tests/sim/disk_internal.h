/*
 * What the files of a member's disk share.
 *
 *   disk.c         the interface: jobs are queued, take time, stall, are done
 *   disk_jobs.c    what a job does to the files, what it does when it fails, what a crash leaves of it
 *   disk_damage.c  rot and misdirected writes, in places where they hurt
 *   disk_away.c    a directory that is put away, and comes back
 *   platter.c      the files under it
 */
#ifndef RAFT_KV_SIM_DISK_INTERNAL_H
#define RAFT_KV_SIM_DISK_INTERNAL_H

#include "platter.h"

#include <string.h>

struct sim_job {
	bool used;
	bool done;
	uint64_t number;     /* tells events of an earlier life apart; ascending in the order of submission */
	uint64_t started_us; /* of the member's clock */
	uint64_t ended_us;
	int error;
	struct disk_job job;
};

#define PLACES 16u

struct sim_place {
	char name[PLATTER_NAME_MAX];
	uint64_t offset, size;
};

/* A good directory that is not where its member looks for it. */
struct sim_away {
	struct platter platter;
	char tail_name[PLATTER_NAME_MAX];
	uint64_t tail_offset, tail_size;
};

struct sim_disk {
	struct disk base;
	struct sim *sim;
	unsigned member;
	struct platter platter;
	struct sim_away away;
	struct sim_job jobs[DISK_JOBS_MAX];
	uint64_t next_number;
	uint64_t lane_free_us[DISK_LANES];
	int error;	/* final, of this opening */
	bool excused;	/* an error was injected, or damage found, since the opening */
	bool damaged;	/* bytes on the platter are not what was written */
	bool set_aside; /* damage was, since the opening */
	bool promise_rotten;
	uint64_t start_left; /* operations of this start until one fails; 0: none does */

	/* The newest record on the platter, which nothing behind it proves to have been complete. */
	char tail_name[PLATTER_NAME_MAX];
	uint64_t tail_offset, tail_size;

	/* Places at which damage hurts most: recent records, and last records of segments that are full. */
	struct sim_place recent[PLACES], ends[PLACES];
	uint64_t n_recent, n_ends; /* ever */
};

static inline struct sim_disk_faults *sim_disk_faults_of(const struct sim_disk *disk)
{
	return &disk->sim->members[disk->member].disk_faults;
}

static inline bool sim_disk_is_segment(const char *name)
{
	return strncmp(name, "segment-", strlen("segment-")) == 0;
}

static inline bool sim_disk_is_aside(const char *name)
{
	return strstr(name, ".damaged-") != NULL;
}

/* disk_jobs.c */
int sim_disk_execute(struct sim_disk *disk, const struct disk_job *job);
void sim_disk_interrupt(struct sim_disk *disk, const struct disk_job *job, enum sim_crash how);
void sim_disk_sync_names(struct sim_disk *disk);
void sim_disk_note_names_kept(struct sim_disk *disk); /* after a power cut */

/* disk_damage.c */
void sim_disk_note_record(struct sim_disk *disk, const struct disk_job *job); /* the newest one of the log */
void sim_disk_heal_newest_record(struct sim_disk *disk);
/* False: it found nothing to hit, and the job is to be done as ever. */
bool sim_disk_misdirect(struct sim_disk *disk, struct platter_file *intended, const struct disk_job *job);
void sim_disk_lose_segment_end(struct sim_disk *disk, const char *new_name); /* it was named */
void sim_disk_rot_received(struct sim_disk *disk, const char *name); /* the snapshot of that name was received */
bool sim_disk_refuses(struct sim_disk *disk, const char *name);	     /* to read it, while the member is up */
bool sim_disk_misdirect_stream(struct sim_disk *disk, struct platter_file *intended, const struct disk_job *job);

#endif
