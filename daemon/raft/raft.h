/*
 * The consensus core: Raft as a pure function of its inputs.
 *
 *     raft_step(core, event, &update)
 *
 * An event carries the time and one thing that happened: a message arrived, commands were proposed, a read
 * was asked for, something became durable, the deadline was reached.  The update says what to write, what
 * to send, how far the log is committed, which reads may be answered, and when to call again at the latest.
 *
 * What the core must not know: clocks, disks, sockets, threads, logging, and the bytes of an entry.  It
 * keeps of each entry only the term and the size, so its memory is a few bytes an entry.  Randomness comes
 * from the seed in raft_options.  It never calls back.
 *
 * The obligations of the caller (daemon/replicator is the only one), in this order, for every update:
 *   1. If update.write is set, queue it for the disk: hard state, truncation and new entries as ONE atomic
 *      unit, in order with all earlier ones.  When it is durable, hand RAFT_EVENT_PERSISTED with its
 *      write.seq (a later seq covers all earlier ones).
 *   2. Send update.messages.  They rest on nothing that is not durable yet: the core holds back every vote,
 *      acknowledgement and new term until RAFT_EVENT_PERSISTED (dissertation, section 3.8).
 *   3. Apply entries up to update.commit.  The caller tracks its own applied index.
 *   4. Answer reads: those in update.reads_ready once the applied index reaches their read index; those in
 *      reads_failed with an error.
 *   5. Call again with RAFT_EVENT_TICK at update.deadline_us at the latest.
 *
 * All pointers in an update belong to the core and are valid until the next raft_step.
 * A core is not thread safe; any one thread at a time may use it.
 *
 * Terms: "paper" is Ongaro & Ousterhout, "In Search of an Understandable Consensus Algorithm (Extended
 * Version)"; "dissertation" is Ongaro's, 2014.
 */
#ifndef RAFT_KV_RAFT_H
#define RAFT_KV_RAFT_H

#include "../entry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAFT_NO_MEMBER 0u /* no leader known, vote for nobody; member ids start at 1 */

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER, RAFT_LEARNER };

/* Positive results of raft_step: documented outcomes that the caller handles.  The core is unchanged. */
enum raft_result {
	RAFT_OK = 0,
	RAFT_E_NOT_LEADER = 1,	   /* proposal, read or transfer: this member does not lead; nothing happened */
	RAFT_E_BUSY = 2,	   /* proposal: too much is unacknowledged, or a transfer is under way; not appended */
	RAFT_E_UNKNOWN_MEMBER = 3, /* transfer: the target is not a voter of this cluster, or is this member */
	RAFT_E_INVALID = 4,	   /* message: from a stranger or with impossible contents; dropped */
	RAFT_E_NOT_READY = 5,	   /* read: the leader has not yet committed an entry of its term (paper, section 8) */
};
const char *raft_result_name(int result);
const char *raft_role_name(enum raft_role role);

/* The membership: a value, not a constant.  ids are unique, none is 0. */
struct raft_config {
	unsigned n_members;
	struct raft_config_member {
		uint64_t id;
		bool voter; /* false: a learner, which receives the log and never votes */
	} members[RAFT_MEMBERS_MAX];
};

/* Term and vote: what must survive a crash before anybody hears of it (paper, figure 2: persistent state). */
struct raft_hard_state {
	uint64_t term;
	uint64_t vote; /* the candidate voted for in this term, or RAFT_NO_MEMBER */
};

struct raft_options {
	uint64_t id;
	uint64_t seed;			  /* for election timeouts; differ per member and start */
	uint64_t heartbeat_us;		  /* a leader's silence lasts at most this long */
	uint64_t election_timeout_min_us; /* > heartbeat_us; also the window of leader stickiness */
	uint64_t election_timeout_max_us; /* > election_timeout_min_us */
	uint32_t batch_bytes_max;	  /* entries in one message, in bytes; one entry always fits */
	uint32_t window_bytes_max;	  /* unacknowledged entries on their way to one follower */
	uint64_t uncommitted_bytes_max;	  /* a leader's entries that are not committed yet: above, RAFT_E_BUSY */
};

/* What recovery found.  The log begins after base_index, whose term is base_term (both 0 for a new log). */
struct raft_recovered {
	struct raft_hard_state hard_state;
	struct raft_config config;
	uint64_t base_index;
	uint64_t base_term;
	uint64_t commit; /* known to be committed when it was written: base_index <= commit <= last; a hint */
};

