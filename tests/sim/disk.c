/*
 * A member's disk: jobs in two lanes that take time, fail, stall and find no room, over files that a crash leaves in any
 * legal state (platter.c).
 */
#include "durable.h"
#include "platter.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
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

struct sim_disk {
	struct disk base;
	struct sim *sim;
	unsigned member;
	struct platter platter;
	struct sim_job jobs[DISK_JOBS_MAX];
	uint64_t next_number;
	uint64_t lane_free_us[DISK_LANES];
	int error;    /* final, of this opening */
	bool excused; /* an error was injected, or damage found, since the opening */
	bool damaged; /* bytes on the platter are not what was written */
	bool set_aside; /* damage was, since the opening */

	/* The newest record on the platter, which nothing behind it proves to have been complete. */
	char tail_name[PLATTER_NAME_MAX];
	uint64_t tail_offset, tail_size;

	/* Places at which damage hurts most: recent records, and last records of segments that are full. */
	struct sim_place recent[PLACES], ends[PLACES];
	uint64_t n_recent, n_ends; /* ever */
};

static struct sim_disk_faults *faults_of(const struct sim_disk *disk)
{
	return &disk->sim->members[disk->member].disk_faults;
}

static bool is_segment(const char *name)
{
	return strncmp(name, "segment-", strlen("segment-")) == 0;
}

static bool is_aside(const char *name)
{
	return strstr(name, ".damaged-") != NULL;
}

/* Damage ---------------------------------------------------------------------------------------------- */

/*
 * The one restriction on damage: never the newest record. To the product it looks like a torn tail, which it may cut
 * (daemon/storage/README.md); a record behind it proves that it is damage.
 */
static bool spares_the_newest_record(const struct sim_disk *disk, const struct platter_file *file, uint64_t offset,
				     uint64_t size)
{
	return strcmp(file->name, disk->tail_name) != 0 || offset + size <= disk->tail_offset ||
	       offset >= disk->tail_offset + disk->tail_size;
}

/* The same for a record that was misdirected just before the crash. */
static void heal_the_newest_record(struct sim_disk *disk)
{
	struct platter_file *file = platter_find(&disk->platter, disk->tail_name);
	if (file != NULL)
		platter_heal(file, disk->tail_offset, disk->tail_size);
}

static void note_newest_record(struct sim_disk *disk, const struct disk_job *job)
{
	if (!is_segment(job->name))
		return;
	struct sim_place before = {.offset = disk->tail_offset, .size = disk->tail_size};
	(void)snprintf(before.name, sizeof before.name, "%s", disk->tail_name);
	if (before.name[0] != '\0' && strcmp(before.name, job->name) != 0)
		disk->ends[disk->n_ends++ % PLACES] = before;
	disk->recent[disk->n_recent++ % PLACES] = before;
	(void)snprintf(disk->tail_name, sizeof disk->tail_name, "%s", job->name);
	disk->tail_offset = job->offset;
	disk->tail_size = job->size;
}

static struct platter_file *any_file(struct sim_disk *disk, struct sim_random *random, uint64_t size)
{
	for (unsigned k = 0; k < 8 && disk->platter.n_files > 0; k++) {
		struct platter_file *file = disk->platter.files[sim_random_below(random, disk->platter.n_files)];
		if (file->name[0] != '\0' && file->size >= size && file->n_stale == 0 &&
		    !file->growing)
			return file;
	}
	return NULL;
}

/* The record goes to another place, and the disk says that all is well. */
static bool misdirect(struct sim_disk *disk, struct platter_file *intended, const struct disk_job *job)
{
	struct sim_random *random = &disk->sim->random_disk;
	struct platter_file *file = any_file(disk, random, job->size);
	if (file == NULL || !is_segment(job->name) || intended->n_stale > 0)
		return false;
	uint64_t offset = sim_random_below(random, (file->size - job->size) / SIM_SECTOR + 1) * SIM_SECTOR;
	bool overlaps = file == intended && offset < job->offset + job->size && job->offset < offset + job->size;
	if (overlaps || !spares_the_newest_record(disk, file, offset, job->size))
		return false;
	platter_miss(intended, job->offset, job->buf, job->size);
	platter_damage(file, offset, job->buf, job->size);
	note_newest_record(disk, job);
	disk->damaged = true;
	faults_of(disk)->misdirect = false;
	disk->sim->counts.misdirected_writes++;
	sim_note(disk->sim, "%u disk: a record for %s %llu lands at %s %llu", disk->member + 1, job->name,
		 (unsigned long long)job->offset, file->name, (unsigned long long)offset);
	return true;
}

