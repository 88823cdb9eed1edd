/*
 * What each member's platter really holds: its hard state and its log, decoded from the bytes that the simulated disk has
 * synced. disk.c tells every synced job, in order; after a crash or damage the shadow is built again from the platter.
 */
#ifndef RAFT_KV_SIM_DURABLE_H
#define RAFT_KV_SIM_DURABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim;
struct sim_checks;
struct sim_shadow;

/* The job is on the platter. size bytes of buf at offset of the file. */
void sim_durable_write(struct sim *sim, unsigned member, const char *name, uint64_t offset, const uint8_t *buf,
		       size_t size);
void sim_durable_rename(struct sim *sim, unsigned member, const char *name, const char *new_name);
/* Anything may have changed. Records that were synced must still be there if the member is to start again. */
void sim_durable_restart(struct sim *sim, unsigned member);

/* The directory is emptied: what comes back is another one. */
void sim_durable_wipe(struct sim *sim, unsigned member);
/* It and the one that was put away change places; and nobody ever sees that one again. */
void sim_durable_exchange(struct sim *sim, unsigned member);
void sim_durable_drop_away(struct sim *sim, unsigned member);
/* The checks know all of its log, and nothing of it was forgotten. */
bool sim_durable_is_whole(const struct sim *sim, unsigned member);
/* As a start from the snapshot of that index would: behind it if what is written does not lead to it. */
void sim_durable_rest(const struct sim_checks *checks, struct sim_shadow *shadow, uint64_t index);
/* The snapshot that the log rests on cannot be read: what is left is what is written, or an older one, of that index, which
 * what is written may not lead to either. */
void sim_durable_pass_over(const struct sim_checks *checks, struct sim_shadow *shadow, uint64_t index);
/* The shadow as it would be built from the platter now; false: something behind its end verifies. */
bool sim_durable_build(struct sim *sim, unsigned member, struct sim_shadow *ret_built);
/* The newest record; false: its segment has none. */
struct sim_newest {
	uint64_t sequence, offset, size;
	uint32_t n_entries;
};
bool sim_durable_newest(const struct sim *sim, unsigned member, struct sim_newest *ret_newest);
/* The newest record was damaged behind everybody's back, while the member is down. True: its next start will do without it, and
 * the cluster bears that. False: nothing is changed. check_newest.c */
bool sim_durable_forget(struct sim *sim, unsigned member);
void sim_durable_free(struct sim_shadow *shadow);

/* check_frame.c: a frame that a member sends, before the network does anything to it: what it promises is on the platter. */
void sim_check_frame(struct sim *sim, unsigned from, unsigned to, const uint8_t *frame, size_t len);

#endif