/* Messages -------------------------------------------------------------------------------------------- */

enum raft_message_type {
	RAFT_MESSAGE_VOTE_REQUEST = 1,
	RAFT_MESSAGE_VOTE_REPLY = 2,
	RAFT_MESSAGE_APPEND = 3, /* AppendEntries, with or without entries; without, it is the heartbeat */
	RAFT_MESSAGE_APPEND_REPLY = 4,
	RAFT_MESSAGE_TIMEOUT_NOW = 5, /* leadership transfer: campaign at once (dissertation, section 3.10) */
};

struct raft_message {
	enum raft_message_type type;
	uint64_t from;
	uint64_t to;
	uint64_t term; /* the sender's term; for a pre-vote request the term it would campaign in */
	union {
		struct {
			uint64_t last_index;
			uint64_t last_term;
			bool pre_vote; /* dissertation, section 9.6: changes nothing at the receiver */
			bool transfer; /* asked for by the leader: not refused for leader stickiness */
		} vote_request;
		struct {
			bool granted;
			bool pre_vote;
			uint64_t request_term; /* the term of the request that this answers */
		} vote_reply;
		struct {
			uint64_t prev_index;
			uint64_t prev_term;
			uint64_t commit;
			uint64_t round;	    /* ReadIndex and CheckQuorum round, never reused within a term */
			uint32_t n_entries; /* entries prev_index + 1 .. prev_index + n_entries */
			/* In an event: the entries, owned by the caller.  In an update: NULL; the caller takes
			 * them from its log, where they are still unchanged. */
			const struct raft_entry *entries;
		} append;
		struct {
			bool rejected;
			uint64_t match; /* accepted: durable at the follower and verified against the leader's log */
			uint64_t round; /* highest round seen from this leader */
			uint64_t prev_index;	 /* rejected: the prev_index of the request that this answers */
			uint64_t conflict_index; /* rejected: where the leader should look next … */
			uint64_t conflict_term;	 /* … and the follower's term there, 0 if its log is shorter */
		} append_reply;
	};
};

/* Events ---------------------------------------------------------------------------------------------- */

enum raft_event_type {
	RAFT_EVENT_TICK, /* the deadline was reached (calling early does no harm) */
	RAFT_EVENT_MESSAGE,
	RAFT_EVENT_PROPOSE,	 /* append commands; update.first_index is the index of the first */
	RAFT_EVENT_READ,	 /* a batch of linearizable reads (dissertation, section 6.4) */
	RAFT_EVENT_PERSISTED,	 /* all writes up to seq are durable */
	RAFT_EVENT_TRANSFER,	 /* hand leadership over to target, or to the best follower if 0 */
	RAFT_EVENT_PEER_DOWN,	 /* the connection to peer closed: a hint, never a proof, that its process died */
	RAFT_EVENT_DISK_STALLED, /* this member's oldest write is overdue: a leader must fall silent */
};

struct raft_event {
	enum raft_event_type type;
	uint64_t now_us; /* monotonic clock; never runs backwards between two steps */
	union {
		const struct raft_message *message;
		struct {
			const uint32_t *sizes; /* bytes of each entry's data */
			uint32_t n_entries;    /* at least 1 */
		} propose;
		uint64_t read_id; /* chosen by the caller, unique, increasing */
		uint64_t persisted_seq;
		uint64_t transfer_target;
		uint64_t peer;
	};
};

/* Updates --------------------------------------------------------------------------------------------- */

struct raft_read {
	uint64_t read_id;
	uint64_t read_index; /* answer once the applied index is at least this */
};

/* What happened, for the journal; the core itself never logs. */
enum raft_trace_type {
	RAFT_TRACE_TERM,	  /* a higher term was seen: a = new term, b = the member it came from */
	RAFT_TRACE_PRE_CANDIDATE, /* asks whether it could win: a = the term it would campaign in */
	RAFT_TRACE_CANDIDATE,	  /* campaigns: a = term */
	RAFT_TRACE_LEADER,	  /* was elected: a = term */
	RAFT_TRACE_FOLLOWER,	  /* follows a leader it did not follow before: a = term, b = leader */
	RAFT_TRACE_STEP_DOWN, /* led and no longer does: a = the term it led in, b = new term (equal: no quorum answered) */
	RAFT_TRACE_VOTE_GRANTED,     /* a = term, b = candidate */
	RAFT_TRACE_VOTE_REFUSED,     /* a = term, b = candidate */
	RAFT_TRACE_TRUNCATE,	     /* conflicting suffix removed: a = first removed index, b = last removed */
	RAFT_TRACE_TRANSFER,	     /* hands leadership over: a = term, b = target */
	RAFT_TRACE_TRANSFER_ABORTED, /* a = term, b = target */
};