/* A piece of a snapshot misses its place: its sectors stay as they were when the file was cut, zeros, and hit another file. */
static bool misdirect_stream(struct sim_disk *disk, struct platter_file *intended, const struct disk_job *job)
{
	struct sim_random *random = &disk->sim->random_disk;
	uint64_t from = (job->offset + SIM_SECTOR - 1) / SIM_SECTOR * SIM_SECTOR;
	uint64_t to = (job->offset + job->size) / SIM_SECTOR * SIM_SECTOR;
	if (from >= to)
		return false;
	uint64_t size = to - from < 16u * SIM_SECTOR ? to - from : 16u * SIM_SECTOR;
	struct platter_file *file = any_file(disk, random, size);
	if (file == NULL || file == intended)
		return false;
	uint64_t offset = sim_random_below(random, (file->size - size) / SIM_SECTOR + 1) * SIM_SECTOR;
	if (!spares_the_newest_record(disk, file, offset, size))
		return false;
	platter_stream(intended, job->offset, job->buf, job->size);
	platter_lose(intended, from, size);
	platter_damage(file, offset, job->buf + (from - job->offset), size);
	disk->damaged = true;
	faults_of(disk)->misdirect = false;
	disk->sim->counts.misdirected_writes++;
	sim_note(disk->sim, "%u disk: a piece of %s at %llu lands at %s %llu", disk->member + 1, job->name,
		 (unsigned long long)from, file->name, (unsigned long long)offset);
	return true;
}

static void stream(struct sim_disk *disk, struct platter_file *file, const struct disk_job *job)
{
	if (!(faults_of(disk)->misdirect && misdirect_stream(disk, file, job)))
		platter_stream(file, job->offset, job->buf, job->size);
}

/* A sector of one of the places, if what was written there is still the file's. NULL: none was found. */
static struct platter_file *aim(struct sim_disk *disk, struct sim_random *random, uint64_t *ret_offset)
{
	bool end = sim_random_below(random, 2) == 0;
	uint64_t n = end ? disk->n_ends : disk->n_recent;
	const struct sim_place *places = end ? disk->ends : disk->recent;
	const struct sim_place *place = &places[sim_random_below(random, n < PLACES ? n + 1 : PLACES) % PLACES];
	/* Rather a small one: a record without entries is missed least by those behind it. */
	for (unsigned k = 0; k < PLACES; k++)
		if (sim_random_below(random, 4) == 0 && places[k].size > 0 && places[k].size < place->size)
			place = &places[k];
	struct platter_file *file = place->name[0] != '\0' ? platter_find(&disk->platter, place->name) : NULL;
	if (file == NULL || file->n_stale > 0 || place->size == 0 || place->offset + place->size > file->size)
		return NULL;
	*ret_offset = place->offset + sim_random_below(random, place->size / SIM_SECTOR) * SIM_SECTOR;
	return file;
}

