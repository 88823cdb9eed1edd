/*
 * The consensus core: Raft as a pure function of its inputs.
 *
 *     raft_step(core, event, &update)
 *
 * An event carries the time and one thing that happened: a message arrived, commands were proposed, a read
 * was asked for, something became durable, the deadline was reached.  The update says what to write, what
 * to send, how far the log is committed, which reads may be answered, and when to call again at the latest.
 *
 * What the core must not know: clocks, disks, sockets, threads, logging, and the bytes of an entry, those of a
 * configuration (config_codec.h) excepted.  It keeps of each other entry only the term and the size, so its
 * memory is a few bytes an entry.  Randomness comes from the seed in raft_options.  It never calls back.
 *
 * The obligations of the caller (daemon/replicator is the only one), in this order, for every update:
 *   1. If update.write is set, queue it for the disk: hard state, truncation (or reset) and new entries as ONE
 *      atomic unit, in order with all earlier ones.  When it is durable, hand RAFT_EVENT_PERSISTED with its
 *      write.seq (a later seq covers all earlier ones).
 *   2. Send update.messages.  They rest on nothing that is not durable yet: the core holds back every vote,
 *      acknowledgement and new term until RAFT_EVENT_PERSISTED (dissertation, section 3.8).
 *   3. Apply entries up to update.commit.  The caller tracks its own applied index.
 *   4. Answer reads: those in update.reads_ready once the applied index reaches their read index; those in
 *      reads_failed with an error.
 *   5. Call again with RAFT_EVENT_TICK at update.deadline_us at the latest.
 *   6. Hand in no REPLY (RAFT_MESSAGE_VOTE_REPLY, RAFT_MESSAGE_APPEND_REPLY) of a member under another
 *      incarnation than the one that the configuration in force names for it (raft_config_at; 0 there: any): the
 *      promise is that of a data directory that is gone, or of one that is no voter yet.  Requests are handed in
 *      whatever the incarnation: this member's configuration may be older than that of the leader who sent them,
 *      and by them it learns the newer one.
 *
 * A full disk: which events may need a write, and how large a one, raft_write_need tells before the step; an event whose
 * write has no room is not handed in: a message counts as lost, anything else comes later.
 *
 * All pointers in an update belong to the core and are valid until the next raft_step.
 * A core is not thread safe; any one thread at a time may use it.
 *
 * Terms: "paper" is Ongaro & Ousterhout, "In Search of an Understandable Consensus Algorithm (Extended
 * Version)"; "dissertation" is Ongaro's, 2014.
 */
#ifndef RAFT_KV_RAFT_H
#define RAFT_KV_RAFT_H

#include "config_codec.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAFT_NO_MEMBER 0u /* no leader known, vote for nobody; member ids start at 1 */

/* What a member does.  RAFT_LEARNER is every member that may not campaign: learners, blank and removed members,
 * and one whose id stands in the configuration under another incarnation. */
enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER, RAFT_LEARNER };

/* Positive results of raft_step: documented outcomes that the caller handles.  The core is unchanged. */
enum raft_result {
	RAFT_OK = 0,
	RAFT_E_NOT_LEADER = 1, /* proposal, configuration, read or transfer: this member does not lead */
	RAFT_E_BUSY = 2, /* proposal: too much is unacknowledged; proposal, configuration: a transfer is under way */
	RAFT_E_UNKNOWN_MEMBER = 3, /* transfer: the target is not a voter of this cluster, or is this member */
	RAFT_E_INVALID = 4,	   /* message: from a stranger or with impossible contents; dropped */
	RAFT_E_NOT_READY = 5,	   /* read, configuration: the leader has not yet committed an entry of its term (paper,
				    * section 8); configuration: the new voter has not caught up; again later */
	RAFT_E_CONFIG_PENDING = 6, /* configuration: the one before is not committed yet; again later */
	RAFT_E_CONFIG_INVALID = 7, /* configuration: raft_config_problem or raft_config_step_problem says why; or it
				    * names another incarnation for the leader; bootstrap: not this member as only voter */
	RAFT_E_STALE = 8,	   /* configuration: made from one that is not in force any more; snapshot: it holds
				    * nothing beyond what is committed here, or this member leads */
	RAFT_E_NO_QUORUM = 9,  /* configuration: too few of its voters answer this leader: it would not be committed */
	RAFT_E_NOT_BLANK = 10, /* bootstrap: this member knows a configuration, a term or an entry */
};
const char *raft_role_name(enum raft_role role);

