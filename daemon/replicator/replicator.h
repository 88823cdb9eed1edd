/*
 * The embeddable replicator: a member of a Raft cluster inside your program.
 *
 * Create it with an id and a configuration file. Put commands in its outbox with replicator_propose; every member's
 * state machine, yours included, is handed the committed ones in one and the same order. The state machine is a table
 * of functions, all called from replicator_process on your thread.
 *
 * It fits any event loop: watch one descriptor for reading, and when it is readable call replicator_process.
 *
 *     struct replicator *r;
 *     replicator_new(1, "/etc/raft/raft.conf", &machine, arg, &r, message);
 *     for (;;) { poll(replicator_fd(r)); replicator_process(r); }
 *
 * Thread rules: one thread makes all calls for one replicator. Inside it run two disk threads and ZeroMQ's.
 * Functions of the machine must not call into the replicator: what they hand out would change under them.
 *
 * What a newer libreplicator.so.0 may change: struct replicator_machine and struct replicator_status can grow at their ends, so
 * the library is told how large the program knows them to be; results and functions may be added. Nothing else changes
 * under this name.
 */
#ifndef RAFT_KV_REPLICATOR_H
#define RAFT_KV_REPLICATOR_H

#include "../entry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
/* What is declared here is all that the shared library shows. */
#pragma GCC visibility push(default)

#define REPLICATOR_MESSAGE_MAX 8192u
#define REPLICATOR_ENDPOINT_MAX 200u /* characters */

/* Documented outcomes. Negative values are errno numbers and fatal unless a function says otherwise. */
enum replicator_result {
	REPLICATOR_OK = 0,
	REPLICATOR_E_NOT_LEADER = 1,  /* definite: nothing was appended; replicator_status names the leader */
	REPLICATOR_E_BUSY = 2,	      /* definite: a queue is full or a hand-over is under way; try again */
	REPLICATOR_E_NOT_READY = 3,   /* definite: this leader has committed nothing in its term yet; try again */
	REPLICATOR_E_DISK_FULL = 4,   /* definite: no room for the log */
	REPLICATOR_E_UNKNOWN = 5,     /* appended, then leadership was lost: it may still be committed */
	REPLICATOR_E_LOST = 6,	      /* a read whose leader lost its leadership; try again */
	REPLICATOR_E_TARGET = 7,      /* hand-over: the target is no other voter of the cluster */
	REPLICATOR_E_CONFIG = 8,      /* the configuration is wrong */
	REPLICATOR_E_DAMAGED = 9,     /* the data directory is damaged */
	REPLICATOR_E_CLUSTER = 10,    /* the data directory belongs to another cluster or member */
	REPLICATOR_E_PENDING = 11,    /* membership: another change is not committed yet; try again */
	REPLICATOR_E_MEMBERSHIP = 12, /* membership: impossible change (unknown or known member, the last voter …) */
	REPLICATOR_E_STALE = 13,      /* membership: it has changed since the one that the change was meant for */
	REPLICATOR_E_REMOVED = 14,    /* this member was removed from the cluster: stop, and do not start again */
	REPLICATOR_E_DIVERGED = 15,   /* this member's state differs from the others': stop, keep the directory */
	REPLICATOR_E_LEVEL = 16,      /* the data directory, or the cluster, needs a newer program than this one */
};
const char *replicator_result_name(int result);

/* Something worth a line in the journal, as things stood when it happened. It may grow at its end. */
struct replicator_event {
	int level;	  /* syslog number */
	const char *name; /* a short machine-readable word */
	const char *text;
	uint64_t term;
	unsigned role;	 /* as in struct replicator_status */
	uint64_t leader; /* 0: none known */
	uint64_t index;	 /* of the entry or snapshot that it is about; 0: none */
	uint64_t peer;	 /* the member that it is about; 0: none */
};

/* The state machine. arg is the pointer given to replicator_new. Those up to log must not be NULL. */
struct replicator_machine {
	size_t size; /* sizeof(struct replicator_machine) where the program was compiled */
	/* A command is committed: apply it. Indexes increase; other members see the same. ticket: the one under which this
	 * member proposed it, 0 if it was proposed elsewhere or before a loss of leadership. data lives until the return. */
	void (*apply)(void *arg, uint64_t index, uint64_t time_ms, const uint8_t *data, uint32_t size, uint64_t ticket);
	/* The fate of the proposal is not known (REPLICATOR_E_UNKNOWN): it may be applied later, with ticket 0. */
	void (*dropped)(void *arg, uint64_t ticket, int why);
	/* The read with this ticket may be answered from the state now: it is linearizable (dissertation, section 6.4). */
	void (*readable)(void *arg, uint64_t ticket);
	/* The read cannot be answered: REPLICATOR_E_LOST. */
	void (*unreadable)(void *arg, uint64_t ticket, int why);
	/* The event and its texts live until the return. */
	void (*log)(void *arg, const struct replicator_event *event);

