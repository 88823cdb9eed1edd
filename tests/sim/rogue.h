/* A client that keeps to no rule: rogue.c. sessions.c tells it what became of its requests; run.c makes and frees it. */
#ifndef RAFT_KV_SIM_ROGUE_H
#define RAFT_KV_SIM_ROGUE_H

#include "sim.h"

void sim_rogue_new(struct sim *sim);
void sim_rogue_free(struct sim *sim);
/* The command at index was carried out, or refused, for the first time. */
void sim_rogue_modelled(struct sim *sim, uint64_t index, const struct kv_command *command, const struct kv_reply *reply);

#endif