/* Term and vote: what must survive a crash before anybody hears of it (paper, figure 2: persistent state). */
struct raft_hard_state {
	uint64_t term;
	uint64_t vote; /* the candidate voted for in this term, or RAFT_NO_MEMBER */
};

struct raft_options {
	uint64_t id;
	uint64_t incarnation;  /* of this member's data directory; 0: unknown, every configuration's is right */
	uint64_t seed;	       /* for election timeouts; differ per member and start */
	uint64_t heartbeat_us; /* a leader's silence lasts at most this long */
	uint64_t election_timeout_min_us; /* > heartbeat_us; also the window of leader stickiness */
	uint64_t election_timeout_max_us; /* > election_timeout_min_us */
	uint32_t batch_bytes_max;	  /* entries in one message, in bytes; one entry always fits */
	uint32_t window_bytes_max;	  /* unacknowledged entries on their way to one follower */
	uint64_t uncommitted_bytes_max;	  /* a leader's entries that are not committed yet, or not durable with it:
					   * above, RAFT_E_BUSY */

	/* Leases (lease.c). Members may differ in all of these: a leader relies on what each voter has promised it. */
	bool lease; /* as leader, answer reads without a round while enough promises last; needs promise_us */
	uint64_t
		promise_us; /* with each acknowledgement, by this member's clock: to help nobody to become leader for so
				   * long; at most election_timeout_min_us, 0: no promise */
	uint64_t promised_us;	  /* the longest that this data directory may have promised before this start */
	uint32_t clock_drift_ppm; /* this member's clock runs faster or slower by at most so much */
};
#define RAFT_CLOCK_DRIFT_PPM_MAX 500000u
#define RAFT_LEVEL_LEASES 2u /* the first feature level whose programs keep promises over a restart */

/* What recovery found.  The log begins after base_index, whose term is base_term (both 0 for a new log). */
struct raft_recovered {
	struct raft_hard_state hard_state;
	struct raft_config config; /* in force at base_index: the snapshot's.  n_members 0: none, a blank member.  A
				    * cluster whose configuration never changes may hand it in here at each start */
	uint64_t config_index;	   /* of the entry that held it, at most base_index; 0: no entry did */
	uint64_t base_index;
	uint64_t base_term;
	uint64_t commit; /* known to be committed when it was written: base_index <= commit <= last; a hint */
	/* The log on the disk does not lead to base_index yet: the write that lets it begin anew there, with this hard state, is
	 * queued.  It counts as the core's first, seq 1; until that is durable nothing is said that rests on it. */
	bool resetting;
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
			/* Accepted: for so long, counted from when an append of that round arrived, the follower helps
			 * nobody to become leader whom the leader did not ask to; 0: no promise. */
			uint64_t promise_us;
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
	RAFT_EVENT_CONFIG,	 /* change the configuration; update.first_index is its index.  In force at once, done
			    * when committed.  The leader may also change it by itself: it promotes who joins */
	RAFT_EVENT_BOOTSTRAP,	 /* this blank member founds the cluster: entry 1 of term 1, together with its own vote.
			       * At most one member of a cluster, ever: that is the caller's promise */
	RAFT_EVENT_SNAPSHOT_INSTALLED, /* a snapshot of somebody else is verified and durable here.  RAFT_OK: it is
					* committed; if update.write.reset_index is set, the log begins behind it, and the
					* state machine must have it; otherwise the log still has all of its entries as well */
};