bool sim_platter_rot(struct disk *base, struct sim_random *random)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	struct platter_file *file = any_file(disk, random, SIM_SECTOR);
	uint8_t sector[SIM_SECTOR];
	struct platter_file *aimed;
	uint64_t aimed_offset = 0;
	if (file == NULL)
		return false;
	uint64_t end = strcmp(file->name, disk->tail_name) == 0 ? disk->tail_offset : file->size;
	if (end == 0)
		return false;
	uint64_t offset = sim_random_below(random, (end + SIM_SECTOR - 1) / SIM_SECTOR) * SIM_SECTOR;
	if (sim_random_below(random, 2) == 0 && (aimed = aim(disk, random, &aimed_offset)) != NULL) {
		file = aimed;
		offset = aimed_offset;
	}
	uint64_t size = file->size - offset < SIM_SECTOR ? file->size - offset : SIM_SECTOR;
	if (!spares_the_newest_record(disk, file, offset, size))
		return false;
	memcpy(sector, file->bytes + offset, size);
	uint64_t how = sim_random_below(random, 4);
	if (how == 0)
		memset(sector, 0, size);
	else if (how == 1)
		for (unsigned k = 0; k < size; k++)
			sector[k] = (uint8_t)sim_random_u64(random);
	else {
		uint64_t at = sim_random_below(random, size);
		sector[at] ^= (uint8_t)(1u << sim_random_below(random, 8));
	}
	platter_damage(file, offset, sector, size);
	disk->damaged = true;
	disk->sim->counts.rotten_sectors++;
	sim_note(disk->sim, "%u disk: a sector rots at %s %llu", disk->member + 1, file->name,
		 (unsigned long long)offset);
	return true;
}

void sim_platter_wipe(struct disk *base)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	disk->tail_name[0] = '\0';
	platter_wipe(&disk->platter);
	disk->damaged = false;
	disk->sim->counts.wipes++;
	sim_durable_wipe(disk->sim, disk->member);
}

bool sim_platter_damaged(const struct disk *base)
{
	return ((const struct sim_disk *)base)->damaged;
}

bool sim_platter_set_aside(const struct disk *base)
{
	return ((const struct sim_disk *)base)->set_aside;
}

bool sim_platter_excused(const struct disk *base)
{
	const struct sim_disk *disk = (const struct sim_disk *)base;
	return disk->excused || disk->damaged;
}

/* Jobs ------------------------------------------------------------------------------------------------ */

/* A member sets aside what is damaged. When nothing of its log is left it begins anew, and promised nothing. */
static void note_set_aside(struct sim_disk *disk)
{
	const struct platter *platter = &disk->platter;
	struct sim_member *member = &disk->sim->members[disk->member];
	disk->set_aside = member->incarnation != 0;
	for (size_t k = 0; k < platter->n_files; k++)
		if (is_segment(platter->files[k]->name) && !is_aside(platter->files[k]->name))
			return;
	sim_durable_wipe(disk->sim, disk->member); /* again for what a death in the middle of it has left */
	if (member->incarnation == 0)
		return;
	sim_note(disk->sim, "%u gives its directory up", disk->member + 1);
	disk->sim->counts.given_up++;
	disk->tail_name[0] = '\0';
	disk->set_aside = disk->damaged = false;
	member->expendable = false;
	member->incarnation = 0;
	member->view = (struct sim_view){0};
}

/* The hooks of the check that nothing is promised before it is durable know files by their durable names. */
static void sync_names(struct sim_disk *disk)
{
	struct platter *platter = &disk->platter;
	struct platter_change *changes = platter->changes;
	size_t n = platter->n_changes;
	platter->changes = NULL;
	platter->n_changes = platter->changes_capacity = 0;
	platter_sync_directory(platter);
	for (size_t k = 0; k < n; k++) {
		if (is_aside(changes[k].new_name))
			note_set_aside(disk);
		else if (!is_aside(changes[k].old_name))
			sim_durable_rename(disk->sim, disk->member, changes[k].old_name, changes[k].new_name);
	}
	free(changes);
}

static int execute_write(struct sim_disk *disk, const struct disk_job *job)
{
	struct platter_file *file = platter_find(&disk->platter, job->name);
	if (file == NULL)
		return -ENOENT;
	if (!(faults_of(disk)->misdirect && misdirect(disk, file, job))) {
		platter_write(file, job->offset, job->buf, job->size, PLATTER_SYNCED, &disk->sim->random_disk);
		note_newest_record(disk, job);
	}
	sim_durable_write(disk->sim, disk->member, platter_durable_name(&disk->platter, file), job->offset, job->buf,
			  job->size);
	return 0;
}

