/*
 * What faults leave in the world: the state of a member's clocks and of its disk, and how often each fault happened. sim.h
 * includes it; faults.c sets the state, the disk, the network and the members obey it.
 */
#ifndef RAFT_KV_SIM_FAULTS_H
#define RAFT_KV_SIM_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

/* Rows of SIM_COUNTERS (sim.h): what faults did. Each is more than 0 in the sum over 200 seeds. */
#define SIM_FAULT_COUNTERS(X)                                                                                          \
	X(kills)                                                                                                       \
	X(power_cuts)                                                                                                  \
	X(powerless)	 /* power cuts of members that were down */                                                    \
	X(deaths_within) /* between two operations of one turn */                                                      \
	X(deaths_in_recovery)                                                                                          \
	X(torn_writes)                                                                                                 \
	X(cached_writes)     /* written, not synced, and the process killed */                                         \
	X(torn_tails)	     /* found by recoveries */                                                                 \
	X(names_interrupted) /* files being made, renamed or removed at a crash */                                     \
	X(stops)	     /* members that stopped because of a disk error */                                        \
	X(refused_starts)    /* for an error or a full disk: tried again later */                                      \
	X(set_aside)	     /* damaged segments, by members that go on with the others */                             \
	X(given_up)	     /* directories, by members that found them damaged */                                     \
	X(lost_members)                                                                                                \
	X(cuts) /* of links */                                                                                         \
	X(frames_cut)                                                                                                  \
	X(frames_held) /* they waited for a cut link to open again */                                                  \
	X(frames_late) /* by seconds */                                                                                \
	X(frames_corrupted)                                                                                            \
	X(requests_damaged) /* … of clients, or the answers */                                                       \
	X(frames_garbage)                                                                                              \
	X(frames_replayed)                                                                                             \
	X(frames_of_earlier_lives)                                                                                     \
	X(queue_overflows)                                                                                             \
	X(peers_up)                                                                                                    \
	X(peers_down)                                                                                                  \
	X(connections_refused)                                                                                         \
	X(moves)	 /* of members to other endpoints */                                                           \
	X(files_refused) /* for lack of room */                                                                        \
	X(streams_refused)                                                                                             \
	X(streams_interrupted)                                                                                         \
	X(write_errors)                                                                                                \
	X(sync_errors)                                                                                                 \
	X(read_errors)                                                                                                 \
	X(start_errors)	 /* of any operation of a start */                                                             \
	X(errors_within) /* between two operations of one turn */                                                      \
	X(rotten_sectors)                                                                                              \
	X(promises_unknown)  /* starts refused, because the file about them was damaged */                             \
	X(forgotten_records) /* newest ones that rotted */                                                             \
	X(misdirected_writes)                                                                                          \
	X(wipes)                                                                                                       \
	X(changes)     /* of the membership, that a leader took */                                                     \
	X(departures)  /* of members that were told of their removal */                                                \
	X(too_old)     /* starts refused, and stops, of programs that knew less than the cluster uses */               \
	X(divergences) /* members that stopped because their states differed */                                        \
	X(dumps)       /* complete ones */                                                                             \
	X(backups)                                                                                                     \
	X(copies_refused) /* copies of directories, after they had come to harm */                                     \
	X(bodies_refused) /* malformed requests and replies */                                                         \
	X(spoilt_states)  /* that were written into snapshots */                                                       \
	X(states_refused) /* by members that received them, or started with them */                                    \
	X(returns)	  /* of directories that were put away */                                                      \
	X(old_answers)	  /* of directories that are gone, to the leader that they followed */

enum sim_crash {
	SIM_KILL,      /* the process: what it wrote stays in the page cache */
	SIM_POWER_CUT, /* the machine: what was not synced is lost in any subset of sectors */
};

/* What the disk of a member is to do wrong. */
struct sim_disk_faults {
	uint64_t full_until_us;	 /* no room for a new file */
	uint64_t stall_until_us; /* no job ends before */
	uint64_t slow_until_us;	 /* every job takes … */
	uint64_t slow_us;	 /* … so much longer */
	unsigned fail_jobs;	 /* so many jobs, the next ones, fail with EIO … */
	bool fail_in_sync;	 /* … in their sync: the data are in the page cache */
	unsigned fail_reads;	 /* so many reads fail with EIO */
	unsigned
		fail_submits; /* the so-manieth job to be handed over finds that one under way has failed; 0: none does */
	uint64_t start_fails_at; /* the so-manieth operation of its next start fails; 0: none does */
	bool misdirect;		 /* the next record lands in another place */
	bool rot_offered;	 /* the snapshot that it offers next rots */
	bool rot_received;	 /* the snapshot that it has received next rots before it is installed */
	bool refuse_offered;	 /* reads of the snapshot that it offers next fail with EIO … */
	uint64_t unreadable;	 /* … reads of that of this index, as long as the member is up; 0: of none */
	/* One bit of the snapshot that it writes next is another one than in its state: which; 0: none is. */
	uint64_t spoil_state;
	uint64_t background_until_us; /* what is not the log's does not end before */
	bool lose_segment_end; /* the last record of the segment that is full next, if it holds no entries, rots, … */
	uint64_t segment_end_down_us; /* … the member dies, and is down for so long */
};

/* A member's clocks: the monotonic one runs at its own rate, and leaps when the machine slept; the wall clock is set. */
struct sim_clock {
	uint64_t base_us;	/* of the world … */
	uint64_t local_base_us; /* … when the member's clock showed this */
	int64_t drift_ppm;
	int64_t wall_offset_ms;
};

/* A member dies at one of its own disk or network operations. */
struct sim_doom {
	bool armed;
	bool in_recovery; /* waits for the next start */
	enum sim_crash how;
	uint64_t operations_left;
	uint64_t down_us;
};

#endif