	/*
	 * Snapshots. A machine that has none leaves all of these NULL; then its log grows for ever, and a member that fell
	 * behind its beginning cannot catch up. All members' machines must write and read the same bytes.
	 */
	/* The state as of the last applied entry, in constant time and unchanged by what is applied later; NULL: no memory
	 * (it is tried again). */
	void *(*snapshot_take)(void *arg);
	/* The next bytes of the snapshot into buf, up to capacity (at least 64 KiB). Returns the count, 0 at the end. */
	size_t (*snapshot_read)(void *arg, void *snapshot, uint8_t *buf, size_t capacity);
	void (*snapshot_free)(void *arg, void *snapshot);
	/* Loading: restore_begin with the entry that the snapshot is said to be of, then restore_feed with the bytes in any
	 * pieces, then restore_end with success = true, upon which the machine's state is the snapshot's; false: forget it,
	 * the state is as before. Between begin and end nothing is applied, but stale reads may be asked. 0, or a negative
	 * errno, with which the state is as before, too. -ENOMEM: there is no memory now. -EPROTONOSUPPORT: a newer program
	 * wrote this, and the member stops. Any other: these bytes are no state as of that entry. Then the snapshot counts no
	 * more, nothing rests on it, and the member goes on, or starts, with what else it has. So refuse whatever apply would
	 * not bear: the bytes may be another member's, and nothing in them is to be trusted. */
	int (*restore_begin)(void *arg, uint64_t index);
	int (*restore_feed)(void *arg, const uint8_t *buf, size_t len);
	int (*restore_end)(void *arg, bool success);
	/* A hash of the whole state, equal on members that applied the same entries; NULL: divergence is not detected. */
	uint64_t (*state_hash)(void *arg);

	/* While replicator_new reads the data directory, again and again: so many bytes were read, of at most so many. May be
	 * NULL. */
	void (*starting)(void *arg, uint64_t read_bytes, uint64_t bytes_max);
};

/* Who belongs to the cluster. The log decides; the configuration file only says whom to expect at the very first start. */
enum replicator_member_role {
	REPLICATOR_VOTER = 1,
	REPLICATOR_LEARNER = 2, /* receives everything, never votes; stays one until it is promoted */
	REPLICATOR_JOINING = 3, /* a learner that the leader promotes by itself once it has caught up */
};
struct replicator_member {
	uint64_t id;
	unsigned role;	      /* enum replicator_member_role */
	uint64_t incarnation; /* of its data directory; 0: not heard yet */
	char peer[REPLICATOR_ENDPOINT_MAX + 1];
	char client[REPLICATOR_ENDPOINT_MAX + 1];
};
struct replicator_membership {
	uint64_t index; /* of the entry that made it so; 0: no cluster yet */
	bool committed;
	unsigned n_members; /* ascending by id */
	struct replicator_member members[RAFT_MEMBERS_MAX];
};

enum replicator_change_type {
	REPLICATOR_ADD = 1,	/* id, peer, client, stay_learner; joins as a learner */
	REPLICATOR_REMOVE = 2,	/* id */
	REPLICATOR_PROMOTE = 3, /* id: a learner that is to become a voter when it has caught up */
	REPLICATOR_MOVE = 4,	/* id, peer, client: the member has other endpoints from now on */
};
struct replicator_change {
	enum replicator_change_type type;
	uint64_t id;
	bool stay_learner;
	const char *peer;
	const char *client;
	/* Only if the membership is still the one of this index; 0: whatever it is. It is to be one that was seen committed: before
	 * that, another one may still come to stand at the same index. */
	uint64_t if_index;
};

struct replicator_peer_status {
	uint64_t id;
	bool voter;
	bool connected;
	uint64_t match; /* on the leader */
	uint64_t dropped_frames;
	uint64_t silent_us; /* since it was last heard; UINT64_MAX: never */
};