/* No room, as far as the faults say, or because the disk is small. */
static bool is_full(struct sim_disk *disk, uint64_t more)
{
	bool small = !disk->sim->calm && platter_bytes(&disk->platter) + more > disk->sim->plan.disk_bytes;
	if (!small && disk->sim->now_us >= faults_of(disk)->full_until_us)
		return false;
	disk->excused = true;
	return true;
}

static int execute_prepare(struct sim_disk *disk, const struct disk_job *job)
{
	if (is_full(disk, job->size)) {
		disk->sim->counts.files_refused++;
		return -ENOSPC;
	}
	(void)platter_create(&disk->platter, job->name, job->size);
	sync_names(disk);
	return 0;
}

/* NULL: the piece does not follow what is there, because the one before it found no room. */
static struct platter_file *streamed_file(struct sim_disk *disk, const struct disk_job *job)
{
	struct platter_file *file = platter_find(&disk->platter, job->name);
	if (file == NULL && job->offset == 0)
		file = platter_create(&disk->platter, job->name, 0);
	return file != NULL && file->size >= job->offset ? file : NULL;
}

static int execute_stream(struct sim_disk *disk, const struct disk_job *job)
{
	bool full = is_full(disk, job->size);
	struct platter_file *file = full && job->offset == 0 && platter_find(&disk->platter, job->name) == NULL &&
						    sim_random_below(&disk->sim->random_disk, 2) == 0
					    ? NULL
					    : streamed_file(disk, job);
	if (!full && file != NULL) {
		stream(disk, file, job);
		return 0;
	}
	disk->sim->counts.streams_refused++;
	if (file != NULL)
		platter_stream(file, job->offset, job->buf, sim_random_below(&disk->sim->random_disk, job->size));
	return -ENOSPC;
}

/* Space may be found missing only now: file systems allocate late. */
static int execute_sync(struct sim_disk *disk, const struct disk_job *job)
{
	struct platter_file *file = platter_find(&disk->platter, job->name);
	if (file == NULL)
		return -ENOENT;
	if (is_full(disk, 0) && sim_random_below(&disk->sim->random_disk, 4) == 0) {
		disk->sim->counts.streams_refused++;
		platter_fail_sync(file, &disk->sim->random_disk);
		return -ENOSPC;
	}
	platter_sync(file);
	return 0;
}

static int execute_name(struct sim_disk *disk, const struct disk_job *job)
{
	struct platter_file *file = platter_find(&disk->platter, job->name);
	if (file == NULL && job->type == DISK_JOB_RENAME)
		return -ENOENT;
	if (file == NULL)
		return 0;
	if (job->type == DISK_JOB_RENAME)
		platter_rename(&disk->platter, file, job->new_name);
	else
		platter_remove(&disk->platter, file);
	sync_names(disk);
	return 0;
}

/* Any beginning of the piece. */
static void stream_part(struct sim_disk *disk, const struct disk_job *job)
{
	struct platter_file *file = streamed_file(disk, job);
	if (file != NULL)
		platter_stream(file, job->offset, job->buf, sim_random_below(&disk->sim->random_disk, job->size + 1));
}

/* The job fails: nothing of it, or a part, or all of it was done, and none of it is certain. */
static int fail(struct sim_disk *disk, const struct disk_job *job)
{
	struct sim_random *random = &disk->sim->random_disk;
	struct platter_file *file = platter_find(&disk->platter, job->name);
	bool in_sync = faults_of(disk)->fail_in_sync;
	faults_of(disk)->fail_jobs--;
	disk->excused = true;
	if (in_sync)
		disk->sim->counts.sync_errors++;
	else
		disk->sim->counts.write_errors++;
	if (job->type == DISK_JOB_WRITE && file != NULL && in_sync)
		platter_write(file, job->offset, job->buf, job->size, PLATTER_UNSYNCED, random);
	else if (job->type == DISK_JOB_WRITE && file != NULL)
		platter_tear(file, job->offset, job->buf, job->size, random);
	else if (job->type == DISK_JOB_STREAM)
		stream_part(disk, job);
	else if (job->type == DISK_JOB_SYNC && file != NULL)
		platter_fail_sync(file, random);
	else if (job->type == DISK_JOB_RENAME && file != NULL && in_sync)
		platter_rename(&disk->platter, file, job->new_name);
	else if (job->type == DISK_JOB_REMOVE && file != NULL && in_sync)
		platter_remove(&disk->platter, file);
	sim_note(disk->sim, "%u disk: %s of %s fails", disk->member + 1, in_sync ? "sync" : "write", job->name);
	return -EIO;
}

