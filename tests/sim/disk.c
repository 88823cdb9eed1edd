/*
 * A simulated disk. A write under way at a crash leaves each of its sectors old or new, each for itself; renames under way
 * happen or do not. Nothing else is lost: what was reported durable stays.
 */
#include "sim.h"

#include "daemon/assert.h"
#include "daemon/storage/disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FILES_MAX 512u

struct sim_file {
	char name[DISK_NAME_MAX + 1];
	uint64_t size;
	uint8_t *bytes;
};

struct sim_job {
	bool used;
	bool done;
	uint64_t number; /* tells events of an earlier life apart */
	uint64_t order;
	uint64_t started_us;
	struct disk_job job;
};

struct sim_disk {
	struct disk base;
	struct sim *sim;
	unsigned member;
	struct sim_file files[FILES_MAX];
	struct sim_job jobs[DISK_JOBS_MAX];
	uint64_t next_number;
	uint64_t lane_free_us[DISK_LANES];
};

static struct sim_file *disk_find(struct sim_disk *disk, const char *name)
{
	for (unsigned k = 0; k < FILES_MAX; k++)
		if (disk->files[k].bytes != NULL && strcmp(disk->files[k].name, name) == 0)
			return &disk->files[k];
	return NULL;
}

static void disk_remove(struct sim_file *file)
{
	if (file == NULL)
		return;
	free(file->bytes);
	memset(file, 0, sizeof *file);
}

static struct sim_file *disk_create(struct sim_disk *disk, const char *name, uint64_t size)
{
	disk_remove(disk_find(disk, name));
	for (unsigned k = 0; k < FILES_MAX; k++) {
		struct sim_file *file = &disk->files[k];
		if (file->bytes != NULL)
			continue;
		file->bytes = calloc(1, size > 0 ? size : 1);
		raft_assert(file->bytes != NULL);
		file->size = size;
		strcpy(file->name, name);
		return file;
	}
	abort(); /* too many files: FILES_MAX is too small */
}

/* Carries a job out. torn: each sector of a write only with a chance of one half. */
static int disk_execute(struct sim_disk *disk, const struct disk_job *job, bool torn)
{
	struct sim_file *file = disk_find(disk, job->name);
	switch (job->type) {
	case DISK_JOB_WRITE:
		raft_assert(file != NULL && job->offset + job->size <= file->size);
		for (uint64_t at = 0; at < job->size;) {
			uint64_t n = SIM_SECTOR - (job->offset + at) % SIM_SECTOR;
			if (n > job->size - at)
				n = job->size - at;
			if (!torn || sim_random_below(&disk->sim->random, 2) == 0)
				memcpy(file->bytes + job->offset + at, job->buf + at, n);
			at += n;
		}
		return 0;
	case DISK_JOB_PREPARE:
		if (!torn || sim_random_below(&disk->sim->random, 2) == 0)
			(void)disk_create(disk, job->name, job->size);
		return 0;
	case DISK_JOB_RENAME:
		if (file == NULL)
			return -ENOENT;
		if (strcmp(job->name, job->new_name) == 0)
			return 0; /* only syncs the directory */
		if (torn && sim_random_below(&disk->sim->random, 2) == 0)
			return 0;
		disk_remove(disk_find(disk, job->new_name));
		strcpy(file->name, job->new_name);
		return 0;
	case DISK_JOB_REMOVE:
		if (!torn || sim_random_below(&disk->sim->random, 2) == 0)
			disk_remove(file);
		return 0;
	case DISK_JOB_STREAM:
		if (file == NULL)
			file = disk_create(disk, job->name, 0);
		raft_assert(job->offset <= file->size);
		file->bytes = realloc(file->bytes, job->offset + job->size + 1);
		raft_assert(file->bytes != NULL);
		memcpy(file->bytes + job->offset, job->buf, job->size);
		file->size = job->offset + job->size;
		return 0;
	case DISK_JOB_SYNC:
		return file == NULL ? -ENOENT : 0;
	}
	return -EINVAL;
}

static void disk_close(struct disk *base)
{
	(void)base; /* the platter stays */
}

static int disk_list(struct disk *base, void (*visit)(void *arg, const char *name, uint64_t size), void *arg)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	for (unsigned k = 0; k < FILES_MAX; k++)
		if (disk->files[k].bytes != NULL)
			visit(arg, disk->files[k].name, disk->files[k].size);
	return 0;
}

static int64_t disk_read(struct disk *base, const char *name, uint64_t offset, uint8_t *buf, size_t len)
{
	const struct sim_file *file = disk_find((struct sim_disk *)base, name);
	if (file == NULL)
		return -ENOENT;
	if (offset >= file->size)
		return 0;
	if (len > file->size - offset)
		len = file->size - offset;
	memcpy(buf, file->bytes + offset, len);
	return (int64_t)len;
}

static int disk_run(struct disk *base, const struct disk_job *job)
{
	return disk_execute((struct sim_disk *)base, job, false);
}