struct raft_event {
	enum raft_event_type type;
	/* Monotonic clock that goes on while the machine sleeps; never runs backwards between two steps. Events may share a
	 * reading; that of a RAFT_EVENT_READ was made after the read had arrived. */
	uint64_t now_us;
	bool no_room; /* there is no room on the disk: the core appends nothing that can wait (it promotes nobody) */
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
		struct {
			const struct raft_config *config;
			uint64_t
				previous_index; /* raft_status.config_index of the configuration that it was made from */
		} config;
		const struct raft_config *bootstrap; /* this member the only voter, nobody else one */
		struct {
			uint64_t index; /* last entry that it holds … */
			uint64_t term;	/* … and its term */
			/* The term in which the leader said that it is committed; 0: unknown, then the next append
			 * acknowledges it. */
			uint64_t leader_term;
			const struct raft_config *config; /* in force at index … */
			uint64_t config_index;		  /* … and which entry held it; 0: none */
		} snapshot;
	};
};

/* Updates --------------------------------------------------------------------------------------------- */

struct raft_read {
	uint64_t read_id;
	uint64_t read_index; /* answer once the applied index is at least this */
	bool leased;	     /* no round was needed */
};

/* What happened, for the journal; the core itself never logs. */
enum raft_trace_type {
	RAFT_TRACE_TERM,	  /* a higher term was seen: a = new term, b = the member it came from */
	RAFT_TRACE_PRE_CANDIDATE, /* asks whether it could win: a = the term it would campaign in */
	RAFT_TRACE_CANDIDATE,	  /* campaigns: a = term */
	RAFT_TRACE_LEADER,	  /* was elected: a = term, b = votes, its own among them */
	RAFT_TRACE_FOLLOWER,	  /* follows a leader it did not follow before: a = term, b = leader */
	RAFT_TRACE_STEP_DOWN, /* led and no longer does: a = the term it led in, b = new term (equal: no quorum answered,
			       * its disk hangs, or a committed configuration took its vote away) */
	RAFT_TRACE_VOTE_GRANTED,     /* a = term, b = candidate */
	RAFT_TRACE_VOTE_REFUSED,     /* a = term, b = candidate */
	RAFT_TRACE_TRUNCATE,	     /* conflicting suffix removed: a = first removed index, b = last removed */
	RAFT_TRACE_TRANSFER,	     /* hands leadership over: a = term, b = target */
	RAFT_TRACE_TRANSFER_ABORTED, /* a = term, b = target */
	RAFT_TRACE_CONFIG,	     /* a configuration came into force: a = its index, b = its number of voters */
	RAFT_TRACE_PROMOTE,	     /* the leader makes a member a voter that has caught up: a = index, b = member */
	RAFT_TRACE_REMOVED,	     /* this member's own removal is committed: a = index of the configuration */
	RAFT_TRACE_SNAPSHOT_NEEDED,  /* a peer needs what the log no longer has: a = peer, b = base index */
	RAFT_TRACE_LOST,	     /* a peer no longer holds what it had acknowledged: a = the index, b = peer */
	RAFT_TRACE_RESET,	     /* the log begins anew after a snapshot: a = its index, b = its term */
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
		/* Not 0: remove all entries; the log begins anew after this index and term, which a durable snapshot
		 * holds.  Never together with truncation or entries. */
		uint64_t reset_index;
		uint64_t reset_term;
		uint64_t first_index; /* append entries first_index .. last_index; 0: none */
		uint64_t last_index;
		uint64_t term;	       /* of the appended entries when they are the leader's own */
		uint32_t skip;	       /* from a message: its first `skip` entries were here already */
		bool noop;	       /* the one appended entry is the no-op of a new leader's term … */
		const uint8_t *config; /* … or, not NULL, a configuration: type RAFT_ENTRY_CONFIG with this data;
					* otherwise the entries are those of the event (proposal or message) */
		uint32_t config_size;
	} write;

	uint64_t first_index; /* RAFT_EVENT_PROPOSE, RAFT_EVENT_CONFIG: the index given to the first entry */

	const struct raft_message *messages;
	size_t n_messages;

	uint64_t commit; /* current commit index; never decreases */

	const struct raft_read *reads_ready; /* a quorum confirmed leadership after these were asked */
	size_t n_reads_ready;
	const uint64_t *reads_failed; /* leadership ended first */
	size_t n_reads_failed;

	/* Leader: members that need a snapshot, as long as they do.  Its index must be at least base_index. */
	const uint64_t *snapshots;
	size_t n_snapshots;

	bool removed;	/* as raft_status.removed */
	unsigned level; /* as raft_status.level */

	uint64_t deadline_us; /* call again then, or earlier if something happens; UINT64_MAX: nothing is due */

	struct raft_trace traces[RAFT_TRACES_MAX]; /* the oldest ones when there are more */
	size_t n_traces;
};

