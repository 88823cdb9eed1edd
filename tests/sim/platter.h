/*
 * Files as a crash leaves them: a page cache above a platter.
 *
 * Programs see the page cache. A write that was not synced is in the cache only: it survives the death of the process, and a
 * power cut leaves each of its sectors old or new, each for itself. After a sync that failed the kernel takes the pages for
 * clean: the cache goes on showing what the platter does not have, and no later sync writes it out. Names behave likewise: what
 * was renamed, made or removed since the directory was synced is undone by a power cut, the newest first. A file that is
 * streamed has in addition a length that a power cut may leave anywhere between the old and the new one.
 *
 * What this must not know: jobs, time, members, what the bytes mean.
 */
#ifndef RAFT_KV_SIM_PLATTER_H
#define RAFT_KV_SIM_PLATTER_H

#include "sim.h"

#include "daemon/storage/disk.h"

#define PLATTER_NAME_MAX (DISK_NAME_MAX + sizeof(DISK_TEMPORARY_SUFFIX))
#define PLATTER_PAGE 4096u

/* A sector of which the platter holds other bytes than the page cache. */
struct platter_sector {
	uint64_t offset;
	bool clean; /* the kernel believes it is written */
	uint8_t bytes[SIM_SECTOR];
};

struct platter_file {
	char name[PLATTER_NAME_MAX]; /* empty: it has none, but may get one back in a power cut */
	uint64_t size;
	uint8_t *bytes;	  /* the page cache */
	uint8_t *durable; /* the last answer of platter_visit_durable, where it differs */
	struct platter_sector *stale;
	size_t n_stale, stale_capacity;
	struct platter_sector *intact; /* damaged sectors as they were written */
	size_t n_intact, intact_capacity;

	/* While it grows, instead of stale sectors: what the platter has, and of which sectors the kernel believes it wrongly. */
	bool growing;
	uint8_t *synced;
	uint64_t synced_size;
	uint8_t *missed;
	size_t n_missed;
};

/* A change of name since the last sync of the directory; an empty name: the file did not exist, or does no more. */
struct platter_change {
	uint64_t operation; /* changes of one operation are undone together */
	struct platter_file *file;
	char old_name[PLATTER_NAME_MAX];
	char new_name[PLATTER_NAME_MAX];
};

struct platter {
	struct platter_file **files;
	size_t n_files, files_capacity;
	struct platter_change *changes;
	size_t n_changes, changes_capacity;
	uint64_t operations;
};

void platter_fini(struct platter *platter);
struct platter_file *platter_find(const struct platter *platter, const char *name); /* NULL: there is none */

/* Names; durable after platter_sync_directory only. */
struct platter_file *platter_create(struct platter *platter, const char *name, uint64_t size); /* zeros, replaces */
void platter_rename(struct platter *platter, struct platter_file *file, const char *new_name);
void platter_remove(struct platter *platter, struct platter_file *file);
void platter_sync_directory(struct platter *platter);

/* Bytes. platter_write changes the cache only; the sectors of it that reach the platter all the same are drawn. */
enum platter_fate {
	PLATTER_CACHED, /* written, not synced */
	PLATTER_SYNCED, /* written and synced, with all that was written to the file before */
	PLATTER_UNSYNCED /* written, and the sync failed: some sectors reached the platter, and all pages count as clean */
};
void platter_write(struct platter_file *file, uint64_t offset, const uint8_t *buf, uint64_t size,
		   enum platter_fate fate, struct sim_random *random);
/* Cuts the file at offset and adds to it, in the cache only. Whole after platter_sync, unless a sync failed before and the
 * missing pages were not written again: platter_stream.c. */
void platter_stream(struct platter_file *file, uint64_t offset, const uint8_t *buf, uint64_t size);
void platter_sync(struct platter_file *file);
void platter_fail_sync(struct platter_file *file, struct sim_random *random);
/* A write that the power cut interrupts: its sectors are old or new on the platter. */
void platter_tear(struct platter_file *file, uint64_t offset, const uint8_t *buf, uint64_t size,
		  struct sim_random *random);
/* Changes sectors on the platter and in the cache behind everybody's back: whole ones, but for the file's last. Not while any
 * is stale, nor while the file grows. */
void platter_damage(struct platter_file *file, uint64_t offset, const uint8_t *buf, uint64_t size);
/* These bytes were written as far as anybody knows, but are not there. */
void platter_miss(struct platter_file *file, uint64_t offset, const uint8_t *buf, uint64_t size);
/* The same for whole sectors of a file that grows: they were written, and are zeros. */
void platter_lose(struct platter_file *file, uint64_t offset, uint64_t size);
/* As if the sectors in the range had never been damaged. */
void platter_heal(struct platter_file *file, uint64_t offset, uint64_t size);

/* For platter.c: files that grow. */
void platter_cut_growing(struct platter_file *file, struct sim_random *random);
void platter_evict_growing(struct platter_file *file, struct sim_random *random);
void platter_rewrite_growing(struct platter_file *file, uint64_t offset, const uint8_t *buf, uint64_t size);
void platter_stream_fini(struct platter_file *file);
void platter_forget_damage(struct platter_file *file, uint64_t offset, uint64_t size); /* size: beyond the end is fine */

void platter_cut_power(struct platter *platter, struct sim_random *random);
/* The kernel drops clean pages from the cache: those of a failed sync show the platter's old bytes again. */
void platter_evict(struct platter *platter, struct sim_random *random);
void platter_wipe(struct platter *platter);

/* What a power cut would leave at least: durable names, the platter's bytes, undamaged: what was promised rests on them. These
 * live until the next call. */
void platter_visit_durable(struct platter *platter,
			   void (*visit)(void *arg, const char *name, const uint8_t *bytes, uint64_t size), void *arg);
uint64_t platter_bytes(const struct platter *platter); /* of all files that have a name */
const char *platter_durable_name(const struct platter *platter, const struct platter_file *file);

#endif
