/*
 * A disk in memory that can fail in all the ways that a real one does.  See memory_disk.h.
 */
#include "tests/unit/memory_disk.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512u
#define FILES_MAX 64u
#define NAMES_MAX 64u
#define CHANGES_MAX 64u
#define NAME_SIZE (DISK_NAME_MAX + sizeof(DISK_TEMPORARY_SUFFIX))

/* One file's contents, with or without a name. */
struct inode {
	bool used;
	uint64_t size;
	uint64_t platter_size; /* it grows with the sectors that reach the platter, and shrinks with a sync */
	uint8_t *seen;	       /* by processes */
	uint8_t *platter;      /* after a power failure */
	uint8_t *dirty; /* one byte a sector: seen, but not on the platter, and the next sync would change that */
};

struct name {
	char name[NAME_SIZE];
	unsigned inode;
};

struct directory {
	unsigned n_names;
	struct name names[NAMES_MAX];
};

/* A change of the directory that is not synced. */
struct change {
	enum { CHANGE_LINK, CHANGE_RENAME, CHANGE_UNLINK } type;
	char name[NAME_SIZE];
	char new_name[NAME_SIZE];
	unsigned inode;
};

struct queue {
	struct disk_job jobs[DISK_JOBS_MAX];
	struct disk_completion completions[DISK_JOBS_MAX];
	uint64_t taken;
	uint64_t done;
	uint64_t submitted;
	unsigned phase; /* of the job at `done` */
};

struct memory_disk {
	struct disk disk; /* first */
	struct inode inodes[FILES_MAX];
	struct directory seen;
	struct directory platter;
	struct change changes[CHANGES_MAX];
	unsigned n_changes;

	struct queue queues[DISK_LANES];
	int error;
	bool dead;
	bool fail_sync;
	uint64_t fail_at;
	int fail_error;
	uint64_t reads_to_failure; /* UINT64_MAX: never */
	char unreadable[NAME_SIZE];
	uint64_t die_at;
	uint64_t operations;
	uint64_t capacity;
};

/* Names --------------------------------------------------------------------------------------------- */

static struct name *find_name(struct directory *directory, const char *name)
{
	for (unsigned i = 0; i < directory->n_names; i++)
		if (strcmp(directory->names[i].name, name) == 0)
			return &directory->names[i];
	return NULL;
}

static struct inode *find_file(struct memory_disk *disk, const char *name)
{
	struct name *entry = find_name(&disk->seen, name);
	return entry ? &disk->inodes[entry->inode] : NULL;
}

static void remove_name(struct directory *directory, const char *name)
{
	struct name *entry = find_name(directory, name);
	if (entry)
		*entry = directory->names[--directory->n_names];
}

static void add_name(struct directory *directory, const char *name, unsigned inode)
{
	remove_name(directory, name);
	raft_assert(directory->n_names < NAMES_MAX);
	struct name *entry = &directory->names[directory->n_names++];
	(void)snprintf(entry->name, sizeof(entry->name), "%s", name);
	entry->inode = inode;
}

static void apply_change(struct directory *directory, const struct change *change)
{
	switch (change->type) {
	case CHANGE_LINK:
		add_name(directory, change->name, change->inode);
		break;
	case CHANGE_RENAME:
		if (strcmp(change->name, change->new_name) == 0)
			break;
		remove_name(directory, change->name);
		add_name(directory, change->new_name, change->inode);
		break;
	case CHANGE_UNLINK:
		remove_name(directory, change->name);
		break;
	}
}

static void change_directory(struct memory_disk *disk, const struct change *change)
{
	apply_change(&disk->seen, change);
	raft_assert(disk->n_changes < CHANGES_MAX);
	disk->changes[disk->n_changes++] = *change;
}

/* Files ---------------------------------------------------------------------------------------------- */

static size_t sectors(uint64_t size)
{
	return (size_t)((size + SECTOR - 1) / SECTOR);
}

static void free_inode(struct inode *inode)
{
	free(inode->seen);
	free(inode->platter);
	free(inode->dirty);
	*inode = (struct inode){0};
}

