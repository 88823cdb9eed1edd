/*
 * A member's disk: jobs in two lanes that take time, fail, stall and find no room, over files that a crash leaves in any
 * legal state (platter.c). disk_internal.h says what is in which file.
 */
#include "check.h"
#include "disk_internal.h"
#include "durable.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdlib.h>

/* Crashes --------------------------------------------------------------------------------------------- */

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
		sim_disk_interrupt(disk, &first->job, how);
}

void sim_platter_crash(struct disk *base, enum sim_crash how)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	struct sim_random *random = &disk->sim->random_disk;
	for (unsigned lane = 0; lane < DISK_LANES; lane++)
		interrupt_lane(disk, lane, how);
	memset(disk->jobs, 0, sizeof disk->jobs);
	disk->start_left = 0;
	if (how == SIM_POWER_CUT) {
		platter_cut_power(&disk->platter, random);
		sim_disk_note_names_kept(disk);
	} else if (sim_random_below(random, 4) == 0)
		platter_evict(&disk->platter, random);
	sim_disk_heal_newest_record(disk);
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

/* The operation of the start that was to fail is this one. */
static bool fails_in_start(struct sim_disk *disk)
{
	if (disk->start_left == 0 || disk->sim->members[disk->member].up || --disk->start_left > 0)
		return false;
	disk->excused = true;
	disk->sim->counts.start_errors++;
	return true;
}

static int disk_list(struct disk *base, void (*visit)(void *arg, const char *name, uint64_t size), void *arg)
{
	const struct platter *platter = &((const struct sim_disk *)base)->platter;
	if (fails_in_start((struct sim_disk *)base))
		return -EIO;
	for (size_t k = 0; k < platter->n_files; k++)
		if (platter->files[k]->name[0] != '\0')
			visit(arg, platter->files[k]->name, platter->files[k]->size);
	return 0;
}

static int64_t disk_read(struct disk *base, const char *name, uint64_t offset, uint8_t *buf, size_t len)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	const struct platter_file *file = platter_find(&disk->platter, name);
	if (fails_in_start(disk))
		sim_disk_faults_of(disk)->fail_reads = 1;
	bool refused = sim_disk_faults_of(disk)->unreadable != 0 && sim_disk_refuses(disk, name);
	if (refused) {
		sim_disk_faults_of(disk)->fail_reads = 1;
		sim_offers_unread(disk->sim, disk->member, sim_disk_faults_of(disk)->unreadable);
	}
	if (sim_disk_faults_of(disk)->fail_reads > 0) {
		sim_disk_faults_of(disk)->fail_reads--;
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
	if (fails_in_start(disk))
		sim_disk_faults_of(disk)->fail_jobs = 1;
	if (sim_member_operation(disk->sim, disk->member))
		return sim_disk_execute(disk, job);
	if (!was_dying)
		sim_disk_interrupt(disk, job, member->doom.how);
	return 0; /* nobody will see it */
}

static uint64_t disk_duration_us(struct sim_disk *disk, enum disk_lane lane)
{
	struct sim *sim = disk->sim;
	const struct sim_plan *plan = &sim->plan;
	uint64_t duration = plan->sync_min_us;
	if (!sim->even)
		duration += sim_random_below(&sim->random_disk, plan->sync_spread_us + 1);
	if (sim->now_us < sim_disk_faults_of(disk)->slow_until_us)
		duration += sim_disk_faults_of(disk)->slow_us;
	if (!sim->calm && sim_random_chance(&sim->random_disk, plan->stall)) {
		duration = 1000000 + sim_random_below(&sim->random_disk, 2000000);
		sim->counts.disk_stalls++;
	}
	uint64_t stalled = sim_disk_faults_of(disk)->stall_until_us;
	uint64_t background = sim_disk_faults_of(disk)->background_until_us;
	if (lane == DISK_LANE_BACKGROUND && background > stalled)
		stalled = background;
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

/* The job under way fails while its owner is in the middle of a turn: the owner hears of it from the next job that it has. */
static void fail_under_way(struct sim_disk *disk)
{
	struct sim_disk_faults *faults = sim_disk_faults_of(disk);
	struct sim_job *first = NULL;
	if (faults->fail_submits == 0 || --faults->fail_submits > 0)
		return;
	for (unsigned k = 0; k < DISK_JOBS_MAX; k++) {
		struct sim_job *slot = &disk->jobs[k];
		if (slot->used && !slot->done && (first == NULL || slot->number < first->number))
			first = slot;
	}
	if (first == NULL) {
		faults->fail_submits = 1; /* the next time, then */
		return;
	}
	faults->fail_jobs = 1;
	disk->sim->counts.errors_within++;
	sim_disk_event(&disk->base, first->number);
}

static int disk_submit(struct disk *base, const struct disk_job *job)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	struct sim *sim = disk->sim;
	struct sim_job *slot = free_slot(disk);
	uint64_t *lane_free_us = &disk->lane_free_us[job->lane];
	if (!sim_member_operation(sim, disk->member))
		return 0; /* nobody will see it */
	fail_under_way(disk);
	if (disk->error < 0)
		return disk->error;
	if (slot == NULL)
		return -EAGAIN;
	uint64_t begin = *lane_free_us > sim->now_us ? *lane_free_us : sim->now_us;
	*lane_free_us = begin + disk_duration_us(disk, job->lane);
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
		slot->error = sim_disk_execute(disk, &slot->job);
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

bool sim_platter_writes_log(const struct disk *base)
{
	const struct sim_disk *disk = (const struct sim_disk *)base;
	for (unsigned k = 0; k < DISK_JOBS_MAX; k++)
		if (disk->jobs[k].used && disk->jobs[k].job.lane == DISK_LANE_LOG)
			return true;
	return false;
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
	platter_fini(&disk->away.platter);
	free(disk);
}

void sim_platter_tidy_up(struct disk *base)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	struct platter *platter = &disk->platter;
	bool any = false;
	for (size_t k = 0; k < platter->n_files; k++) {
		if (!sim_disk_is_aside(platter->files[k]->name))
			continue;
		platter_remove(platter, platter->files[k]);
		any = true;
	}
	if (any)
		sim_disk_sync_names(disk);
}

struct disk *sim_platter_open(struct disk *base)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	memset(disk->jobs, 0, sizeof disk->jobs);
	memset(disk->lane_free_us, 0, sizeof disk->lane_free_us);
	disk->error = 0;
	disk->excused = false;
	disk->set_aside = false;
	disk->start_left = sim_disk_faults_of(disk)->start_fails_at;
	sim_disk_faults_of(disk)->start_fails_at = 0;
	sim_disk_faults_of(disk)->unreadable = 0;
	return base;
}

void sim_platter_spoil(struct disk *base)
{
	((struct sim_disk *)base)->damaged = true;
}

bool sim_platter_damaged(const struct disk *base)
{
	return ((const struct sim_disk *)base)->damaged;
}

bool sim_platter_set_aside(const struct disk *base)
{
	return ((const struct sim_disk *)base)->set_aside;
}

bool sim_platter_failed(const struct disk *base)
{
	return ((const struct sim_disk *)base)->error < 0;
}

bool sim_platter_excused(const struct disk *base)
{
	const struct sim_disk *disk = (const struct sim_disk *)base;
	return disk->excused || disk->damaged;
}