struct replicator_status {
	uint64_t id;
	uint64_t cluster;
	uint64_t incarnation;
	unsigned role;	 /* 0 follower, 1 pre-candidate, 2 candidate, 3 leader, 4 learner */
	uint64_t leader; /* 0: none known */
	uint64_t term;
	uint64_t first_index; /* of the log */
	uint64_t last_index;
	uint64_t durable_index;
	uint64_t commit;
	uint64_t applied;
	uint64_t elections;  /* started by this member since its start */
	uint64_t proposals;  /* entries appended as leader since start */
	uint64_t bad_frames; /* received and refused since start */
	uint64_t flushes, flushed_entries, flushed_bytes, sync_us_total, sync_us_max;
	uint64_t disk_bytes, log_cache_bytes;
	uint64_t snapshot_index;		 /* of the newest durable one; 0: none */
	uint64_t snapshot_bytes;		 /* of its file */
	uint64_t snapshots;			 /* taken since start */
	uint64_t installed;			 /* received from a leader and installed since start */
	bool snapshotting;			 /* one is being written */
	uint64_t transfer_bytes, transfer_total; /* of the snapshot being received; 0 0: none */
	bool blank;				 /* no cluster yet: waits to be founded or to hear from a leader */
	bool voter;				 /* this member is one */
	unsigned n_voters;			 /* of the membership in force */
	unsigned n_peers;
	struct replicator_peer_status peers[RAFT_MEMBERS_MAX];
	unsigned level;	       /* feature level of the cluster: what all of its members know */
	unsigned level_max;    /* the newest that this program knows */
	bool lease;	       /* it is configured to answer reads by lease while it leads */
	uint64_t lease_us;     /* leader: how long its lease lasts at least; 0: it has none, and reads need a round */
	uint64_t promise_us;   /* for how long it helps nobody to become leader, whatever happens; 0: it may */
	uint64_t leased_reads; /* confirmed by a lease since start */
};

/* What is counted beyond the status, for monitoring: put together only when asked for. Counters run since the start. */
#define REPLICATOR_SYNC_BUCKETS 20u
struct replicator_peer_metrics {
	uint64_t id;
	uint64_t silence_us; /* since this member last heard it; UINT64_MAX: never */
	uint64_t
		inflight_bytes; /* leader: of entries sent and not acknowledged; at most window_bytes_max, or one entry */
	bool needs_snapshot;	/* leader: what it lacks is not in the log any more */
	uint64_t sent_frames, sent_bytes;
	uint64_t dropped_full;	      /* frames: too many wait for this peer, or no memory */
	uint64_t dropped_unconnected; /* frames */
};
struct replicator_metrics {
	unsigned n_voters;
	uint64_t beat;		 /* beats of this member as leader */
	uint64_t leader_changes; /* leaders seen, this member included */
	bool transferring;
	bool disk_full; /* no room for the next segment of the log: large writes are refused, soon all */
	uint64_t received_frames, received_bytes;	   /* from other members, refused ones included */
	uint64_t stale_frames;				   /* of directories that are no member any more */
	uint64_t uncommitted_bytes, uncommitted_bytes_max; /* leader: entries; full means REPLICATOR_E_BUSY */
	uint64_t window_bytes_max;
	uint64_t write_queue_bytes; /* entries not durable here yet; bounded like uncommitted ones */
	uint64_t log_cache_bytes_max;
	uint64_t log_segments;
	uint64_t log_bytes_since_snapshot; /* written; a snapshot is due above … */
	uint64_t snapshot_due_bytes;	   /* … this */
	uint64_t reads_waiting;		   /* for a round of heartbeats, or for what is committed to be applied */
	uint64_t write_age_us;		   /* of the oldest write that the disk has not answered */
	uint64_t sync_buckets
		[REPLICATOR_SYNC_BUCKETS]; /* bucket k: syncs of less than 2^(k + 4) us; the last: the rest */
	unsigned n_peers;
	struct replicator_peer_metrics peers[RAFT_MEMBERS_MAX]; /* in the order of the status */
};

/* A leader's beat: see replicator_get_beats. */
struct replicator_beat {
	uint64_t number; /* increases by 1; begins anew when the member is started */
	uint64_t term;
	uint64_t age_us;    /* since it began */
	bool quorum;	    /* enough voters have answered, this member counted in … */
	uint64_t quorum_us; /* … so long after it began */
	unsigned n_answers; /* in the order of their arrival; this member itself is not among them */
	struct {
		uint64_t id;
		uint64_t after_us; /* since the beat began */
	} answers[RAFT_MEMBERS_MAX];
};

struct replicator;

/* Reads the configuration, opens and recovers member id's data directory (which must exist), binds its peer endpoint.
 * message: REPLICATOR_MESSAGE_MAX bytes; on failure says what is wrong and what to do (lines separated by newlines).
 * Returns 0; REPLICATOR_E_CONFIG, _E_DAMAGED, _E_CLUSTER, _E_LEVEL, _E_DISK_FULL; or negative errno (-EINVAL: the
 * machine lacks a function or its size). The table is copied; its functions and arg must outlive the replicator. */
int replicator_new(uint64_t id, const char *config_path, const struct replicator_machine *machine, void *arg,
		   struct replicator **ret_replicator, char *message) __attribute__((warn_unused_result));