/* Files that no name leads to, now or after a crash, are gone. */
static void collect(struct memory_disk *disk)
{
	bool wanted[FILES_MAX] = {false};
	for (unsigned i = 0; i < disk->seen.n_names; i++)
		wanted[disk->seen.names[i].inode] = true;
	for (unsigned i = 0; i < disk->platter.n_names; i++)
		wanted[disk->platter.names[i].inode] = true;
	for (unsigned i = 0; i < disk->n_changes; i++)
		wanted[disk->changes[i].inode] = true;
	for (unsigned i = 0; i < FILES_MAX; i++)
		if (!wanted[i])
			free_inode(&disk->inodes[i]);
}

static unsigned new_inode(struct memory_disk *disk, uint64_t size)
{
	unsigned i = 0;
	collect(disk);
	while (i < FILES_MAX && disk->inodes[i].used)
		i++;
	raft_assert(i < FILES_MAX);
	size_t room = sectors(size) * SECTOR + 1; /* of an empty file, too */
	disk->inodes[i] = (struct inode){.used = true,
					 .size = size,
					 .platter_size = size,
					 .seen = calloc(1, room),
					 .platter = calloc(1, room),
					 .dirty = calloc(1, sectors(size) + 1)};
	raft_assert(disk->inodes[i].seen && disk->inodes[i].platter && disk->inodes[i].dirty);
	return i;
}

static void sync_inode(struct inode *inode)
{
	for (size_t s = 0; s < sectors(inode->size); s++)
		if (inode->dirty[s])
			memcpy(inode->platter + s * SECTOR, inode->seen + s * SECTOR, SECTOR);
	memset(inode->dirty, 0, sectors(inode->size));
	inode->platter_size = inode->size;
}

static uint64_t used_bytes(const struct memory_disk *disk)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < disk->seen.n_names; i++)
		bytes += disk->inodes[disk->seen.names[i].inode].size;
	return bytes;
}

/* Operations ----------------------------------------------------------------------------------------- */

static void put_bytes(struct inode *inode, const struct disk_job *job)
{
	memcpy(inode->seen + job->offset, job->buf, job->size);
	for (size_t s = (size_t)(job->offset / SECTOR); s < sectors(job->offset + job->size); s++)
		inode->dirty[s] = 1;
}

static int do_write(struct memory_disk *disk, const struct disk_job *job)
{
	struct inode *inode = find_file(disk, job->name);
	if (!inode)
		return -ENOENT;
	raft_assert(job->offset <= inode->size && job->size <= inode->size - job->offset); /* never grows a file */
	put_bytes(inode, job);
	return 0;
}

static void *resized(void *bytes, size_t old, size_t size)
{
	uint8_t *grown = realloc(bytes, size);
	raft_assert(grown);
	if (size > old)
		memset(grown + old, 0, size - old);
	return grown;
}

/* Cut at offset, then added to; offset 0 creates the file. What lay behind the cut stays on the platter until a sync. */
static int do_stream(struct memory_disk *disk, const struct disk_job *job)
{
	struct inode *inode = find_file(disk, job->name);
	if (job->offset > (inode ? inode->size : 0))
		return -ENOSPC; /* the piece before this one found no room */
	if (used_bytes(disk) - (inode ? inode->size - job->offset : 0) + job->size > disk->capacity)
		return -ENOSPC;
	if (!inode) {
		struct change change = {.type = CHANGE_LINK, .inode = new_inode(disk, 0)};
		(void)snprintf(change.name, sizeof(change.name), "%s", job->name);
		change_directory(disk, &change);
		inode = &disk->inodes[change.inode];
	}
	size_t old = sectors(inode->size > inode->platter_size ? inode->size : inode->platter_size);
	size_t now = sectors(job->offset + job->size);
	now = now > old ? now : old;
	inode->seen = resized(inode->seen, old * SECTOR, now * SECTOR + 1);
	inode->platter = resized(inode->platter, old * SECTOR, now * SECTOR + 1);
	inode->dirty = resized(inode->dirty, old, now + 1);
	inode->size = job->offset + job->size;
	memset(inode->dirty + sectors(inode->size), 0, now - sectors(inode->size));
	put_bytes(inode, job);
	return 0;
}