struct raft_trace {
	enum raft_trace_type type;
	uint64_t a;
	uint64_t b;
};

#define RAFT_TRACES_MAX 16u

struct raft_update {
	struct {
		bool needed;			   /* there is something to write */
		uint64_t seq;			   /* increases by 1 with each needed write */
		struct raft_hard_state hard_state; /* always the current one */
		uint64_t truncate_from;		   /* remove entries from this index on, before appending; 0: none */
		uint64_t first_index;		   /* append entries first_index .. last_index; 0: none */
		uint64_t last_index;
		uint64_t term; /* of the appended entries when they are the leader's own */
		uint32_t skip; /* from a message: its first `skip` entries were here already */
		bool noop;     /* the one appended entry is the no-op of a new leader's term; otherwise the
					  * entries are those of the event (proposal or message) */
	} write;

	uint64_t first_index; /* RAFT_EVENT_PROPOSE: the index given to the first command */

	const struct raft_message *messages;
	size_t n_messages;

	uint64_t commit; /* current commit index; never decreases */

	const struct raft_read *reads_ready; /* a quorum confirmed leadership after these were asked */
	size_t n_reads_ready;
	const uint64_t *reads_failed; /* leadership ended first */
	size_t n_reads_failed;

	uint64_t deadline_us; /* call again then, or earlier if something happens; UINT64_MAX: nothing is due */

	struct raft_trace traces[RAFT_TRACES_MAX]; /* the oldest ones when there are more */
	size_t n_traces;
};

/* The core -------------------------------------------------------------------------------------------- */

struct raft;

/* Returns NULL when memory is short.  The core begins as a follower of nobody at now_us; entries recovered
 * from the log follow through raft_recover_entries before the first step.  Free with raft_free.
 * A member whose id is not in the configuration follows and never campaigns. */
struct raft *raft_new(const struct raft_options *options, const struct raft_recovered *recovered, uint64_t now_us);
struct raft *raft_free(struct raft *core); /* NULL is fine; returns NULL */

/* Tells the core of n consecutive recovered entries of one term, the next after those it knows; all of them
 * are durable.  sizes: bytes of data of each.  Returns 0, or -ENOMEM. */
int raft_recover_entries(struct raft *core, uint64_t term, const uint32_t *sizes, uint32_t n);

/* Ends recovery: checks that commit and hard state fit the log, and draws the first election timeout. */
void raft_start(struct raft *core, uint64_t now_us);

/* One step.  Fills *update completely whatever the result.  Returns RAFT_OK, one of enum raft_result (see
 * there; the core did not change), or -ENOMEM (the core did not change). */
int raft_step(struct raft *core, const struct raft_event *event, struct raft_update *update)
	__attribute__((warn_unused_result));

/* The log may forget entries up to index (committed, in a durable snapshot). */
void raft_compact(struct raft *core, uint64_t index);

/* What the core knows, for status and tests. */
struct raft_progress {
	uint64_t id;
	bool voter;
	uint64_t match;		  /* leader only */
	uint64_t next;		  /* leader only */
	uint64_t inflight_bytes;  /* leader only */
	uint64_t last_contact_us; /* when this member was last heard */
	bool probing;
};
struct raft_status {
	uint64_t id;
	enum raft_role role;
	uint64_t leader; /* or RAFT_NO_MEMBER */
	struct raft_hard_state hard_state;
	uint64_t base_index;
	uint64_t last_index;
	uint64_t durable_index; /* last entry that is known to be on this member's disk */
	uint64_t commit;
	bool transferring;
	bool term_committed; /* leader: the no-op of its term is committed, so reads are possible */
	unsigned n_peers;
	struct raft_progress peers[RAFT_MEMBERS_MAX];
};
void raft_get_status(const struct raft *core, struct raft_status *ret_status);

/* The term of an entry the core knows (base_index .. last_index); 0 otherwise. */
uint64_t raft_term_at(const struct raft *core, uint64_t index);

/* Executable invariants (LogCabin's RaftConsensusInvariants): aborts through raft_assert when one is broken.
 * check_delta compares with a status taken before a step: term, commit and match never go back … */
void raft_check_invariants(const struct raft *core);
void raft_check_delta(const struct raft_status *before, const struct raft_status *after);

#endif
