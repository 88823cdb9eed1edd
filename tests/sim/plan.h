/*
 * What a run of the simulator consists of: its parameters and its faults, drawn from a seed before the run begins, written to
 * and read from a replay file, and made smaller while a failure persists.
 *
 * Everything that decides about a run is in struct sim_plan: two runs of equal plans have equal histories. A parameter is a
 * row of SIM_PARAMETERS, a kind of fault a row of SIM_FAULTS; drawing, printing, reading and shrinking go over the rows.
 */
#ifndef RAFT_KV_SIM_PLAN_H
#define RAFT_KV_SIM_PLAN_H

#include "faults.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/*
 * X(name, quiet, low, high, chance): with `chance` per million the seed draws the parameter from low … high, otherwise it is
 * `quiet`. Shrinking tries the quiet value. Units: the name's suffix; rates without one are per million.
 */
#define SIM_PARAMETERS(X)                                                                                              \
	X(clients, 1, 1, 8, 1000000)                                                                                   \
	X(client_window, 1, 2, 8, 600000)                                                                              \
	X(client_bursts, 0, 10000, 150000, 600000)                                                                     \
	X(client_idling, 0, 50000, 400000, 400000)                                                                     \
	X(client_duplicates, 0, 10000, 200000, 600000)                                                                 \
	X(client_vanishing, 0, 10000, 200000, 600000)                                                                  \
	X(client_flooding, 0, 2000, 20000, 60000)                                                                      \
	X(client_sticky, 0, 300000, 1000000, 400000)                                                                   \
	X(keys, 5, 100, 1000, 200000)                                                                                  \
	X(client_value_max, 16, 16, 8192, 700000)                                                                      \
	X(uncommitted_bytes, 1048576, 32768, 1048576, 500000)                                                          \
	X(delay_min_us, 50, 50, 550, 1000000)                                                                          \
	X(delay_spread_us, 0, 0, 20000, 1000000)                                                                       \
	X(loss, 0, 0, 100000, 666666)                                                                                  \
	X(duplication, 0, 0, 100000, 666666)                                                                           \
	X(stale_answers, 0, 50000, 500000, 300000)                                                                     \
	X(late, 0, 10, 5000, 300000)                                                                                   \
	X(corruption, 0, 10, 20000, 300000)                                                                            \
	X(garbage, 0, 10, 5000, 300000)                                                                                \
	X(hold, 0, 500000, 980000, 300000)                                                                             \
	X(queue_frames, 1024, 4, 100, 250000)                                                                          \
	X(peer_silence, 0, 0, 1000000, 500000)                                                                         \
	X(sync_min_us, 50, 50, 250, 1000000)                                                                           \
	X(sync_spread_us, 0, 0, 10000, 1000000)                                                                        \
	X(stall, 0, 0, 2000, 250000)                                                                                   \
	X(snapshot_log_bytes, 100000, 8000, 60000, 900000)                                                             \
	X(heal, 0, 1, 1, 700000)                                                                                       \
	X(checkpoint_entries, 1024, 8, 1024, 700000)                                                                   \
	X(spares, 0, 1, 2, 600000)                                                                                     \
	X(early_faults, 0, 1, 1, 400000)                                                                               \
	X(segment_pages, 16, 10, 64, 500000)                                                                           \
	X(cache_bytes, 8192, 2048, 65536, 400000)                                                                      \
	X(batch_bytes, 4096, 1024, 65536, 400000)                                                                      \
	X(window_bytes, 16384, 4096, 262144, 400000)                                                                   \
	X(disk_bytes, 1000000000, 300000, 2000000, 150000)                                                             \
	X(heartbeat_us, 50000, 10000, 100000, 300000)                                                                  \
	X(election_min_us, 150000, 110000, 400000, 300000)                                                             \
	X(election_spread_us, 150000, 20000, 600000, 300000)                                                           \
	X(apply_entries, 0, 1, 40, 300000)                                                                             \
	X(snapshot_hold, 0, 20, 2000, 300000)                                                                          \
	X(level, 3, 1, 2, 700000)                                                                                      \
	X(level_spread, 0, 1, 2, 500000)                                                                               \
	X(trial, 0, 1, 7, 500000)                                                                                      \
	X(lease_drift_ppm, 0, 10000, 250000, 350000)                                                                   \
	X(lease_mixed, 0, 1, 1, 300000)                                                                                \
	X(clocks_beyond, 0, 1, 1, 0)                                                                                   \
	X(trial_background, 0, 1, 2, 500000)                                                                           \
	X(old_files, 0, 1, 1, 300000)

/*
 * X(kind, every_low_us, every_high_us, chance): with `chance` per million a run has this kind of fault at all, on average once
 * in a time drawn from every_low_us … every_high_us. What a fault does is in faults*.c.
 */