static int do_sync(struct memory_disk *disk, const char *name)
{
	struct inode *inode = find_file(disk, name);
	if (!inode)
		return -ENOENT;
	if (disk->fail_sync) {
		disk->fail_sync = false;
		memset(inode->dirty, 0, sectors(inode->size));
		return -EIO;
	}
	sync_inode(inode);
	return 0;
}

static int do_sync_directory(struct memory_disk *disk)
{
	disk->platter = disk->seen;
	disk->n_changes = 0;
	collect(disk);
	return 0;
}

static int do_rename(struct memory_disk *disk, const char *name, const char *new_name)
{
	struct name *entry = find_name(&disk->seen, name);
	if (!entry)
		return -ENOENT;
	struct change change = {.type = CHANGE_RENAME, .inode = entry->inode};
	(void)snprintf(change.name, sizeof(change.name), "%s", name);
	(void)snprintf(change.new_name, sizeof(change.new_name), "%s", new_name);
	change_directory(disk, &change);
	return 0;
}

static int do_unlink(struct memory_disk *disk, const char *name)
{
	struct name *entry = find_name(&disk->seen, name);
	if (!entry)
		return 0;
	struct change change = {.type = CHANGE_UNLINK, .inode = entry->inode};
	(void)snprintf(change.name, sizeof(change.name), "%s", name);
	change_directory(disk, &change);
	return 0;
}

/* PREPARE: create under a temporary name (the zeros are not yet on the platter: garbage is), sync, rename, sync. */
static int prepare_step(struct memory_disk *disk, const struct disk_job *job, unsigned phase)
{
	char temporary[NAME_SIZE];
	(void)snprintf(temporary, sizeof(temporary), "%s" DISK_TEMPORARY_SUFFIX, job->name);
	struct change change = {.type = CHANGE_LINK};
	switch (phase) {
	case 0:
		if (used_bytes(disk) + job->size > disk->capacity)
			return -ENOSPC;
		change.inode = new_inode(disk, job->size);
		memcpy(change.name, temporary, sizeof(change.name));
		memset(disk->inodes[change.inode].platter, 0xa5, job->size);
		memset(disk->inodes[change.inode].dirty, 1, sectors(job->size));
		change_directory(disk, &change);
		return 0;
	case 1:
		return do_sync(disk, temporary);
	case 2:
		return do_rename(disk, temporary, job->name);
	default:
		return do_sync_directory(disk);
	}
}

static unsigned phases(enum disk_job_type type)
{
	if (type == DISK_JOB_STREAM || type == DISK_JOB_SYNC)
		return 1;
	return type == DISK_JOB_PREPARE ? 4 : 2;
}

static int job_step(struct memory_disk *disk, const struct disk_job *job, unsigned phase)
{
	switch (job->type) {
	case DISK_JOB_WRITE:
		return phase == 0 ? do_write(disk, job) : do_sync(disk, job->name);
	case DISK_JOB_PREPARE:
		return prepare_step(disk, job, phase);
	case DISK_JOB_RENAME:
		return phase == 0 ? do_rename(disk, job->name, job->new_name) : do_sync_directory(disk);
	case DISK_JOB_REMOVE:
		return phase == 0 ? do_unlink(disk, job->name) : do_sync_directory(disk);
	case DISK_JOB_STREAM:
		return do_stream(disk, job);
	case DISK_JOB_SYNC:
		return do_sync(disk, job->name);
	}
	return -EINVAL;
}

