/*
 * Damage to what was written: rot, and records and pieces of snapshots that the disk puts elsewhere. In half of the cases it
 * hits where it hurts most.
 */
#include "check.h"
#include "disk_internal.h"
#include "durable.h"

#include "daemon/replicator/promise.h"
#include "daemon/storage/format.h"
#include "daemon/storage/snapshot.h"

#include <stdio.h>

/* In daemon/storage/README.md: */
#define RECORD_AT_ENTRIES 12u /* how many there are */
#define SNAPSHOT_AT_SIZE 12u  /* of the header, configuration included */
#define SNAPSHOT_AT_CHECKSUM 16u

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
void sim_disk_heal_newest_record(struct sim_disk *disk)
{
	struct platter_file *file = platter_find(&disk->platter, disk->tail_name);
	if (file != NULL)
		platter_heal(file, disk->tail_offset, disk->tail_size);
}

void sim_disk_note_record(struct sim_disk *disk, const struct disk_job *job)
{
	if (!sim_disk_is_segment(job->name))
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
		if (file->name[0] != '\0' && file->size >= size && file->n_stale == 0 && !file->growing)
			return file;
	}
	return NULL;
}

/* The record goes to another place, and the disk says that all is well. */
bool sim_disk_misdirect(struct sim_disk *disk, struct platter_file *intended, const struct disk_job *job)
{
	struct sim_random *random = &disk->sim->random_disk;
	struct platter_file *file = any_file(disk, random, job->size);
	if (file == NULL || !sim_disk_is_segment(job->name) || intended->n_stale > 0)
		return false;
	uint64_t offset = sim_random_below(random, (file->size - job->size) / SIM_SECTOR + 1) * SIM_SECTOR;
	bool overlaps = file == intended && offset < job->offset + job->size && job->offset < offset + job->size;
	if (overlaps || !spares_the_newest_record(disk, file, offset, job->size))
		return false;
	platter_miss(intended, job->offset, job->buf, job->size);
	platter_damage(file, offset, job->buf, job->size);
	sim_disk_note_record(disk, job);
	disk->damaged = true;
	sim_disk_faults_of(disk)->misdirect = false;
	disk->sim->counts.misdirected_writes++;
	sim_note(disk->sim, "%u disk: a record for %s %llu lands at %s %llu", disk->member + 1, job->name,
		 (unsigned long long)job->offset, file->name, (unsigned long long)offset);
	return true;
}

/* A piece of a snapshot misses its place: its sectors stay as they were when the file was cut, zeros, and hit another file. */
bool sim_disk_misdirect_stream(struct sim_disk *disk, struct platter_file *intended, const struct disk_job *job)
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
	sim_disk_faults_of(disk)->misdirect = false;
	disk->sim->counts.misdirected_writes++;
	sim_note(disk->sim, "%u disk: a piece of %s at %llu lands at %s %llu", disk->member + 1, job->name,
		 (unsigned long long)from, file->name, (unsigned long long)offset);
	return true;
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

static void rot(uint8_t *sector, uint64_t size, struct sim_random *random)
{
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
	rot(sector, size, random);
	platter_damage(file, offset, sector, size);
	disk->damaged = true;
	disk->sim->counts.rotten_sectors++;
	sim_note(disk->sim, "%u disk: a sector rots at %s %llu", disk->member + 1, file->name,
		 (unsigned long long)offset);
	return true;
}

/* One bit, behind the header and before the footer: mostly of the state. */
bool sim_platter_rot_snapshot(struct disk *base, uint64_t index)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	struct sim_random *random = &disk->sim->random_disk;
	uint8_t sector[SIM_SECTOR];
	char name[PLATTER_NAME_MAX];
	uint32_t header = 0;
	(void)snprintf(name, sizeof name, "snapshot-%016llx", (unsigned long long)index);
	struct platter_file *file = platter_find(&disk->platter, name);
	if (file == NULL || file->growing || file->n_stale > 0)
		return false;
	memcpy(&header, file->bytes + SNAPSHOT_AT_SIZE, sizeof header);
	uint64_t first = header + SNAPSHOT_BLOCK_HEADER_SIZE;
	if (file->size <= first + SNAPSHOT_FOOTER_SIZE)
		return false;
	uint64_t at = first + sim_random_below(random, file->size - SNAPSHOT_FOOTER_SIZE - first);
	uint64_t offset = at / SIM_SECTOR * SIM_SECTOR;
	uint64_t size = file->size - offset < SIM_SECTOR ? file->size - offset : SIM_SECTOR;
	memcpy(sector, file->bytes + offset, size);
	sector[at - offset] ^= (uint8_t)(1u << sim_random_below(random, 8));
	platter_damage(file, offset, sector, size);
	disk->damaged = true;
	disk->sim->counts.rotten_sectors++;
	sim_note(disk->sim, "%u disk: %s rots, at %llu", disk->member + 1, name, (unsigned long long)at);
	return true;
}

/* What its header is verified by: whoever opens the file finds out. */
void sim_disk_rot_received(struct sim_disk *disk, const char *name)
{
	struct platter_file *file = platter_find(&disk->platter, name);
	uint8_t sector[SIM_SECTOR];
	uint64_t index;
	if (file == NULL || file->n_stale > 0 || !sim_snapshot_parse_name(name, &index))
		return;
	uint64_t size = file->size < SIM_SECTOR ? file->size : SIM_SECTOR;
	memcpy(sector, file->bytes, size);
	sector[SNAPSHOT_AT_CHECKSUM + index % sizeof index] ^= (uint8_t)(1u << index / sizeof index % 8);
	platter_damage(file, 0, sector, size);
	sim_disk_faults_of(disk)->rot_received = false;
	disk->damaged = true;
	disk->sim->counts.rotten_sectors++;
	sim_note(disk->sim, "%u disk: %s rots as soon as it is received", disk->member + 1, name);
}

