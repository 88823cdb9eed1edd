/*
 * One member as a deterministic machine: the consensus core, the log, the transport and the state machine joined, with time
 * and randomness handed in. replicator.c drives it in a real process, tests/sim in the simulator: the same object code.
 *
 * What this must not know: real clocks, threads, descriptors, the configuration file, what a command means.
 */
#ifndef RAFT_KV_REPLICA_H
#define RAFT_KV_REPLICA_H

#include "../raft/raft.h"
#include "../storage/storage.h"
#include "../transport/transport.h"
#include "replicator.h"

struct replica_options {
	uint64_t cluster;
	uint64_t seed;
	struct raft_config
		founders; /* by the configuration file: whom to found the cluster with; roles do not matter */
	uint64_t snapshot_log_bytes;   /* a snapshot is due when the log since the last one is larger than this … */
	uint32_t snapshot_log_percent; /* … and than this share of the last snapshot */
	uint64_t checkpoint_entries; /* states are compared at every multiple of this index; 0: the usual; all alike */
	uint32_t apply_entries_max;  /* in one call of replica_process; 0: the usual */
	unsigned level_max;	     /* newest feature level that this member knows; 0: RAFT_LEVEL_MAX */
	bool heal; /* a damaged data directory is set aside, and the member rejoins as a new one (README.md says when) */
	struct raft_options raft; /* id and timing; its seed is replaced by the one above; promised_us is in the directory */
	struct storage_options storage;
};

struct replica;

/* Takes over disk and transport, whatever the result. Results as replicator_new. */
int replica_open(const struct replica_options *options, struct disk *disk, struct transport *transport,
		 const struct replicator_machine *machine, void *arg, uint64_t now_us, struct replica **ret_replica,
		 char *message) __attribute__((warn_unused_result));
struct replica *replica_free(struct replica *replica);

/* The member is about to stop, at now_us: what it promised before its start need not be remembered any more if it is over. */
void replica_end_promises(struct replica *replica, uint64_t now_us);

/* Does all that is due at now_us. wall_ms: the wall clock, for the time in entries. Results as replicator_process. */
int replica_process(struct replica *replica, uint64_t now_us, uint64_t wall_ms) __attribute__((warn_unused_result));

/* After replica_process: the clock was read again. What was promised in that call counts from now on. */
void replica_settle(struct replica *replica, uint64_t now_us);

/* When replica_process must be called next at the latest; now or earlier: there is work left. */
uint64_t replica_deadline_us(const struct replica *replica);

int replica_propose(struct replica *replica, const struct replicator_command *commands, uint32_t n,
		    uint64_t first_ticket, uint64_t now_us, uint64_t wall_ms) __attribute__((warn_unused_result));
int replica_read(struct replica *replica, uint64_t ticket, uint64_t now_us) __attribute__((warn_unused_result));
int replica_transfer(struct replica *replica, uint64_t target, uint64_t now_us) __attribute__((warn_unused_result));
int replica_change(struct replica *replica, const struct replicator_change *change, uint64_t now_us, uint64_t wall_ms,
		   uint64_t *ret_index) __attribute__((warn_unused_result));
int replica_bootstrap(struct replica *replica, uint64_t now_us, uint64_t wall_ms) __attribute__((warn_unused_result));
int replica_snapshot(struct replica *replica) __attribute__((warn_unused_result));
void replica_set_snapshot_limits(struct replica *replica, uint64_t log_bytes, uint32_t log_percent);
void replica_get_membership(const struct replica *replica, struct replicator_membership *ret_membership);
void replica_get_status(const struct replica *replica, struct replicator_status *ret_status);
unsigned replica_get_beats(const struct replica *replica, uint64_t now_us, uint64_t after,
			   struct replicator_beat *ret_beats, unsigned max);
void replica_get_metrics(const struct replica *replica, uint64_t now_us, struct replicator_metrics *ret_metrics);
int replica_read_log(struct replica *replica, uint64_t first_index, struct raft_entry *ret_entries,
		     uint32_t max_entries, uint64_t bytes_max, uint32_t *ret_n) __attribute__((warn_unused_result));

/* For the driver's loop and for invariant checks. */
struct storage *replica_storage(struct replica *replica);
struct raft *replica_core(struct replica *replica);

#endif