/* Executes one operation, unless the process dies in front of it. */
static int operate(struct memory_disk *disk, const struct disk_job *job, unsigned phase)
{
	if (!disk->dead && disk->operations == disk->die_at)
		disk->dead = true;
	if (disk->dead)
		return -EIO;
	if (disk->error < 0)
		return disk->error;
	int r = disk->operations++ == disk->fail_at ? disk->fail_error : job_step(disk, job, phase);
	bool makes_file = job->type == DISK_JOB_PREPARE || job->type == DISK_JOB_STREAM || job->type == DISK_JOB_SYNC;
	if (r < 0 && !(r == -ENOSPC && makes_file))
		disk->error = r;
	return r;
}

/* The interface --------------------------------------------------------------------------------------- */

static struct memory_disk *memory_of(struct disk *disk)
{
	return (struct memory_disk *)disk;
}

static int memory_list(struct disk *base, void (*visit)(void *arg, const char *name, uint64_t size), void *arg)
{
	struct memory_disk *disk = memory_of(base);
	for (unsigned i = 0; i < disk->seen.n_names; i++)
		visit(arg, disk->seen.names[i].name, disk->inodes[disk->seen.names[i].inode].size);
	return disk->dead ? -EIO : 0;
}

static int64_t memory_read(struct disk *base, const char *name, uint64_t offset, uint8_t *buf, size_t len)
{
	struct memory_disk *disk = memory_of(base);
	struct inode *inode = find_file(disk, name);
	if (disk->dead)
		return -EIO;
	if (disk->reads_to_failure != UINT64_MAX && disk->reads_to_failure-- == 0)
		return -EIO; /* and UINT64_MAX from now on */
	if (strcmp(name, disk->unreadable) == 0)
		return -EIO;
	if (!inode)
		return -ENOENT;
	if (offset >= inode->size)
		return 0;
	if (len > inode->size - offset)
		len = (size_t)(inode->size - offset);
	memcpy(buf, inode->seen + offset, len);
	return (int64_t)len;
}

static int memory_run(struct disk *base, const struct disk_job *job)
{
	struct memory_disk *disk = memory_of(base);
	raft_assert(memory_disk_is_idle(disk));
	int r = 0;
	for (unsigned phase = 0; phase < phases(job->type) && r == 0; phase++)
		r = operate(disk, job, phase);
	return r;
}

static int memory_submit(struct disk *base, const struct disk_job *job)
{
	struct memory_disk *disk = memory_of(base);
	struct queue *queue = &disk->queues[job->lane];
	uint64_t outstanding = 0;
	for (unsigned i = 0; i < DISK_LANES; i++)
		outstanding += disk->queues[i].submitted - disk->queues[i].taken;
	if (disk->dead || disk->error < 0)
		return disk->error < 0 ? disk->error : -EIO;
	if (outstanding >= DISK_JOBS_MAX)
		return -EAGAIN;
	queue->jobs[queue->submitted++ % DISK_JOBS_MAX] = *job;
	return 0;
}

static size_t memory_take(struct disk *base, struct disk_completion *ret, size_t max)
{
	struct memory_disk *disk = memory_of(base);
	size_t n = 0;
	for (unsigned i = 0; i < DISK_LANES; i++) {
		struct queue *queue = &disk->queues[i];
		for (; n < max && queue->taken < queue->done; queue->taken++)
			ret[n++] = queue->completions[queue->taken % DISK_JOBS_MAX];
	}
	return n;
}

static int memory_fd(struct disk *base)
{
	(void)base;
	return -1;
}

static uint64_t memory_age(struct disk *base)
{
	const struct queue *queue = &memory_of(base)->queues[DISK_LANE_LOG];
	return queue->done < queue->submitted;
}

/* Jobs that were not executed are dropped: a process that closes its log in order has taken all it cares for. */
static void memory_close(struct disk *base)
{
	memset(memory_of(base)->queues, 0, sizeof(memory_of(base)->queues));
}

static const struct disk_ops memory_ops = {
	.close = memory_close,
	.list = memory_list,
	.read = memory_read,
	.run = memory_run,
	.submit = memory_submit,
	.take = memory_take,
	.fd = memory_fd,
	.oldest_job_age_us = memory_age,
};

/* Control --------------------------------------------------------------------------------------------- */