bool sim_disk_refuses(struct sim_disk *disk, const char *name)
{
	uint64_t index;
	return disk->sim->members[disk->member].up && sim_snapshot_parse_name(name, &index) &&
	       index == sim_disk_faults_of(disk)->unreadable;
}

/* The next segment has just got its name: from now on its header proves the record in front of it. */
void sim_disk_lose_segment_end(struct sim_disk *disk, const char *new_name)
{
	struct sim_member *member = &disk->sim->members[disk->member];
	struct platter_file *file = platter_find(&disk->platter, disk->tail_name);
	struct disk_job header = {.size = FORMAT_HEADER_SIZE};
	uint64_t offset = disk->tail_offset;
	uint8_t sector[SIM_SECTOR];
	uint32_t n_entries = 0;
	if (file == NULL || file->n_stale > 0 || offset == 0 || member->doom.armed)
		return;
	memcpy(sector, file->bytes + offset, sizeof sector);
	memcpy(&n_entries, sector + RECORD_AT_ENTRIES, sizeof n_entries);
	if (n_entries > 0)
		return;
	rot(sector, sizeof sector, &disk->sim->random_disk);
	platter_damage(file, offset, sector, sizeof sector);
	(void)snprintf(header.name, sizeof header.name, "%s", new_name);
	sim_disk_note_record(disk, &header);
	disk->damaged = true;
	disk->sim->counts.rotten_sectors++;
	sim_note(disk->sim, "%u disk: the end of %s rots, at %llu", disk->member + 1, file->name,
		 (unsigned long long)offset);
	sim_disk_faults_of(disk)->lose_segment_end = false;
	member->doom = (struct sim_doom){
		.armed = true, .how = SIM_POWER_CUT, .down_us = sim_disk_faults_of(disk)->segment_end_down_us};
}

void sim_platter_wipe(struct disk *base)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	disk->tail_name[0] = '\0';
	platter_wipe(&disk->platter);
	disk->damaged = false;
	disk->promise_rotten = false;
	disk->sim->counts.wipes++;
	sim_durable_wipe(disk->sim, disk->member);
}

bool sim_platter_rot_promise(struct disk *base, struct sim_random *random)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	struct platter_file *file = platter_find(&disk->platter, PROMISE_FILE);
	uint8_t bytes[SIM_SECTOR];
	if (disk->promise_rotten || file == NULL || file->growing || file->n_stale > 0 ||
	    strcmp(platter_durable_name(&disk->platter, file), PROMISE_FILE) != 0)
		return false; /* it may be gone after the next power cut, and nothing rests on it */
	memcpy(bytes, file->bytes, file->size);
	rot(bytes, file->size, random);
	platter_damage(file, 0, bytes, file->size);
	disk->promise_rotten = true;
	sim_note(disk->sim, "%u disk: what it has promised rots", disk->member + 1);
	return true;
}

bool sim_platter_promise_rotten(const struct disk *base)
{
	return ((const struct sim_disk *)base)->promise_rotten;
}

void sim_platter_drop_promise(struct disk *base)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	platter_remove(&disk->platter, platter_find(&disk->platter, PROMISE_FILE));
	sim_disk_sync_names(disk);
	disk->promise_rotten = false;
}

/* While the member is down: a sector of the newest record, rather that of its header. No damage for the product: nothing tells it
 * from a torn write. */
bool sim_platter_rot_newest(struct disk *base, struct sim_random *random)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	struct sim_newest newest;
	char name[PLATTER_NAME_MAX];
	uint8_t was[SIM_SECTOR], is[SIM_SECTOR];
	if (disk->damaged || !sim_durable_newest(disk->sim, disk->member, &newest))
		return false; /* with other damage in front of it more than this record might look torn */
	(void)snprintf(name, sizeof name, "segment-%016llx", (unsigned long long)newest.sequence);
	struct platter_file *file = platter_find(&disk->platter, name);
	if (file == NULL || file->n_stale > 0)
		return false;
	uint64_t header = sim_random_below(random, 2);
	uint64_t sector = sim_random_below(random, newest.size / SIM_SECTOR);
	uint64_t offset = newest.offset + (header == 0 ? 0 : sector * SIM_SECTOR);
	memcpy(was, file->bytes + offset, SIM_SECTOR);
	memcpy(is, was, SIM_SECTOR);
	rot(is, SIM_SECTOR, random);
	platter_damage(file, offset, is, SIM_SECTOR);
	platter_forget_damage(file, offset, SIM_SECTOR);
	if (!sim_durable_forget(disk->sim, disk->member)) {
		platter_damage(file, offset, was, SIM_SECTOR);
		platter_forget_damage(file, offset, SIM_SECTOR);
		return false;
	}
	if (!sim_durable_newest(disk->sim, disk->member, &newest))
		newest = (struct sim_newest){.size = FORMAT_HEADER_SIZE};
	disk->tail_offset = newest.offset;
	disk->tail_size = newest.size;
	sim_disk_heal_newest_record(disk); /* only the one behind it proved that it is damaged, or went astray */
	disk->sim->counts.forgotten_records++;
	return true;
}
