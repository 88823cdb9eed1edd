/*
 * What each member's platter really holds: its hard state and its log, decoded from the bytes that the simulated disk has
 * synced. disk.c tells every synced job, in order; after a crash or damage the shadow is built again from the platter.
 */
#ifndef RAFT_KV_SIM_DURABLE_H
#define RAFT_KV_SIM_DURABLE_H

#include <stddef.h>
#include <stdint.h>

struct sim;

/* The job is on the platter. size bytes of buf at offset of the file. */
void sim_durable_write(struct sim *sim, unsigned member, const char *name, uint64_t offset, const uint8_t *buf,
		       size_t size);
void sim_durable_rename(struct sim *sim, unsigned member, const char *name, const char *new_name);
/* Anything may have changed. Records that were synced must still be there if the member is to start again. */
void sim_durable_restart(struct sim *sim, unsigned member);

/* check_frame.c: a frame that a member sends, before the network does anything to it: what it promises is on the platter. */
void sim_check_frame(struct sim *sim, unsigned from, unsigned to, const uint8_t *frame, size_t len);

#endif