struct memory_disk *memory_disk_new(void)
{
	struct memory_disk *disk = calloc(1, sizeof(*disk));
	raft_assert(disk);
	disk->disk.ops = &memory_ops;
	disk->die_at = UINT64_MAX;
	disk->fail_at = UINT64_MAX;
	disk->reads_to_failure = UINT64_MAX;
	disk->capacity = UINT64_MAX;
	return disk;
}

struct memory_disk *memory_disk_free(struct memory_disk *disk)
{
	if (!disk)
		return NULL;
	for (unsigned i = 0; i < FILES_MAX; i++)
		free_inode(&disk->inodes[i]);
	free(disk);
	return NULL;
}

static uint8_t *copy_bytes(const uint8_t *bytes, size_t size)
{
	uint8_t *copy = malloc(size);
	raft_assert(copy);
	memcpy(copy, bytes, size);
	return copy;
}

struct memory_disk *memory_disk_clone(const struct memory_disk *disk)
{
	struct memory_disk *copy = memory_disk_new();
	*copy = *disk;
	memset(copy->queues, 0, sizeof(copy->queues));
	for (unsigned i = 0; i < FILES_MAX; i++) {
		struct inode *inode = &copy->inodes[i];
		if (!inode->used)
			continue;
		size_t n = sectors(inode->size > inode->platter_size ? inode->size : inode->platter_size);
		inode->seen = copy_bytes(inode->seen, n * SECTOR + 1);
		inode->platter = copy_bytes(inode->platter, n * SECTOR + 1);
		inode->dirty = copy_bytes(inode->dirty, n + 1);
	}
	return copy;
}

struct disk *memory_disk_open(struct memory_disk *disk)
{
	memset(disk->queues, 0, sizeof(disk->queues));
	disk->error = 0;
	disk->dead = false;
	return &disk->disk;
}

bool memory_disk_step(struct memory_disk *disk, enum disk_lane lane)
{
	struct queue *queue = &disk->queues[lane];
	if (queue->done == queue->submitted)
		return false;
	const struct disk_job *job = &queue->jobs[queue->done % DISK_JOBS_MAX];
	int r = operate(disk, job, queue->phase);
	if (disk->dead)
		return false;
	queue->phase++;
	if (r < 0 || queue->phase == phases(job->type)) {
		queue->completions[queue->done++ % DISK_JOBS_MAX] =
			(struct disk_completion){.ticket = job->ticket, .error = r, .duration_us = 100};
		queue->phase = 0;
	}
	return true;
}

void memory_disk_run_all(struct memory_disk *disk, uint64_t seed)
{
	while (!disk->dead && !memory_disk_is_idle(disk)) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		enum disk_lane lane = (seed >> 40) % 2 ? DISK_LANE_LOG : DISK_LANE_BACKGROUND;
		(void)memory_disk_step(disk, lane); /* an idle lane: the other one has something to do */
	}
}

bool memory_disk_is_idle(const struct memory_disk *disk)
{
	for (unsigned i = 0; i < DISK_LANES; i++)
		if (disk->queues[i].done < disk->queues[i].submitted)
			return false;
	return true;
}

void memory_disk_die_at(struct memory_disk *disk, uint64_t n)
{
	disk->die_at = n == UINT64_MAX ? n : disk->operations + n;
}

bool memory_disk_is_dead(const struct memory_disk *disk)
{
	return disk->dead;
}

uint64_t memory_disk_operations(const struct memory_disk *disk)
{
	return disk->operations;
}

unsigned memory_disk_unsynced(const struct memory_disk *disk)
{
	unsigned n = disk->n_changes;
	for (unsigned i = 0; i < FILES_MAX; i++)
		for (size_t s = 0; disk->inodes[i].used && s < sectors(disk->inodes[i].size); s++)
			n += disk->inodes[i].dirty[s] != 0;
	return n;
}

