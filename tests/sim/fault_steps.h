/*
 * What faults.c shares with faults_leader.c: choices, links, and steps that follow later. Nobody else includes it.
 */
#ifndef RAFT_KV_SIM_FAULT_STEPS_H
#define RAFT_KV_SIM_FAULT_STEPS_H

#include "sim.h"

/* The leader of the newest term; sim_members() when there is none. */
unsigned sim_fault_leader(const struct sim *sim);
/* Each magnitude between low and high is as likely as the others. */
uint64_t sim_fault_span(uint64_t number, uint64_t low, uint64_t high);
/* From members of one set to members of the other; direction 0: only there, 1: only back, else both. */
uint64_t sim_fault_links(const struct sim *sim, uint64_t one, uint64_t other, uint64_t direction);
void sim_fault_cut(struct sim *sim, uint64_t links, uint64_t delay_us, uint64_t span_us);
/* After the delay sim_fault_step is called with the number, unless the calm has begun. */
void sim_fault_later(struct sim *sim, uint64_t delay_us, unsigned member, uint64_t number);
/* After the delay sim_operator_step is called, unless the calm has begun. */
void sim_fault_errand(struct sim *sim, uint64_t delay_us, uint64_t errand);

/* Pauses a member that is up; 0: it is not, or is paused already. */
int sim_fault_stop(struct sim *sim, unsigned member, bool within_turn, uint64_t span_us);

/* faults_leader.c */
int sim_fault_stop_leader(struct sim *sim, const struct sim_fault *fault);
int sim_fault_usurp(struct sim *sim, const struct sim_fault *fault);
int sim_fault_depose(struct sim *sim, const struct sim_fault *fault);
int sim_fault_slow_writer(struct sim *sim, const struct sim_fault *fault);
void sim_fault_step(struct sim *sim, unsigned member, uint64_t number);

/* levels.c: of the program that the member runs */
int sim_fault_upgrade(struct sim *sim, unsigned member, uint64_t down_us);
int sim_fault_downgrade(struct sim *sim, unsigned member, uint64_t down_us);

#endif
