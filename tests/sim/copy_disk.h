/*
 * A copy of a member's directory, in memory, as a disk of its own: what is done to it is done to nobody. Jobs are done at once.
 * Any of its operations can be made to fail.
 *
 * Must not know: the member, what the bytes mean.
 */
#ifndef RAFT_KV_SIM_COPY_DISK_H
#define RAFT_KV_SIM_COPY_DISK_H

#include "platter.h"

struct copy_file {
	char name[PLATTER_NAME_MAX];
	uint8_t *bytes; /* owned */
	uint64_t size;
};

struct copy {
	struct disk base;
	struct copy_file *files; /* no two of a name */
	size_t n_files, capacity;
	uint64_t operations;	/* so far */
	uint64_t fails_at;	/* this one fails with EIO, and every job after it; 0: none does */
	bool done_all_the_same; /* a job that fails has done its work */
	uint64_t jobs;		/* so far */
	uint64_t last_job;	/* then the power goes: no more is done; 0: it does not */
	bool failed;
	bool full; /* no room for a new file */
	struct disk_completion done[DISK_JOBS_MAX];
	size_t n_done;
};

void copy_init(struct copy *copy);
void copy_of(struct copy *copy, const struct copy *from); /* its files; nothing of it fails */
void copy_fini(struct copy *copy);

struct copy_file *copy_find(const struct copy *copy, const char *name); /* NULL: there is none */
/* The file, of these bytes, or of zeros if they are NULL. One of the same name is replaced. */
struct copy_file *copy_put(struct copy *copy, const char *name, const uint8_t *bytes, uint64_t size);
void copy_resize(struct copy_file *file, uint64_t size); /* zeros are added */
void copy_remove(struct copy *copy, const char *name);
void copy_rename(struct copy *copy, const char *name, const char *new_name);
bool copy_equals(const struct copy *one, const struct copy *other); /* the same files with the same bytes */

#endif