/* A sector that reaches the platter makes the file at least so long there, with zeros in front if need be. */
static void grow_platter(struct inode *inode, size_t sector)
{
	uint64_t end = (sector + 1) * SECTOR < inode->size ? (sector + 1) * SECTOR : inode->size;
	if (inode->platter_size < end)
		inode->platter_size = end;
}

static void crash_inode(struct inode *inode, memory_fate_fn fate, void *arg, unsigned *number)
{
	for (size_t s = 0; s < sectors(inode->size); s++) {
		if (!inode->dirty[s])
			continue;
		uint8_t *to = inode->platter + s * SECTOR;
		const uint8_t *from = inode->seen + s * SECTOR;
		switch (fate(arg, (*number)++)) {
		case FATE_KEPT:
			memcpy(to, from, SECTOR);
			grow_platter(inode, s);
			break;
		case FATE_TORN:
			memcpy(to, from, SECTOR / 2);
			grow_platter(inode, s);
			break;
		case FATE_LOST:
		case FATES:
			break;
		}
	}
	size_t n = sectors(inode->size > inode->platter_size ? inode->size : inode->platter_size);
	memcpy(inode->seen, inode->platter, n * SECTOR);
	memset(inode->dirty, 0, n);
	inode->size = inode->platter_size;
}

void memory_disk_crash(struct memory_disk *disk, memory_fate_fn fate, void *arg)
{
	unsigned number = 0;
	for (unsigned i = 0; i < FILES_MAX; i++)
		if (disk->inodes[i].used)
			crash_inode(&disk->inodes[i], fate, arg, &number);
	/* Names are journaled: if one change is lost, so are those after it. */
	for (unsigned i = 0; i < disk->n_changes; i++) {
		if (fate(arg, number++) == FATE_LOST)
			break;
		apply_change(&disk->platter, &disk->changes[i]);
	}
	disk->seen = disk->platter;
	disk->n_changes = 0;
	disk->die_at = UINT64_MAX;
	collect(disk);
	memset(disk->queues, 0, sizeof(disk->queues));
}

void memory_disk_kill(struct memory_disk *disk)
{
	disk->die_at = UINT64_MAX;
	memset(disk->queues, 0, sizeof(disk->queues));
}

void memory_disk_fail_sync(struct memory_disk *disk)
{
	disk->fail_sync = true;
}

void memory_disk_fail_at(struct memory_disk *disk, uint64_t n, int error)
{
	disk->fail_at = n == UINT64_MAX ? n : disk->operations + n;
	disk->fail_error = error;
}

void memory_disk_fail_read_at(struct memory_disk *disk, uint64_t n)
{
	disk->reads_to_failure = n;
}

void memory_disk_fail_reads_of(struct memory_disk *disk, const char *name)
{
	(void)snprintf(disk->unreadable, sizeof(disk->unreadable), "%s", name);
}

bool memory_disk_read_failed(const struct memory_disk *disk)
{
	return disk->reads_to_failure == UINT64_MAX;
}

void memory_disk_set_capacity(struct memory_disk *disk, uint64_t bytes)
{
	disk->capacity = bytes;
}

uint8_t *memory_disk_contents(struct memory_disk *disk, const char *name, uint64_t *ret_size)
{
	struct inode *inode = find_file(disk, name);
	if (!inode)
		return NULL;
	if (ret_size)
		*ret_size = inode->size;
	return inode->seen;
}

void memory_disk_settle(struct memory_disk *disk)
{
	for (unsigned i = 0; i < FILES_MAX; i++)
		if (disk->inodes[i].used) {
			memset(disk->inodes[i].dirty, 1, sectors(disk->inodes[i].size));
			sync_inode(&disk->inodes[i]);
		}
	(void)do_sync_directory(disk);
}

void memory_disk_delete(struct memory_disk *disk, const char *name)
{
	remove_name(&disk->seen, name);
	memory_disk_settle(disk);
}

void memory_disk_truncate(struct memory_disk *disk, const char *name, uint64_t size)
{
	struct inode *inode = find_file(disk, name);
	raft_assert(inode && size <= inode->size);
	inode->size = size;
	inode->platter_size = size;
}