/* After a final error nothing is done any more; a file that found no room changes nothing for the others. */
static int execute(struct sim_disk *disk, const struct disk_job *job)
{
	int r = -EINVAL;
	if (disk->error < 0)
		return disk->error;
	if (faults_of(disk)->fail_jobs > 0) {
		disk->error = fail(disk, job);
		return disk->error;
	}
	switch (job->type) {
	case DISK_JOB_WRITE:
		r = execute_write(disk, job);
		break;
	case DISK_JOB_PREPARE:
		r = execute_prepare(disk, job);
		break;
	case DISK_JOB_RENAME:
	case DISK_JOB_REMOVE:
		r = execute_name(disk, job);
		break;
	case DISK_JOB_STREAM:
		r = execute_stream(disk, job);
		break;
	case DISK_JOB_SYNC:
		r = execute_sync(disk, job);
		break;
	}
	if (r < 0 && r != -ENOSPC)
		disk->error = r;
	return r;
}

/* What a crash leaves of a job that had begun ---------------------------------------------------------- */

static void interrupt_write(struct sim_disk *disk, const struct disk_job *job, enum sim_crash how)
{
	struct sim_random *random = &disk->sim->random_disk;
	struct platter_file *file = platter_find(&disk->platter, job->name);
	if (file == NULL)
		return;
	if (how == SIM_POWER_CUT) {
		platter_tear(file, job->offset, job->buf, job->size, random);
		disk->sim->counts.torn_writes++;
		return;
	}
	/* The process wrote some pages, or all, and the kernel has them. */
	uint64_t pages = (job->size + PLATTER_PAGE - 1) / PLATTER_PAGE;
	uint64_t written = sim_random_below(random, pages + 1) * PLATTER_PAGE;
	if (written > job->size || sim_random_below(random, 2) == 0)
		written = job->size;
	if (written > 0)
		platter_write(file, job->offset, job->buf, written, PLATTER_CACHED, random);
	disk->sim->counts.cached_writes++;
}

static void interrupt_prepare(struct sim_disk *disk, const struct disk_job *job)
{
	struct sim_random *random = &disk->sim->random_disk;
	char temporary[PLATTER_NAME_MAX];
	uint64_t step = sim_random_below(random, 4);
	if (step == 0 || disk->sim->now_us < faults_of(disk)->full_until_us)
		return;
	(void)snprintf(temporary, sizeof temporary, "%s" DISK_TEMPORARY_SUFFIX, job->name);
	struct platter_file *file = platter_create(&disk->platter, temporary,
						   step == 1 ? sim_random_below(random, job->size + 1) : job->size);
	if (step == 3)
		platter_rename(&disk->platter, file, job->name);
}

static void interrupt(struct sim_disk *disk, const struct disk_job *job, enum sim_crash how)
{
	struct platter_file *file = platter_find(&disk->platter, job->name);
	if (disk->error < 0)
		return;
	if (job->type == DISK_JOB_WRITE) {
		interrupt_write(disk, job, how);
		return;
	}
	if (job->type == DISK_JOB_STREAM) {
		stream_part(disk, job);
		disk->sim->counts.streams_interrupted++;
		return;
	}
	if (job->type == DISK_JOB_SYNC)
		return; /* a power cut draws what of it was done */
	disk->sim->counts.names_interrupted++;
	if (job->type == DISK_JOB_PREPARE)
		interrupt_prepare(disk, job);
	else if (file == NULL || sim_random_below(&disk->sim->random_disk, 2) == 0)
		return;
	else if (job->type == DISK_JOB_RENAME)
		platter_rename(&disk->platter, file, job->new_name);
	else
		platter_remove(&disk->platter, file);
}