static uint64_t disk_duration_us(struct sim_disk *disk)
{
	const struct sim_plan *plan = &disk->sim->plan;
	if (!disk->sim->calm && sim_random_chance(&disk->sim->random, plan->stall))
		return 1000000 + sim_random_below(&disk->sim->random, 2000000);
	return plan->sync_min_us + sim_random_below(&disk->sim->random, plan->sync_max_us - plan->sync_min_us + 1);
}

static int disk_submit(struct disk *base, const struct disk_job *job)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	struct sim *sim = disk->sim;
	for (unsigned k = 0; k < DISK_JOBS_MAX; k++) {
		struct sim_job *slot = &disk->jobs[k];
		if (slot->used)
			continue;
		uint64_t begin =
			disk->lane_free_us[job->lane] > sim->now_us ? disk->lane_free_us[job->lane] : sim->now_us;
		uint64_t end = begin + disk_duration_us(disk);
		disk->lane_free_us[job->lane] = end;
		*slot = (struct sim_job){
			.used = true, .number = ++disk->next_number, .started_us = sim->now_us, .job = *job};
		slot->order = slot->number;
		sim_schedule(sim, end - sim->now_us,
			     (struct sim_event){.type = SIM_DISK,
						.member = disk->member,
						.life = sim->members[disk->member].life,
						.number = slot->number});
		return 0;
	}
	return -EAGAIN;
}

void sim_disk_event(struct disk *platter, uint64_t number)
{
	struct sim_disk *disk = (struct sim_disk *)platter;
	for (unsigned k = 0; k < DISK_JOBS_MAX; k++) {
		struct sim_job *slot = &disk->jobs[k];
		if (!slot->used || slot->done || slot->number != number)
			continue;
		int r = disk_execute(disk, &slot->job, false);
		raft_assert(r == 0);
		slot->done = true;
	}
}

static size_t disk_take(struct disk *base, struct disk_completion *ret, size_t max)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	size_t n = 0;
	while (n < max) {
		struct sim_job *first = NULL;
		for (unsigned k = 0; k < DISK_JOBS_MAX; k++)
			if (disk->jobs[k].used && disk->jobs[k].done &&
			    (first == NULL || disk->jobs[k].order < first->order))
				first = &disk->jobs[k];
		if (first == NULL)
			break;
		ret[n++] = (struct disk_completion){.ticket = first->job.ticket,
						    .duration_us = disk->sim->now_us - first->started_us};
		first->used = false;
	}
	return n;
}

static int disk_fd(struct disk *base)
{
	(void)base;
	return -1;
}

static uint64_t disk_oldest_age(struct disk *base)
{
	const struct sim_disk *disk = (const struct sim_disk *)base;
	uint64_t age = 0;
	for (unsigned k = 0; k < DISK_JOBS_MAX; k++) {
		const struct sim_job *slot = &disk->jobs[k];
		if (!slot->used || slot->done || slot->job.lane != DISK_LANE_LOG)
			continue;
		if (disk->sim->now_us - slot->started_us > age)
			age = disk->sim->now_us - slot->started_us;
	}
	return age;
}

static const struct disk_ops sim_disk_ops = {
	.close = disk_close,
	.list = disk_list,
	.read = disk_read,
	.run = disk_run,
	.submit = disk_submit,
	.take = disk_take,
	.fd = disk_fd,
	.oldest_job_age_us = disk_oldest_age,
};

struct disk *sim_platter_new(struct sim *sim, unsigned member)
{
	struct sim_disk *disk = calloc(1, sizeof *disk);
	raft_assert(disk != NULL);
	disk->base.ops = &sim_disk_ops;
	disk->sim = sim;
	disk->member = member;
	return &disk->base;
}

void sim_platter_free(struct disk *platter)
{
	struct sim_disk *disk = (struct sim_disk *)platter;
	for (unsigned k = 0; k < FILES_MAX; k++)
		free(disk->files[k].bytes);
	free(disk);
}

struct disk *sim_platter_open(struct disk *platter)
{
	struct sim_disk *disk = (struct sim_disk *)platter;
	memset(disk->jobs, 0, sizeof disk->jobs);
	memset(disk->lane_free_us, 0, sizeof disk->lane_free_us);
	return platter;
}

void sim_platter_crash(struct disk *platter)
{
	struct sim_disk *disk = (struct sim_disk *)platter;
	/* Of two writes in the lane only the first has begun: the second waits for its sync. */
	for (unsigned lane = 0; lane < DISK_LANES; lane++) {
		struct sim_job *first = NULL;
		for (unsigned k = 0; k < DISK_JOBS_MAX; k++) {
			struct sim_job *slot = &disk->jobs[k];
			if (slot->used && !slot->done && slot->job.lane == lane &&
			    (first == NULL || slot->order < first->order))
				first = slot;
		}
		if (first != NULL)
			(void)disk_execute(disk, &first->job, true);
	}
	memset(disk->jobs, 0, sizeof disk->jobs);
}