/* The core -------------------------------------------------------------------------------------------- */

struct raft;

/* Returns NULL when memory is short.  The core begins as a follower of nobody at now_us; entries recovered
 * from the log follow through raft_recover_entries before the first step.  Free with raft_free.
 * A member that is not in the configuration follows whoever leads and never campaigns. */
struct raft *raft_new(const struct raft_options *options, const struct raft_recovered *recovered, uint64_t now_us);
struct raft *raft_free(struct raft *core); /* NULL is fine; returns NULL */

/* Tells the core of n consecutive recovered entries of one term, the next after those it knows; all of them
 * are durable.  sizes: bytes of data of each.  Returns 0, or -ENOMEM. */
int raft_recover_entries(struct raft *core, uint64_t term, const uint32_t *sizes, uint32_t n);

/* Tells the core what the entry at index, told of before by raft_recover_entries, holds: a configuration.  In
 * ascending order, every entry of type RAFT_ENTRY_CONFIG.  Returns 0, -ENOMEM, or RAFT_E_CONFIG_INVALID when it is
 * invalid or must not follow the one before: then the log is damaged. */
int raft_recover_config(struct raft *core, uint64_t index, const struct raft_config *config)
	__attribute__((warn_unused_result));

/* Ends recovery: checks that commit and hard state fit the log, and draws the first election timeout. */
void raft_start(struct raft *core, uint64_t now_us);

/* One step.  Fills *update completely whatever the result.  Returns RAFT_OK, one of enum raft_result (see
 * there; the core did not change), or -ENOMEM (the core did not change). */
int raft_step(struct raft *core, const struct raft_event *event, struct raft_update *update)
	__attribute__((warn_unused_result));

/* The most that a step with this event may have to write if it has no_room set: nothing; term and vote; or those and entries,
 * of the event or one of the core's own. The event need not have been checked. */
struct raft_write_need {
	bool any; /* false: nothing will be written */
	uint32_t n_entries;
	uint64_t data_bytes;
	bool own; /* the entries are the core's own */
};
struct raft_write_need raft_write_need(const struct raft *core, const struct raft_event *event);

/* The clock was read again after the last step. Not needed for safety: a promise given in a step counts from the next time
 * that the core hears of, and without this call that may be long after, which only delays the next election. */
void raft_settle_promise(struct raft *core, uint64_t now_us);

/* This member leads, and until after now_us no other one can have been elected. now_us: not before the last step's. */
bool raft_lease_holds(const struct raft *core, uint64_t now_us);

/* Of a leader. Its appends carry a number from now on that none has carried before in its term, and it is returned: an answer with
 * it, or with a higher one, was given after this call. It hurries nobody: the next heartbeat brings it. */
uint64_t raft_number_appends(struct raft *core);

/* The log may forget entries up to index (committed, durable here, in a durable snapshot).  Peers that still need one
 * of them are listed in the next update. */
void raft_compact(struct raft *core, uint64_t index);

/* The configuration in force as of an index from base_index to the last one, for a snapshot there (and with the last
 * index the newest, with the commit index the committed one), and the index of the entry that holds it, 0 if none does.
 * NULL: none is known.  Valid until the next raft_step or raft_compact. */
const struct raft_config *raft_config_at(const struct raft *core, uint64_t index, uint64_t *ret_config_index);