/* Of two jobs in a lane only the first has begun: the second waits for its sync. */
static void interrupt_lane(struct sim_disk *disk, unsigned lane, enum sim_crash how)
{
	const struct sim_job *first = NULL;
	for (unsigned k = 0; k < DISK_JOBS_MAX; k++) {
		const struct sim_job *slot = &disk->jobs[k];
		if (slot->used && !slot->done && slot->job.lane == lane &&
		    (first == NULL || slot->number < first->number))
			first = slot;
	}
	if (first != NULL)
		interrupt(disk, &first->job, how);
}

void sim_platter_crash(struct disk *base, enum sim_crash how)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	struct sim_random *random = &disk->sim->random_disk;
	for (unsigned lane = 0; lane < DISK_LANES; lane++)
		interrupt_lane(disk, lane, how);
	memset(disk->jobs, 0, sizeof disk->jobs);
	if (how == SIM_POWER_CUT)
		platter_cut_power(&disk->platter, random);
	else if (sim_random_below(random, 4) == 0)
		platter_evict(&disk->platter, random);
	heal_the_newest_record(disk);
	sim_durable_restart(disk->sim, disk->member);
}

void sim_platter_each(struct disk *base,
		      void (*visit)(void *arg, const char *name, const uint8_t *bytes, uint64_t size), void *arg)
{
	platter_visit_durable(&((struct sim_disk *)base)->platter, visit, arg);
}

/* The disk's interface -------------------------------------------------------------------------------- */

static void disk_close(struct disk *base)
{
	(void)base; /* the platter stays */
}

static int disk_list(struct disk *base, void (*visit)(void *arg, const char *name, uint64_t size), void *arg)
{
	const struct platter *platter = &((const struct sim_disk *)base)->platter;
	for (size_t k = 0; k < platter->n_files; k++)
		if (platter->files[k]->name[0] != '\0')
			visit(arg, platter->files[k]->name, platter->files[k]->size);
	return 0;
}

static int64_t disk_read(struct disk *base, const char *name, uint64_t offset, uint8_t *buf, size_t len)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	const struct platter_file *file = platter_find(&disk->platter, name);
	if (faults_of(disk)->fail_reads > 0) {
		faults_of(disk)->fail_reads--;
		disk->excused = true;
		disk->sim->counts.read_errors++;
		sim_note(disk->sim, "%u disk: read of %s fails", disk->member + 1, name);
		return -EIO;
	}
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
	struct sim_disk *disk = (struct sim_disk *)base;
	const struct sim_member *member = &disk->sim->members[disk->member];
	bool was_dying = member->dying;
	if (sim_member_operation(disk->sim, disk->member))
		return execute(disk, job);
	if (!was_dying)
		interrupt(disk, job, member->doom.how);
	return 0; /* nobody will see it */
}

static uint64_t disk_duration_us(struct sim_disk *disk)
{
	struct sim *sim = disk->sim;
	const struct sim_plan *plan = &sim->plan;
	uint64_t duration = plan->sync_min_us;
	if (!sim->even)
		duration += sim_random_below(&sim->random_disk, plan->sync_spread_us + 1);
	if (sim->now_us < faults_of(disk)->slow_until_us)
		duration += faults_of(disk)->slow_us;
	if (!sim->calm && sim_random_chance(&sim->random_disk, plan->stall)) {
		duration = 1000000 + sim_random_below(&sim->random_disk, 2000000);
		sim->counts.disk_stalls++;
	}
	uint64_t stalled = faults_of(disk)->stall_until_us;
	return stalled > sim->now_us + duration ? stalled - sim->now_us : duration;
}

