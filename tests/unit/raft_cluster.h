/*
 * A cluster of consensus cores in memory, for tests: virtual time, a network and disks that do what the test says.
 *
 * After every step of every member it checks what no test should have to ask for: the core's own invariants, that
 * nothing leaves before the disk holds what it rests on, one leader a term, that a leader has everything that was
 * ever committed, that what is committed is on a quorum's disks and the same everywhere, and that reads are
 * linearizable. A broken rule aborts with the name of the check.
 *
 * Members are founders, which start with the configuration of all founders (genesis), or blank. A member whose disk was
 * wiped is blank and has another incarnation. A snapshot is the committed entries up to its index.
 *
 * Two ways to use it: by hand (rc_step, rc_take, rc_persist: nothing moves by itself), or rc_run_*, which lets time pass.
 */
#ifndef RAFT_KV_TESTS_RAFT_CLUSTER_H
#define RAFT_KV_TESTS_RAFT_CLUSTER_H

#include "daemon/raft/raft.h"

#define RC_NODES_MAX 8u
#define RC_MS 1000u
#define RC_HEARTBEAT_US (50u * RC_MS)
#define RC_TIMEOUT_MIN_US (150u * RC_MS)
#define RC_TIMEOUT_MAX_US (300u * RC_MS)

struct rc_entry {
	uint64_t term;
	uint64_t value;
	uint32_t size;
	uint8_t type;	       /* RAFT_ENTRY_CONFIG: value is the configuration's number */
	uint64_t committed_in; /* in rc_cluster.committed: the term of the leader that committed it */
};

struct rc_config {
	struct raft_config config;
	uint32_t size;
	uint8_t bytes[RAFT_CONFIG_SIZE_MAX];
};

struct rc_log {
	struct rc_entry *entries; /* entries[i - 1] has index i */
	size_t n;
	size_t capacity;
};

struct rc_write {
	uint64_t seq;
	uint64_t due_us;
	struct raft_hard_state hard_state;
	uint64_t commit;
	uint64_t truncate_from;
	uint64_t reset_index, reset_term;
	uint64_t first_index;
	struct rc_entry *entries;
	uint32_t n;
};

struct rc_read {
	uint64_t id;
	uint64_t floor; /* committed somewhere when it was asked: what it has to see */
	bool ready;
	bool failed;
};

struct rc_node {
	uint64_t id;
	uint64_t incarnation;
	bool blank;	   /* it does not know the genesis */
	struct raft *core; /* NULL: down */
	struct rc_log log; /* what the member's memory holds */
	struct rc_log disk;
	struct rc_log lost; /* what the last disk held that was wiped */
	struct raft_hard_state disk_hard;
	uint64_t disk_commit;
	uint64_t base;	    /* compacted up to here */
	uint64_t disk_base; /* … by the disk */
	struct rc_write *writes;
	size_t n_writes, writes_capacity;
	uint64_t deadline_us;
	uint64_t commit;
	struct rc_read *reads;
	size_t n_reads, reads_capacity;
	unsigned traces[32]; /* how often each enum raft_trace_type was seen */
	struct raft_update last;
	struct raft_status status;
};

struct rc_flight {
	uint64_t due_us;
	uint64_t order;
	uint64_t incarnation; /* of the sender */
	struct raft_message message;
	struct rc_entry *entries;
};

struct rc_options {
	unsigned n_nodes;
	unsigned n_learners; /* the last ones of the founders */
	unsigned n_blank;    /* the last ones of all: no founders */
	uint64_t seed;
	uint32_t batch_bytes_max, window_bytes_max; /* 0: generous */
	uint64_t uncommitted_bytes_max;
	unsigned level;		  /* feature level of the first configuration; 0: the newest */
	bool leases;		  /* all promise RC_TIMEOUT_MIN_US and read by lease … */
	uint32_t clock_drift_ppm; /* … with clocks that may drift so much */
};

struct rc_cluster {
	struct rc_options options;
	uint64_t random;
	uint64_t now_us;
	unsigned n_nodes;
	struct rc_node nodes[RC_NODES_MAX + 1]; /* nodes[id]; 0 is unused */

	struct rc_flight *flights;
	size_t n_flights, flights_capacity;
	uint64_t order;

	/* The network and the disks when time passes by itself. */
	bool cut[RC_NODES_MAX + 1][RC_NODES_MAX + 1]; /* [from][to] */
	unsigned drop_percent, duplicate_percent;
	uint64_t delay_min_us, delay_max_us;
	uint64_t disk_min_us, disk_max_us;
	bool disk_frozen[RC_NODES_MAX + 1];

	struct raft_config genesis; /* of the founders; in no entry */
	struct rc_config **configs; /* [number - 1]: all that ever were in an entry */
	size_t n_configs, configs_capacity;

	/* What has happened so far. */
	struct rc_log committed;
	uint64_t *leaders; /* [term]: who led it */
	size_t leaders_capacity;
	uint64_t next_read_id;
	uint64_t next_value;
	uint64_t n_steps;
	uint64_t n_reads_ready, n_reads_failed;
	uint64_t n_rejects; /* appends refused */
	bool scripted;	    /* the test makes up a leader's messages: what they commit is on nobody's disk */
	bool made_up;	    /* … with a snapshot of what never was committed: nothing to compare with */
};

