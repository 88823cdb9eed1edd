/*
 * A disk in memory that can fail in all the ways that a real one does, one operation at a time.
 *
 * It distinguishes what a process sees (the page cache) from what survives a power failure (the platter): writes reach
 * the platter sector by sector when they are synced, names when their directory is.  Jobs do not run by
 * themselves: memory_disk_step executes the next operation (a write, a sync, a rename …) of a lane's oldest job, so that
 * a test decides about every interleaving and can stop between any two.
 *
 *     memory_disk_crash   the power fails: of everything unsynced, the fate decides sector by sector what survived
 *     memory_disk_kill    only the process dies: what it wrote stays visible, and still unsynced
 *
 * Afterwards memory_disk_open gives the next process its handle.
 */
#ifndef RAFT_KV_TESTS_MEMORY_DISK_H
#define RAFT_KV_TESTS_MEMORY_DISK_H

#include "daemon/storage/disk.h"

struct memory_disk;

/* What becomes of an unsynced sector, or of an unsynced change of the directory. */
enum memory_fate {
	FATE_LOST, /* the old contents */
	FATE_KEPT, /* the new */
	FATE_TORN, /* sectors only: half of each */
	FATES,
};

/* Called once for each unsynced sector, in order of file and place, and then for each unsynced change of a name. */
typedef enum memory_fate (*memory_fate_fn)(void *arg, unsigned number);

struct memory_disk *memory_disk_new(void);
struct memory_disk *memory_disk_free(struct memory_disk *disk);	       /* NULL is fine; returns NULL */
struct memory_disk *memory_disk_clone(const struct memory_disk *disk); /* without handle and jobs */

/* The handle for storage_open; its close does not touch the contents. One at a time. */
struct disk *memory_disk_open(struct memory_disk *disk);

/* Executes the next operation of the lane's oldest job. Returns false if there is none, or the process died. */
bool memory_disk_step(struct memory_disk *disk, enum disk_lane lane);
/* Executes everything that was submitted, in an order drawn from seed. */
void memory_disk_run_all(struct memory_disk *disk, uint64_t seed);
bool memory_disk_is_idle(const struct memory_disk *disk);

/* The process dies before operation number n from now (run() counts, too): from then on, everything fails with
 * -EIO and changes nothing. UINT64_MAX: never. */
void memory_disk_die_at(struct memory_disk *disk, uint64_t n);
bool memory_disk_is_dead(const struct memory_disk *disk);
uint64_t memory_disk_operations(const struct memory_disk *disk); /* executed so far */

unsigned memory_disk_unsynced(const struct memory_disk *disk); /* how often crash would ask for a fate */
void memory_disk_crash(struct memory_disk *disk, memory_fate_fn fate, void *arg);
void memory_disk_kill(struct memory_disk *disk);

/* The next sync of a file fails with -EIO, and as with real kernels its sectors count as clean afterwards: visible, but
 * not on the platter, and no later sync writes them. */
void memory_disk_fail_sync(struct memory_disk *disk);
/* Operation number n from now fails with this error and changes nothing. UINT64_MAX: none. */
void memory_disk_fail_at(struct memory_disk *disk, uint64_t n, int error);
/* Read number n from now fails with -EIO, once. UINT64_MAX: none. */
void memory_disk_fail_read_at(struct memory_disk *disk, uint64_t n);
/* Every read of the file fails with -EIO, until it is called for another. */
void memory_disk_fail_reads_of(struct memory_disk *disk, const char *name);
bool memory_disk_read_failed(const struct memory_disk *disk); /* that read has happened, or none is to fail */
/* Room for this many bytes in all files; PREPARE and STREAM fail with -ENOSPC beyond. */
void memory_disk_set_capacity(struct memory_disk *disk, uint64_t bytes);

/* Direct access, for damage and inspection: contents as a process sees them, or NULL. A change made here is
 * on the platter, too, after memory_disk_settle. */
uint8_t *memory_disk_contents(struct memory_disk *disk, const char *name, uint64_t *ret_size);
void memory_disk_settle(struct memory_disk *disk);
void memory_disk_delete(struct memory_disk *disk, const char *name);
void memory_disk_truncate(struct memory_disk *disk, const char *name, uint64_t size);

#endif