static void schedule_end(struct sim_disk *disk, const struct sim_job *slot, uint64_t at_us)
{
	sim_schedule(disk->sim, at_us - disk->sim->now_us,
		     (struct sim_event){.type = SIM_DISK,
					.member = disk->member,
					.life = disk->sim->members[disk->member].life,
					.number = slot->number});
}

/* Jobs that a stall holds up end soon, in the order of their submission. */
void sim_platter_calm(struct disk *base)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	uint64_t at_us = disk->sim->now_us;
	for (uint64_t after = 0;;) {
		struct sim_job *next = NULL;
		for (unsigned k = 0; k < DISK_JOBS_MAX; k++) {
			struct sim_job *slot = &disk->jobs[k];
			if (slot->used && !slot->done && slot->number > after &&
			    (next == NULL || slot->number < next->number))
				next = slot;
		}
		if (next == NULL)
			break;
		after = next->number;
		at_us += disk->sim->plan.sync_min_us;
		schedule_end(disk, next, at_us);
	}
	for (unsigned lane = 0; lane < DISK_LANES; lane++)
		disk->lane_free_us[lane] = at_us;
}

static struct sim_job *free_slot(struct sim_disk *disk)
{
	for (unsigned k = 0; k < DISK_JOBS_MAX; k++)
		if (!disk->jobs[k].used)
			return &disk->jobs[k];
	return NULL;
}

static int disk_submit(struct disk *base, const struct disk_job *job)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	struct sim *sim = disk->sim;
	struct sim_job *slot = free_slot(disk);
	uint64_t *lane_free_us = &disk->lane_free_us[job->lane];
	if (!sim_member_operation(sim, disk->member))
		return 0; /* nobody will see it */
	if (disk->error < 0)
		return disk->error;
	if (slot == NULL)
		return -EAGAIN;
	uint64_t begin = *lane_free_us > sim->now_us ? *lane_free_us : sim->now_us;
	*lane_free_us = begin + disk_duration_us(disk);
	*slot = (struct sim_job){.used = true,
				 .number = ++disk->next_number,
				 .started_us = sim_clock_us(sim, disk->member),
				 .job = *job};
	schedule_end(disk, slot, *lane_free_us);
	return 0;
}

void sim_disk_event(struct disk *base, uint64_t number)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	for (unsigned k = 0; k < DISK_JOBS_MAX; k++) {
		struct sim_job *slot = &disk->jobs[k];
		if (!slot->used || slot->done || slot->number != number)
			continue;
		slot->error = execute(disk, &slot->job);
		slot->done = true;
		slot->ended_us = sim_clock_us(disk->sim, disk->member);
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
			    (first == NULL || disk->jobs[k].number < first->number))
				first = &disk->jobs[k];
		if (first == NULL)
			break;
		ret[n++] = (struct disk_completion){.ticket = first->job.ticket,
						    .error = first->error,
						    .duration_us = first->ended_us - first->started_us};
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
	uint64_t now_us = sim_clock_us(disk->sim, disk->member);
	uint64_t age = 0;
	for (unsigned k = 0; k < DISK_JOBS_MAX; k++) {
		const struct sim_job *slot = &disk->jobs[k];
		if (slot->used && !slot->done && slot->job.lane == DISK_LANE_LOG && now_us - slot->started_us > age)
			age = now_us - slot->started_us;
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

void sim_platter_free(struct disk *base)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	platter_fini(&disk->platter);
	free(disk);
}

/* Operators delete what members have set aside. */
static void tidy_up(struct sim_disk *disk)
{
	struct platter *platter = &disk->platter;
	bool any = false;
	for (size_t k = 0; k < platter->n_files; k++) {
		if (!is_aside(platter->files[k]->name))
			continue;
		platter_remove(platter, platter->files[k]);
		any = true;
	}
	if (any)
		sync_names(disk);
}

struct disk *sim_platter_open(struct disk *base)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	memset(disk->jobs, 0, sizeof disk->jobs);
	memset(disk->lane_free_us, 0, sizeof disk->lane_free_us);
	disk->error = 0;
	disk->excused = false;
	disk->set_aside = false;
	tidy_up(disk);
	return base;
}