/* What the core knows, for status and tests. */
struct raft_progress {
	uint64_t id;
	uint64_t incarnation;	    /* as the configuration names it */
	enum raft_member_role role; /* in the configuration */
	bool voter;		    /* role is RAFT_MEMBER_VOTER */
	uint64_t match;		    /* leader only; goes back only with losses */
	uint64_t losses;	    /* leader only: how often it had lost what it had acknowledged */
	uint64_t next;		    /* leader only */
	uint64_t inflight_bytes;    /* leader only */
	uint64_t last_contact_us;   /* when this member was last heard */
	bool probing;		    /* leader only: next is a guess */
	bool snapshot;		    /* leader only: needs a snapshot; gets heartbeats and no entries */
	bool caught_up;		    /* leader only: could be made a voter */
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
	uint64_t uncommitted_bytes; /* leader: of entries that are not committed yet */
	uint64_t beat;		    /* number of its newest beat as leader, 0: none yet */
	bool transferring;
	uint64_t lease_us;     /* leader: until when its lease lasts at least; 0: it has none */
	uint64_t promise_us;   /* until when this member helps nobody to become leader; 0: nothing was promised */
	bool term_committed;   /* leader: the no-op of its term is committed, so reads are possible */
	uint64_t config_index; /* of the entry that holds the configuration in force; 0: none does */
	bool config_pending;   /* it is not known to be committed */
	bool member;	       /* it names this member, under this incarnation */
	bool self_voter;       /* … and as a voter */
	bool removed;	       /* it did once, and a committed configuration no longer does */
	unsigned level;	       /* feature level of the configuration in force; RAFT_LEVEL_MIN without one */
	unsigned n_voters;     /* of the configuration in force */
	unsigned n_peers;      /* the other members of the configuration in force, in its order */
	struct raft_progress peers[RAFT_MEMBERS_MAX]; /* what is behind n_peers is undefined */
};
void raft_get_status(const struct raft *core, struct raft_status *ret_status);
/* The same without the others (n_peers is 0): for who asks in every turn. */
void raft_get_own_status(const struct raft *core, struct raft_status *ret_status);

/* A leader's heart: a beat begins with the first append, with entries or without, that is sent a heartbeat's time or more
 * after the one before began; so an idle leader's beats are its rounds of heartbeats. An answer counts for the beat under way
 * when it arrives, a member's first for each. For people that watch: nothing in the core rests on it. */
#define RAFT_BEATS_KEPT 64u
struct raft_beat {
	uint64_t number; /* increases by 1; not reused in other terms */
	uint64_t term;
	uint64_t began_us;
	bool quorum;	    /* enough voters have answered, this member counted in if it is one … */
	uint64_t quorum_us; /* … so long after it began */
	unsigned n_voters;  /* answers of voters */
	unsigned n_answers; /* in the order of their arrival */
	struct {
		uint64_t id;
		uint64_t after_us; /* since began_us */
	} answers[RAFT_MEMBERS_MAX];
};
/* The oldest beat kept whose number is larger than `after`; NULL: there is none. Valid until the next raft_step. */
const struct raft_beat *raft_next_beat(const struct raft *core, uint64_t after);

/* What raft_step would say now to that RAFT_EVENT_SNAPSHOT_INSTALLED: whoever has to load it first, which takes time, asks before
 * and again afterwards. If it would take it and knows the snapshot's entry by its term (raft_term_at), nothing is to be loaded. */
int raft_snapshot_check(const struct raft *core, const struct raft_event *event) __attribute__((warn_unused_result));

/* The term of an entry the core knows (base_index .. last_index); 0 otherwise. */
uint64_t raft_term_at(const struct raft *core, uint64_t index);

/* Executable invariants (LogCabin's RaftConsensusInvariants): aborts through raft_assert when one is broken.
 * check_delta compares with a status taken before a step: term, commit and match never go back … */
void raft_check_invariants(const struct raft *core);
void raft_check_delta(const struct raft_status *before, const struct raft_status *after);

#endif