/* Stops: closes sockets, waits for writes under way. Proposals and reads that wait are forgotten without a call. NULL is
 * fine. Returns NULL. */
struct replicator *replicator_free(struct replicator *replicator);

/* Readable (watch it by level, not by edge): call replicator_process. */
int replicator_fd(const struct replicator *replicator);

/* Does all that is due and returns without blocking. 0, or the member must stop now: a negative errno, the disk failed (a
 * failed sync is never retried); REPLICATOR_E_REMOVED, it was removed from the cluster; _E_DIVERGED, _E_LEVEL. */
int replicator_process(struct replicator *replicator) __attribute__((warn_unused_result));

struct replicator_command {
	const uint8_t *data; /* copied */
	uint32_t size;	     /* at most RAFT_ENTRY_SIZE_MAX */
};
/* Proposes n commands in this order, all or none. The k-th has ticket first_ticket + k; tickets are the caller's,
 * never 0. Returns 0: every one ends in apply or dropped. Otherwise _E_NOT_LEADER, _E_BUSY, _E_DISK_FULL: nothing
 * was appended; -EINVAL: a command is too large; -ENOMEM. */
int replicator_propose(struct replicator *replicator, const struct replicator_command *commands, uint32_t n,
		       uint64_t first_ticket) __attribute__((warn_unused_result));

/* Asks for a linearizable read: ends in readable or unreadable. Returns 0, _E_NOT_LEADER, _E_NOT_READY or -ENOMEM. */
int replicator_read(struct replicator *replicator, uint64_t ticket) __attribute__((warn_unused_result));

/* Hands leadership to target (0: the best follower). 0: begun; the status shows the outcome. _E_NOT_LEADER, _E_TARGET, _E_BUSY. */
int replicator_transfer(struct replicator *replicator, uint64_t target) __attribute__((warn_unused_result));

/* Changes the membership by one member (dissertation, section 4.1). 0 and *ret_index: the change is appended at this index; it is done
 * when replicator_get_membership shows that index or a later one as committed, and undone if it shows neither it nor a later
 * one. _E_NOT_LEADER, _E_NOT_READY, _E_PENDING, _E_MEMBERSHIP, _E_STALE, _E_DISK_FULL; -EINVAL: an endpoint is malformed. */
int replicator_change(struct replicator *replicator, const struct replicator_change *change, uint64_t *ret_index)
	__attribute__((warn_unused_result));
void replicator_get_membership(const struct replicator *replicator, struct replicator_membership *ret_membership);

/* Founds the cluster although not every configured member was heard: this member becomes its first voter, the others join when
 * they come. Only for a member with a blank directory, and only once and on one member of a cluster: two foundings are
 * two clusters. 0; _E_MEMBERSHIP: this member belongs to a cluster already. */
int replicator_bootstrap(struct replicator *replicator) __attribute__((warn_unused_result));

/* From now on, instead of snapshot_log_size and snapshot_log_percent of the configuration. */
void replicator_set_snapshot_limits(struct replicator *replicator, uint64_t log_bytes, uint32_t log_percent);

/* Takes a snapshot now, whatever the size of the log. 0: begun, or one is being taken; _E_DISK_FULL. */
int replicator_snapshot(struct replicator *replicator) __attribute__((warn_unused_result));

/* size: sizeof *ret_status where the program was compiled; more than the library knows of is zeroed. */
void replicator_get_status(const struct replicator *replicator, struct replicator_status *ret_status, size_t size);
/* The beats of this member as leader, for people that watch: those with a number larger than `after`, oldest first, at most
 * max, as far as they are kept (64). A beat begins with the first message that is sent to another member a heartbeat's
 * time or more after the one before began; so an idle leader's beats are its rounds of heartbeats. A member's first message
 * of acknowledgement counts for the beat under way when it arrives. Returns their number. */
unsigned replicator_get_beats(const struct replicator *replicator, uint64_t after, struct replicator_beat *ret_beats,
			      unsigned max);
void replicator_get_metrics(const struct replicator *replicator, struct replicator_metrics *ret_metrics, size_t size);

/* Reads entries of the log from first_index on. Data stay valid until the next call. 0 and *ret_n (0 beyond the end), or a
 * negative errno. */
int replicator_read_log(struct replicator *replicator, uint64_t first_index, struct raft_entry *ret_entries,
			uint32_t max_entries, uint64_t bytes_max, uint32_t *ret_n) __attribute__((warn_unused_result));

/* Age in microseconds of the oldest disk write under way: a watchdog must not be fed when it is too old. */
uint64_t replicator_oldest_write_age_us(const struct replicator *replicator);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
