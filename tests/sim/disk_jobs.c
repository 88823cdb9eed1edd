/*
 * What a job does to the files, what it does when it fails, and what a crash leaves of it.
 */
#include "check.h"
#include "disk_internal.h"
#include "durable.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static bool has_segment(const struct platter *platter, bool aside)
{
	for (size_t k = 0; k < platter->n_files; k++)
		if (sim_disk_is_segment(platter->files[k]->name) && sim_disk_is_aside(platter->files[k]->name) == aside)
			return true;
	return false;
}

static bool has_snapshot(const struct platter *platter)
{
	uint64_t index;
	for (size_t k = 0; k < platter->n_files; k++)
		if (sim_snapshot_parse_name(platter->files[k]->name, &index))
			return true;
	return false;
}

/* It was drawn for the directory that is there no more, and hits the next one. */
static bool damage_is_to_come(const struct sim_disk_faults *faults)
{
	return faults->misdirect || faults->lose_segment_end || faults->rot_offered || faults->rot_received ||
	       faults->spoil_state != 0;
}

/* A member sets aside what is damaged. When nothing of its log is left it begins anew, and promised nothing. Snapshots without a
 * log are damage, too: the member may die before it sets them aside. */
static void note_aside(struct sim_disk *disk)
{
	struct sim_member *member = &disk->sim->members[disk->member];
	disk->set_aside = member->incarnation != 0;
	if (has_segment(&disk->platter, false))
		return;
	disk->damaged = has_snapshot(&disk->platter);
	sim_durable_wipe(disk->sim, disk->member); /* again for the snapshots that follow */
	if (member->incarnation == 0)
		return;
	sim_note(disk->sim, "%u gives its directory up", disk->member + 1);
	disk->sim->counts.given_up++;
	disk->tail_name[0] = '\0';
	disk->set_aside = false;
	member->expendable = damage_is_to_come(&member->disk_faults);
	member->incarnation = 0;
	member->view = (struct sim_view){0};
}

/* Names may have reached the platter although the sync of the directory never returned: those of snapshots, too, of a directory
 * that is given up already. */
void sim_disk_note_names_kept(struct sim_disk *disk)
{
	bool given_up = disk->sim->members[disk->member].incarnation == 0;
	if (given_up ? !has_segment(&disk->platter, false) : has_segment(&disk->platter, true))
		note_aside(disk);
}

static void check_aside(const struct sim_disk *disk, const struct platter_change *change)
{
	if (sim_disk_is_segment(change->old_name) && !disk->damaged)
		sim_fail(disk->sim, "member %u sets %s aside, and nothing is damaged", disk->member + 1,
			 change->old_name);
}

/* A file loses its name to another one, in one operation: nobody ever sees that there is none. */
static bool is_replaced(const struct platter_change *changes, size_t n, size_t k)
{
	return changes[k].new_name[0] == '\0' && k + 1 < n && changes[k + 1].operation == changes[k].operation &&
	       strcmp(changes[k + 1].new_name, changes[k].old_name) == 0;
}

/* A process that died left a change behind, and the next one changes the same file before anybody syncs the directory: nobody will
 * ever see the name in between. */
static bool is_changed(const struct platter_change *changes, size_t begin, size_t end, const struct platter_file *file)
{
	for (size_t k = begin; k < end; k++)
		if (changes[k].file == file)
			return true;
	return false;
}

/* The hooks of the check that nothing is promised before it is durable know files by their durable names. */
void sim_disk_sync_names(struct sim_disk *disk)
{
	struct platter *platter = &disk->platter;
	struct platter_change *changes = platter->changes;
	size_t n = platter->n_changes;
	platter->changes = NULL;
	platter->n_changes = platter->changes_capacity = 0;
	platter_sync_directory(platter);
	for (size_t k = 0; k < n; k++) {
		const char *old_name = is_changed(changes, 0, k, changes[k].file) ? "" : changes[k].old_name;
		const char *new_name = is_changed(changes, k + 1, n, changes[k].file) ? "" : changes[k].new_name;
		if (sim_disk_is_aside(changes[k].old_name) || is_replaced(changes, n, k))
			continue;
		if (sim_disk_is_aside(changes[k].new_name)) {
			check_aside(disk, &changes[k]);
			note_aside(disk);
			continue;
		}
		sim_durable_rename(disk->sim, disk->member, old_name, new_name);
	}
	free(changes);
}

static int execute_write(struct sim_disk *disk, const struct disk_job *job)
{
	struct platter_file *file = platter_find(&disk->platter, job->name);
	if (file == NULL)
		return -ENOENT;
	if (!(sim_disk_faults_of(disk)->misdirect && sim_disk_misdirect(disk, file, job))) {
		platter_write(file, job->offset, job->buf, job->size, PLATTER_SYNCED, &disk->sim->random_disk);
		sim_disk_note_record(disk, job);
	}
	sim_durable_write(disk->sim, disk->member, platter_durable_name(&disk->platter, file), job->offset, job->buf,
			  job->size);
	return 0;
}

/* No room, as far as the faults say, or because the disk is small. */
static bool is_full(struct sim_disk *disk, uint64_t more)
{
	bool small = !disk->sim->calm && platter_bytes(&disk->platter) + more > disk->sim->plan.disk_bytes;
	if (!small && disk->sim->now_us >= sim_disk_faults_of(disk)->full_until_us)
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
	sim_disk_sync_names(disk);
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

static void stream(struct sim_disk *disk, struct platter_file *file, const struct disk_job *job)
{
	if (!(sim_disk_faults_of(disk)->misdirect && sim_disk_misdirect_stream(disk, file, job)))
		platter_stream(file, job->offset, job->buf, job->size);
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

/* The snapshot was another member's. */
static bool is_received(const char *name)
{
	size_t len = strlen(name), suffix = strlen(".part");
	return len > suffix && strcmp(name + len - suffix, ".part") == 0;
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
	sim_disk_sync_names(disk);
	bool rolls =
		job->type == DISK_JOB_RENAME && sim_disk_is_segment(job->new_name) && !sim_disk_is_segment(job->name);
	if (rolls && sim_disk_faults_of(disk)->lose_segment_end)
		sim_disk_lose_segment_end(disk, job->new_name);
	if (job->type == DISK_JOB_RENAME && sim_disk_faults_of(disk)->unreadable != 0 &&
	    sim_disk_refuses(disk, job->new_name))
		sim_disk_faults_of(disk)->unreadable = 0; /* it is another file */
	if (job->type == DISK_JOB_RENAME && sim_disk_faults_of(disk)->rot_received && is_received(job->name))
		sim_disk_rot_received(disk, job->new_name);
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
	bool in_sync = sim_disk_faults_of(disk)->fail_in_sync;
	sim_disk_faults_of(disk)->fail_jobs--;
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
int sim_disk_execute(struct sim_disk *disk, const struct disk_job *job)
{
	int r = -EINVAL;
	if (disk->error < 0)
		return disk->error;
	if (sim_disk_faults_of(disk)->fail_jobs > 0) {
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
	if (step == 0 || disk->sim->now_us < sim_disk_faults_of(disk)->full_until_us)
		return;
	(void)snprintf(temporary, sizeof temporary, "%s" DISK_TEMPORARY_SUFFIX, job->name);
	struct platter_file *file = platter_create(&disk->platter, temporary,
						   step == 1 ? sim_random_below(random, job->size + 1) : job->size);
	if (step == 3)
		platter_rename(&disk->platter, file, job->name);
}

void sim_disk_interrupt(struct sim_disk *disk, const struct disk_job *job, enum sim_crash how)
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
