/*
 * A member's directory that is put away, whole, and may come back: the file system that holds it is not mounted for a while, and
 * the member finds an empty place.
 *
 * Must not know what members make of it.
 */
#include "disk_internal.h"
#include "durable.h"

#include "daemon/assert.h"

void sim_platter_exchange(struct disk *base)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	struct sim_away other = disk->away;
	raft_assert(!disk->damaged && !disk->promise_rotten);
	disk->away = (struct sim_away){
		.platter = disk->platter, .tail_offset = disk->tail_offset, .tail_size = disk->tail_size};
	memcpy(disk->away.tail_name, disk->tail_name, sizeof disk->tail_name);
	disk->platter = other.platter;
	memcpy(disk->tail_name, other.tail_name, sizeof disk->tail_name);
	if (other.tail_name[0] != '\0') {
		disk->tail_offset = other.tail_offset;
		disk->tail_size = other.tail_size;
	}
	sim_durable_exchange(disk->sim, disk->member);
}

void sim_platter_drop_away(struct disk *base)
{
	struct sim_disk *disk = (struct sim_disk *)base;
	platter_fini(&disk->away.platter);
	disk->away = (struct sim_away){0};
	sim_durable_drop_away(disk->sim, disk->member);
}