#define SIM_FAULTS(X)                                                                                                  \
	X(kill, 200000, 3200000, 800000)                                                                               \
	X(power_cut, 300000, 4000000, 700000)                                                                          \
	X(power_cut_many, 2000000, 30000000, 300000)                                                                   \
	X(crash_within, 300000, 4000000, 600000)                                                                       \
	X(crash_in_recovery, 1000000, 8000000, 400000)                                                                 \
	X(long_absence, 10000000, 60000000, 200000)                                                                    \
	X(pause, 500000, 4500000, 666666)                                                                              \
	X(slow, 1000000, 10000000, 300000)                                                                             \
	X(drift, 2000000, 20000000, 500000)                                                                            \
	X(wall_jump, 1000000, 20000000, 500000)                                                                        \
	X(leap, 1000000, 20000000, 300000)                                                                             \
	X(partition, 300000, 3300000, 600000)                                                                          \
	X(links, 500000, 5000000, 400000)                                                                              \
	X(bridge, 1000000, 8000000, 300000)                                                                            \
	X(flapping, 2000000, 15000000, 300000)                                                                         \
	X(isolate_leader, 500000, 6000000, 400000)                                                                     \
	X(swizzle, 2000000, 15000000, 250000)                                                                          \
	X(false_peer_events, 200000, 3000000, 400000)                                                                  \
	X(replay, 500000, 5000000, 400000)                                                                             \
	X(disk_stall, 1000000, 15000000, 250000)                                                                       \
	X(disk_full, 2000000, 20000000, 300000)                                                                        \
	X(disk_error, 1000000, 15000000, 400000)                                                                       \
	X(read_error, 1000000, 15000000, 300000)                                                                       \
	X(bit_rot, 1000000, 20000000, 300000)                                                                          \
	X(newest_rot, 1000000, 10000000, 300000)                                                                       \
	X(misdirected_write, 2000000, 30000000, 250000)                                                                \
	X(wipe, 2000000, 20000000, 400000)                                                                             \
	X(member_add, 2000000, 15000000, 600000)                                                                       \
	X(member_remove, 2000000, 20000000, 400000)                                                                    \
	X(member_replace, 3000000, 20000000, 300000)                                                                   \
	X(member_promote, 1000000, 10000000, 300000)                                                                   \
	X(snapshot, 500000, 6000000, 400000)                                                                           \
	X(transfer, 500000, 4000000, 500000)                                                                           \
	X(depose, 1000000, 8000000, 400000)                                                                            \
	X(slow_writer, 500000, 6000000, 300000)                                                                        \
	X(upgrade, 500000, 8000000, 500000)                                                                            \
	X(downgrade, 2000000, 15000000, 300000)                                                                        \
	X(stop_leader, 500000, 5000000, 400000)                                                                        \
	X(usurp, 500000, 5000000, 400000)                                                                              \
	X(look, 500000, 10000000, 500000)                                                                              \
	X(errand, 1000000, 15000000, 500000)                                                                           \
	X(check_files, 2000000, 20000000, 300000)                                                                      \
	X(mistake, 1000000, 10000000, 300000)                                                                          \
	X(bootstrap, 100000, 20000000, 200000)                                                                         \
	X(forge, 200000, 4000000, 500000)                                                                              \
	X(wrong_state, 1000000, 12000000, 350000)                                                                      \
	X(promise_rot, 1000000, 15000000, 300000)                                                                      \
	X(reload, 1000000, 20000000, 300000)                                                                           \
	X(start_error, 1000000, 10000000, 400000)                                                                      \
	X(error_within, 1000000, 15000000, 300000)                                                                     \
	X(strangers, 1000000, 20000000, 300000)                                                                        \
	X(rogue, 100000, 5000000, 300000)                                                                              \
	X(hoard, 50000, 300000, 40000)                                                                                 \
	X(copy_files, 2000000, 20000000, 400000)                                                                       \
	X(forgotten_entry, 500000, 8000000, 350000)                                                                    \
	X(segment_end, 1000000, 10000000, 350000)                                                                      \
	X(old_hello, 1000000, 10000000, 500000)                                                                        \
	X(rotten_offer, 1000000, 10000000, 300000)                                                                     \
	X(second_founding, 5000000, 30000000, 300000)                                                                  \
	X(former_directory, 1000000, 12000000, 350000)                                                                 \
	X(old_answer, 2000000, 10000000, 350000)                                                                       \
	X(led_again, 2000000, 10000000, 300000)                                                                        \
	X(spoilt_state, 1000000, 10000000, 300000)                                                                     \
	X(hollow_refusal, 500000, 4000000, 300000)                                                                     \
	X(unreadable_offer, 1000000, 10000000, 300000)                                                                 \
	X(rotten_receipt, 1000000, 10000000, 300000)                                                                   \
	X(member_move, 2000000, 15000000, 300000)                                                                      \
	X(no_connections, 1000000, 10000000, 250000)                                                                   \
	X(two_changes, 2000000, 12000000, 300000)                                                                      \
	X(idle_install, 3000000, 15000000, 250000)

