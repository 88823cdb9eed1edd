/*
 * What the files with faults share: choices, links, steps that follow later, and what each kind does.
 */
#ifndef RAFT_KV_SIM_FAULT_STEPS_H
#define RAFT_KV_SIM_FAULT_STEPS_H

#include "sim.h"

/* The leader of the newest term; sim_members() when there is none. */
unsigned sim_fault_leader(const struct sim *sim);
/* Each magnitude between low and high is as likely as the others. */
uint64_t sim_fault_span(uint64_t number, uint64_t low, uint64_t high);
/* From members of one set to members of the other; direction 0: only there, 1: only back, else both. */
uint64_t sim_fault_between(const struct sim *sim, uint64_t one, uint64_t other, uint64_t direction);
void sim_fault_cut(struct sim *sim, uint64_t links, uint64_t delay_us, uint64_t span_us);
/* After the delay sim_fault_step is called with the number, unless the calm has begun. */
void sim_fault_later(struct sim *sim, uint64_t delay_us, unsigned member, uint64_t number);
/* After the delay sim_operator_step is called, unless the calm has begun. */
void sim_fault_errand_later(struct sim *sim, uint64_t delay_us, uint64_t errand);

/* sim_fault_remove is called, unless the calm has begun. */
void sim_fault_remove_later(struct sim *sim, unsigned member, uint64_t delay_us);

/* There is a machine, and a member that may run on it. */
bool sim_fault_is_present(const struct sim *sim, unsigned member);
/* One of those whose bit is set; sim_members() when there is none. */
unsigned sim_fault_any_of(const struct sim *sim, uint64_t members, uint64_t number);
/* The present member that the fault's a names. */
unsigned sim_fault_which(const struct sim *sim, const struct sim_fault *fault);
uint64_t sim_fault_down_time(uint64_t number);

/* The member, or the machine of one that is down already; it starts again after down_us. 0: that changed nothing. */
int sim_fault_crash(struct sim *sim, unsigned member, enum sim_crash how, uint64_t down_us);
/* It dies at one of the first operations of its next start. */
void sim_fault_die_in_recovery(struct sim *sim, unsigned member, uint64_t number, uint64_t down_us);
/* Pauses a member that is up; 0: it is not, or is paused already. */
int sim_fault_stop(struct sim *sim, unsigned member, bool within_turn, uint64_t span_us);

void sim_fault_step(struct sim *sim, unsigned member, uint64_t number); /* faults_leader.c */

void sim_fault_talk(struct sim *sim); /* clients that a fault has silenced ask again */

/* faults_idle.c: sim_fault_idle_step is called with the number after the delay, unless the calm has begun. */
void sim_fault_idle_later(struct sim *sim, uint64_t delay_us, unsigned member, uint64_t number);
void sim_fault_idle_step(struct sim *sim, unsigned member, uint64_t number);

/* faults_places.c: sim_fault_place_step is called with the number after the delay, unless the calm has begun. */
void sim_fault_place_later(struct sim *sim, uint64_t delay_us, unsigned member, uint64_t number);
void sim_fault_place_step(struct sim *sim, unsigned member, uint64_t number);

/* faults_aimed.c: a follower forgets its newest entries; and the same after the delay. */
void sim_fault_forget(struct sim *sim, unsigned leader, uint64_t seed);
void sim_fault_forget_later(struct sim *sim, uint64_t delay_us, unsigned leader, uint64_t seed);

/* faults_loss.c: a majority of voters keeps its data, whatever configuration will turn out to be in force, although one member
 * loses its own and another one leaves. */
#define SIM_NOBODY SIM_MEMBERS_MAX
bool sim_fault_borne(const struct sim *sim, unsigned lost, unsigned removed);
/* Faults that may cost a member its data never hit so many that a majority is gone. */
bool sim_fault_may_lose(struct sim *sim, unsigned member);
/* It is down, and starts again with an empty directory after down_us; 0: the cluster would not bear that. */
int sim_fault_empty(struct sim *sim, unsigned member, uint64_t down_us);

/* faults_former.c: the member, which is down, has an empty directory; the one that it had may come back if it is good. */
void sim_fault_put_away(struct sim *sim, unsigned member);
/* sim_fault_former_step is called with the number after the delay, unless the calm has begun. */
void sim_fault_former_later(struct sim *sim, uint64_t delay_us, unsigned member, uint64_t number);
void sim_fault_former_step(struct sim *sim, unsigned member, uint64_t number);

/* faults_members.c: asks the leader to, if that is borne */
int sim_fault_remove(struct sim *sim, unsigned member);

/* What each kind of fault does; 1, or 0 when the state of the world left it nothing to do. */
#define SIM_FAULT_DECLARATION(kind, every_low_us, every_high_us, chance)                                               \
	int sim_fault_##kind(struct sim *sim, const struct sim_fault *fault);
SIM_FAULTS(SIM_FAULT_DECLARATION)
#undef SIM_FAULT_DECLARATION

#endif
