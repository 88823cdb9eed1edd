/*
 * Operators: operator.c asks and looks at the answers, pages.c answers for a member, operator_watch.c looks at what is watched,
 * operator_files.c has what operators do with files. Nobody else includes it.
 */
#ifndef RAFT_KV_SIM_OPERATOR_H
#define RAFT_KV_SIM_OPERATOR_H

#include "protocol.h"

#include "kv/admin.h"

#define SIM_PAGE_BYTES 4096u /* of a page, unless one item is larger */

/* Adds the member's answer to the frame. */
void sim_pages_answer(struct sim *sim, unsigned member, const struct kv_frame_item *item, struct kv_frame *reply);

/* A state that was read from a member: it must be the one of the index. Bytes of a whole snapshot's stream. */
void sim_operator_restore(struct sim *sim, struct sim_random *random, uint64_t applied, const uint8_t *bytes, size_t size);

/* Looks at what monitors and people that watch are shown: operator_watch.c. */
void sim_operator_watch(struct sim *sim, unsigned member, struct sim_random *random);

#endif