/* What stays when all other faults are over: trial.c. */
enum sim_trial_kind {
	SIM_TRIAL_NONE,
	SIM_TRIAL_DEAF,	   /* the leader is heard, but hears nobody */
	SIM_TRIAL_DOWN,	   /* a minority, the leader among them, is down */
	SIM_TRIAL_HANGING, /* the leader's disk does not answer, or takes nothing but the log */
	SIM_TRIAL_APART, /* the leader and one more member do not hear each other; all others hear both; nobody writes */
	SIM_TRIAL_GONE,	 /* a member is cut off, and asked to lead again and again */
	SIM_TRIAL_TOGETHER, /* all start at once, and nothing is quicker or slower anywhere */
	SIM_TRIAL_QUIET,    /* nothing at all: the leader stays */
};

/* trial_background: the whole disk hangs, or all but the log … and the log has no file to go on in long before it has its share */
#define SIM_BACKGROUND_QUEUE 2u

enum sim_fault_kind {
#define SIM_FAULT_ENUM(kind, every_low_us, every_high_us, chance) SIM_FAULT_##kind,
	SIM_FAULTS(SIM_FAULT_ENUM)
#undef SIM_FAULT_ENUM
		SIM_FAULT_KINDS
};

/* One fault. a, b and c are random numbers from the seed: the fault makes its choices (which member, how long) from them and
 * from the state of the world, never from a shared generator, so that leaving one fault out changes the others little. */
struct sim_fault {
	uint64_t time_us; /* since the beginning */
	enum sim_fault_kind kind;
	uint64_t a, b, c;
};

/* What a run counts besides its faults: X(name). Verdict and summary print every row. */
#define SIM_COUNTERS(X)                                                                                                \
	X(events)                                                                                                      \
	X(operations)                                                                                                  \
	X(elections)                                                                                                   \
	X(crashes)                                                                                                     \
	X(frames_lost)                                                                                                 \
	X(frames_doubled)                                                                                              \
	X(disk_stalls)                                                                                                 \
	SIM_FAULT_COUNTERS(X)

struct sim_counts {
#define SIM_COUNTER_FIELD(name) uint64_t name;
	SIM_COUNTERS(SIM_COUNTER_FIELD)
#undef SIM_COUNTER_FIELD
	uint64_t faults[SIM_FAULT_KINDS]; /* that took hold; run.c counts them */
};

#define SIM_COUNTS (sizeof(struct sim_counts) / sizeof(uint64_t))

/* By number: the rows of SIM_COUNTERS, then the kinds of faults. */
const char *sim_count_name(unsigned number);
uint64_t *sim_count(struct sim_counts *counts, unsigned number);

#define SIM_MEMBERS_MAX 8u /* founders and spares: all links between them are 64 bits */

struct sim_plan {
	uint64_t seed;	  /* of the generators of network, disks, clients, members */
	uint64_t span_us; /* of the time with faults; a calm follows */
	uint64_t members;
#define SIM_PARAMETER_FIELD(name, quiet, low, high, chance) uint64_t name;
	SIM_PARAMETERS(SIM_PARAMETER_FIELD)
#undef SIM_PARAMETER_FIELD
	struct sim_fault *faults; /* owned; ascending by time */
	size_t n_faults;
	/* The run fails as soon as every count that is not 0 here is reached: so one finds, and shrinks, a run in which something
	 * happens. */
	bool reaching;
	struct sim_counts reach;
};

/* A row of SIM_PARAMETERS as a value. */
struct sim_parameter {
	const char *name;
	uint64_t quiet, low, high;
	uint64_t chance;
};

enum sim_parameter_number {
#define SIM_PARAMETER_ENUM(name, quiet, low, high, chance) SIM_PARAMETER_##name,
	SIM_PARAMETERS(SIM_PARAMETER_ENUM)
#undef SIM_PARAMETER_ENUM
		SIM_PARAMETER_COUNT
};

extern const struct sim_parameter sim_parameters[SIM_PARAMETER_COUNT];
uint64_t *sim_plan_parameter(struct sim_plan *plan, unsigned number);
const char *sim_fault_name(enum sim_fault_kind kind);

/* Draws everything from the seed. Each row has a generator of its own: a new row leaves the others as they are. */
void sim_plan_draw(struct sim_plan *ret_plan, uint64_t seed, uint64_t span_us);
/* `NAME=N` as on the command line; false: no such count, or not a number. */
bool sim_plan_reach(struct sim_plan *plan, const char *text);
void sim_plan_copy(struct sim_plan *ret_copy, const struct sim_plan *plan);
void sim_plan_fini(struct sim_plan *plan);

#define SIM_PLAN_MESSAGE_MAX 256u

/* A replay file: lines `name value`, `reach count value`, then `fault time kind a b c`; `#` begins a comment. A parameter that
 * is not named is quiet. Reading checks every line and says in message which one is wrong; 0 or -1. */
void sim_plan_write(const struct sim_plan *plan, FILE *file);
int sim_plan_read(struct sim_plan *ret_plan, const char *path, char message[SIM_PLAN_MESSAGE_MAX])
	__attribute__((warn_unused_result));

#endif