void rc_init(struct rc_cluster *cluster, const struct rc_options *options);
void rc_fini(struct rc_cluster *cluster);

/* Puts entries of one term into log and disk of a member before it starts (rc_init starts none). */
void rc_seed_log(struct rc_cluster *cluster, uint64_t id, uint64_t term, unsigned n);
void rc_seed_hard_state(struct rc_cluster *cluster, uint64_t id, uint64_t term, uint64_t vote);
void rc_start(struct rc_cluster *cluster, uint64_t id);
void rc_start_all(struct rc_cluster *cluster);
/* n_survive: how many of the writes under way reach the disk after all. */
void rc_crash(struct rc_cluster *cluster, uint64_t id, size_t n_survive);
/* A member that is down comes back with an empty disk: blank, under a new incarnation. */
void rc_wipe(struct rc_cluster *cluster, uint64_t id);

/* One step at the present virtual time. */
int rc_step(struct rc_cluster *cluster, uint64_t id, const struct raft_event *event);
int rc_tick(struct rc_cluster *cluster, uint64_t id);	 /* now */
int rc_timeout(struct rc_cluster *cluster, uint64_t id); /* at the member's deadline, to which time jumps */
int rc_message(struct rc_cluster *cluster, const struct raft_message *message);
int rc_propose(struct rc_cluster *cluster, uint64_t id, unsigned n, uint32_t size);
int rc_read(struct rc_cluster *cluster, uint64_t id);
int rc_transfer(struct rc_cluster *cluster, uint64_t id, uint64_t target);
int rc_peer_down(struct rc_cluster *cluster, uint64_t id, uint64_t peer);
int rc_disk_stalled(struct rc_cluster *cluster, uint64_t id);
int rc_change(struct rc_cluster *cluster, uint64_t id, const struct raft_config *config); /* from the newest of id */
int rc_bootstrap(struct rc_cluster *cluster, uint64_t id); /* all others join, under their incarnations */
/* The newest configuration that id knows, with one member added, changed or removed (role 0). */
struct raft_config rc_config_with(struct rc_cluster *cluster, uint64_t id, uint64_t member, int role);
int rc_set_role(struct rc_cluster *cluster, uint64_t id, uint64_t member, int role); /* proposes that, as id */
/* A leader does what its caller does about hellos: a member that lost its disk joins anew. */
int rc_heal_members(struct rc_cluster *cluster, uint64_t id);

/* A snapshot of a member at a committed index that its log still knows. */
struct rc_snapshot {
	uint64_t index, term, leader_term, config_index;
	struct raft_config config;
};
void rc_take_snapshot(struct rc_cluster *cluster, uint64_t id, uint64_t index, struct rc_snapshot *ret_snapshot);
int rc_install(struct rc_cluster *cluster, uint64_t id, const struct rc_snapshot *snapshot);
/* Those that the member's newest update lists get a snapshot of its commit index. */
void rc_serve_snapshots(struct rc_cluster *cluster, uint64_t id);
void rc_compact(struct rc_cluster *cluster, uint64_t id, uint64_t index); /* as far as its disk allows */
const struct raft_progress *rc_progress(struct rc_cluster *cluster, uint64_t id, uint64_t peer); /* or NULL */
void rc_persist_one(struct rc_cluster *cluster, uint64_t id);
void rc_persist(struct rc_cluster *cluster, uint64_t id);	  /* all that is under way, one by one */
void rc_persist_at_once(struct rc_cluster *cluster, uint64_t id); /* all that is under way, with one sync */

/* By hand: what was sent and is not yet delivered. */
size_t rc_count(const struct rc_cluster *cluster, uint64_t from, uint64_t to, int type); /* 0: any */
bool rc_take(struct rc_cluster *cluster, uint64_t from, uint64_t to, int type, struct raft_message *ret_message);
void rc_lose(struct rc_cluster *cluster, uint64_t from, uint64_t to, int type);
/* Delivers and persists at once, all that there is and all that follows from it, without time passing. */
void rc_settle(struct rc_cluster *cluster);

/* Time passes. */
void rc_run_us(struct rc_cluster *cluster, uint64_t duration_us);
bool rc_run_until_leader(struct rc_cluster *cluster, uint64_t limit_us); /* with its term committed */
uint64_t rc_leader(const struct rc_cluster *cluster);			 /* the leader of the highest term, or 0 */

void rc_cut(struct rc_cluster *cluster, uint64_t a, uint64_t b, bool cut); /* both ways */
void rc_isolate(struct rc_cluster *cluster, uint64_t id, bool isolated);
void rc_heal(struct rc_cluster *cluster);
uint64_t rc_random(struct rc_cluster *cluster, uint64_t below);
bool rc_chance(struct rc_cluster *cluster, unsigned percent);

const struct raft_status *rc_status(struct rc_cluster *cluster, uint64_t id);
/* The members of the leader's configuration are up, nobody is still joining, all have the same log, all of it
 * committed. */
bool rc_converged(struct rc_cluster *cluster);
void rc_check_logs(struct rc_cluster *cluster); /* Log Matching, for every pair */

/* Makes id the leader, by hand, of all members; everything settled. */
void rc_elect(struct rc_cluster *cluster, uint64_t id);

#endif
