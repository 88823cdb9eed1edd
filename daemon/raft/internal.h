/*
 * The core's state and the words that its files share. Nothing outside daemon/raft and its tests includes this.
 *
 * One step is: prepare (raft.c: may refuse, reserves memory, changes nothing else), apply (cannot fail),
 * then flush (emits what the new state owes to others, and only if term and vote are durable).
 */
#ifndef RAFT_KV_RAFT_INTERNAL_H
#define RAFT_KV_RAFT_INTERNAL_H

#include "log.h"
#include "raft.h"

#include "../assert.h"

#define RAFT_WRITES_MAX 64u		       /* writes told apart while under way; more are merged */
#define RAFT_APPENDS_PER_STEP 8u	       /* messages with entries to one peer in one step */
#define RAFT_BATCH_ENTRIES_MAX 8192u	       /* entries in one message, below the limit of the wire */
#define RAFT_PEERS_MAX (RAFT_MEMBERS_MAX + 9u) /* members, and others that are answered */
#define RAFT_MESSAGES_PER_PEER (RAFT_APPENDS_PER_STEP + 5u)
#define RAFT_MESSAGES_MAX (RAFT_PEERS_MAX * RAFT_MESSAGES_PER_PEER)
#define RAFT_ROUNDS_KEPT 64u /* whose beginning a leader remembers: an answer to an older one gives no lease */
#define RAFT_NUMBER_MAX (UINT64_MAX / 4) /* terms and indexes from others above this are nonsense */

enum raft_ballot { RAFT_BALLOT_NONE, RAFT_BALLOT_GRANTED, RAFT_BALLOT_REFUSED };

enum raft_peer_kind {
	RAFT_PEER_FREE,	    /* the slot holds nobody */
	RAFT_PEER_STRANGER, /* not in the configuration, but it spoke and is answered (dissertation, section 4.1) */
	RAFT_PEER_LEAVING,  /* this leader removed it: the log goes on to it for a while, so that it learns of that */
	RAFT_PEER_MEMBER,   /* in the configuration in force */
};

/* Another member, as this one sees it. It keeps its slot as long as it is of any interest, so pointers to it survive a
 * change of the configuration. */
struct raft_peer {
	uint64_t id;
	enum raft_peer_kind kind;
	enum raft_member_role member_role; /* of a member */
	uint64_t incarnation;		   /* of a member, as the configuration names it; 0: not known */
	bool voter;			   /* a member that votes */
	uint64_t last_contact_us;	   /* any message */

	/* While this member leads (paper, figure 2: volatile state on leaders). */
	uint64_t match;
	uint64_t next;
	uint64_t match_round; /* newest round when match last grew: who refuses it in a later one has lost it */
	uint64_t losses;      /* how often that was so */
	uint64_t round;	      /* highest round this peer has answered */
	uint64_t last_sent_us;
	uint64_t lease_us;	/* until then it keeps a promise not to vote, by this leader's clock */
	uint64_t last_ack_us;	/* newest answer to an append of this term: what CheckQuorum counts */
	uint64_t probe_prev;	/* prev_index of the probe under way */
	bool probing;		/* next is a guess: one message, then wait for the answer */
	bool probe_outstanding; /* that message was sent */
	bool heartbeat_due;
	bool snapshot;	   /* needs entries that are compacted away: heartbeats only, from the base on */
	uint64_t leave_us; /* leaving: when the log no longer goes to it; UINT64_MAX: its removal is not committed */
	bool caught_up;	   /* a round of catching up was short (dissertation, section 4.2.1) */
	uint64_t round_target; /* … the last index when the round began, 0: none has begun */
	uint64_t round_start_us;

	uint64_t beat; /* the newest beat of this leader that it has answered */

	/* While this member campaigns. */
	enum raft_ballot ballot;
	bool vote_request_due;

	/* Answers that wait for term and vote to be durable. */
	bool stale_reply_due; /* it sent an append of an older term: tell it ours */
	struct {
		bool due;
		bool granted;
		bool pre_vote;
		uint64_t request_term;
	} vote_reply;
};

/* Writes under way: up to which entry each makes this log durable. */
struct raft_writes {
	uint64_t seq;	      /* newest write handed out */
	uint64_t durable_seq; /* newest write known to be durable */
	uint64_t hard_seq;    /* newest write that changed the hard state */
	uint64_t reset_seq;   /* newest write that begins the log anew: nothing is acknowledged before it is durable */
	uint64_t durable_index;
	unsigned head;
	unsigned n;
	struct {
		uint64_t seq;
		uint64_t last_index;
	} ring[RAFT_WRITES_MAX];
};

enum raft_reply_kind { RAFT_REPLY_NONE, RAFT_REPLY_ACCEPT, RAFT_REPLY_REJECT };

/* A follower's dealings with the leader of its term; forgotten with the term. */
struct raft_following {
	uint64_t verified; /* the log up to here equals the leader's */
	uint64_t acked;	   /* match last told to the leader */
	uint64_t round;	   /* highest seen from the leader */
	uint64_t heard_us; /* when the leader's newest append arrived */
	bool sticky;	   /* heard_us still speaks against an election */
	enum raft_reply_kind reply;
	uint64_t reject_prev_index;
	uint64_t reject_conflict_index;
	uint64_t reject_conflict_term;
};

/* Reads that wait: the first n_in_flight for round_wanted, the others for one that has not begun. */
struct raft_reads {
	struct raft_read *pending;
	uint64_t *failed; /* same capacity as pending */
	size_t capacity;
	size_t n_done; /* at the front: handed out by the last step */
	size_t n;      /* including n_done */
	size_t n_in_flight;
	uint64_t round;	       /* newest round started in this leadership */
	uint64_t round_wanted; /* with reads in flight: an answer to this one or a later one will do */
};

/* A leader's claim to be the only one for a while, and a voter's promise that it rests on: lease.c. */
struct raft_lease {
	bool given_up; /* for the rest of this term */
	uint64_t began_us[RAFT_ROUNDS_KEPT];
};
struct raft_promise {
	uint64_t until_us; /* before, this member helps nobody to become leader; outlives terms and roles */
	bool unsettled;	   /* it began when now_us was read last, or later */
};

/* Beats of this member as leader, for whoever watches: beats.c. */
struct raft_beats {
	uint64_t number; /* of the newest, 0: none yet; never reused */
	uint64_t began_us;
	struct raft_beat ring[RAFT_BEATS_KEPT]; /* by number */
};

struct raft_transfer {
	uint64_t target; /* RAFT_NO_MEMBER: none under way */
	uint64_t deadline_us;
	bool told;		  /* TIMEOUT_NOW was sent since the last heartbeat */
	uint64_t timeout_now_due; /* send it in this step, whatever the role: a leader with a stalled disk */
};

/* The configurations that the log knows, oldest first: the one as of the base, if there is one, and all after it. The
 * newest is in force from the moment it is appended, and the one before returns when it is truncated. */
struct raft_configs {
	struct raft_config_record {
		uint64_t index; /* of the entry that holds it; 0: no entry does */
		struct raft_config config;
	} * records;
	size_t n;
	size_t capacity;
};

struct raft {
	struct raft_options options;
	struct raft_configs configs;
	bool started;
	/* Of the configuration in force. */
	bool self_member; /* this member, under its incarnation, is in it */
	bool self_voter;  /* … as a voter */
	unsigned n_voters;
	bool was_member; /* a committed configuration named this directory once */
	bool was_named;	 /* one named its id, and no incarnation */
	bool removed;
	uint64_t random;
	uint64_t now_us;
	bool no_room; /* of the event under way */

	enum raft_role role;
	struct raft_hard_state hard;
	uint64_t leader;
	uint64_t commit;
	uint64_t commit_hint; /* recovered */
	struct raft_log log;
	struct raft_writes writes;

	uint64_t election_deadline_us;
	bool own_vote;		/* candidate: the vote for itself is durable and counted */
	bool campaign_transfer; /* candidate: the leader asked for it */
	bool disk_stalled;
	uint64_t term_start; /* leader: index of the no-op of its term */

	struct raft_following following;
	struct raft_reads reads;
	struct raft_lease lease;
	struct raft_promise promise;
	struct raft_transfer transfer;
	struct raft_beats beats;
	unsigned n_peers; /* slots in use, free ones among them */
	struct raft_peer peers[RAFT_PEERS_MAX];

	struct raft_update *out; /* during a step only */
	bool hard_dirty;	 /* this step changed term or vote */
	size_t n_messages;
	struct raft_message messages[RAFT_MESSAGES_MAX];
	uint64_t snapshots[RAFT_MEMBERS_MAX]; /* for the update */
	uint8_t config_bytes[RAFT_CONFIG_SIZE_MAX];
};

/* raft.c */
void raft_trace(struct raft *core, enum raft_trace_type type, uint64_t a, uint64_t b);
struct raft_peer *raft_find_peer(struct raft *core, uint64_t id);
const struct raft_peer *raft_find_peer_const(const struct raft *core, uint64_t id);
unsigned raft_quorum(const struct raft *core);
uint64_t raft_random_below(struct raft *core, uint64_t n);
struct raft_message *raft_emit(struct raft *core, enum raft_message_type type, uint64_t to, uint64_t term);

/* The highest value that a quorum of voters has reached; self counts if it is a voter. */
uint64_t raft_quorum_value(const struct raft *core, uint64_t self, uint64_t (*get)(const struct raft_peer *peer));

/* check.c */
int raft_check_message(const struct raft *core, const struct raft_message *message) __attribute__((warn_unused_result));
uint32_t raft_count_known(const struct raft_log *log, const struct raft_message *message);

/* persist.c */
bool raft_hard_durable(const struct raft *core);
void raft_set_hard_state(struct raft *core, uint64_t term, uint64_t vote);
void raft_write_entries(struct raft *core, uint64_t first_index, uint64_t last_index);
void raft_write_truncate(struct raft *core, uint64_t from);
void raft_write_reset(struct raft *core, uint64_t index, uint64_t term);
void raft_writes_resume_reset(struct raft_writes *writes, uint64_t index);
void raft_write_finish(struct raft *core);
void raft_on_persisted(struct raft *core, uint64_t seq);

/* election.c */
void raft_reset_election_timer(struct raft *core);
void raft_become_follower(struct raft *core, uint64_t term);
void raft_follow(struct raft *core, uint64_t leader);
void raft_campaign(struct raft *core, bool transfer);
bool raft_is_sticky(const struct raft *core);
bool raft_adopts_term(const struct raft *core, const struct raft_message *message);
void raft_on_election_timeout(struct raft *core);
void raft_on_vote_request(struct raft *core, struct raft_peer *peer, const struct raft_message *message);
void raft_on_vote_reply(struct raft *core, struct raft_peer *peer, const struct raft_message *message);
void raft_on_own_vote_durable(struct raft *core);
void raft_flush_votes(struct raft *core, struct raft_peer *peer);

/* leader.c */
void raft_lead(struct raft *core, unsigned n_votes);
void raft_reset_progress(struct raft *core, struct raft_peer *peer, uint64_t next);
void raft_append_own(struct raft *core, const uint32_t *sizes, uint32_t n);
void raft_propose(struct raft *core, const uint32_t *sizes, uint32_t n);
void raft_on_append_reply(struct raft *core, struct raft_peer *peer, const struct raft_message *message);
void raft_leader_tick(struct raft *core);
uint64_t raft_leader_deadline(const struct raft *core);
void raft_advance_commit(struct raft *core);
void raft_flush_leader(struct raft *core);
uint64_t raft_peer_inflight(const struct raft *core, const struct raft_peer *peer);

/* beats.c */
void raft_beats_on_send(struct raft *core);
void raft_beats_on_reply(struct raft *core, struct raft_peer *peer);

/* configs.c */
int raft_configs_reserve(struct raft_configs *configs, size_t n) __attribute__((warn_unused_result));
void raft_configs_push(struct raft_configs *configs, uint64_t index, const struct raft_config *config);
bool raft_configs_truncate(struct raft_configs *configs, uint64_t from);
void raft_configs_compact(struct raft_configs *configs, uint64_t index);
void raft_configs_reset(struct raft_configs *configs, uint64_t index, const struct raft_config *config);
const struct raft_config_record *raft_configs_at(const struct raft_configs *configs, uint64_t index);
const struct raft_config_record *raft_configs_latest(const struct raft_configs *configs);
unsigned raft_level(const struct raft *core);

/* membership.c */
bool raft_peer_replicates(const struct raft_peer *peer);
bool raft_may_campaign(const struct raft *core);
bool raft_may_vote(const struct raft *core);
bool raft_leads_alone(const struct raft *core);
bool raft_config_pending(const struct raft *core);
struct raft_peer *raft_add_stranger(struct raft *core, uint64_t id);
void raft_adopt_config(struct raft *core);
void raft_mark_leaving(struct raft *core);
void raft_forget_leaving(struct raft *core);
void raft_settle_membership(struct raft *core);

/* change.c */
int raft_change_check(const struct raft *core, const struct raft_config *config, uint64_t previous_index)
	__attribute__((warn_unused_result));
void raft_change(struct raft *core, const struct raft_config *config);
int raft_bootstrap_check(const struct raft *core, const struct raft_config *config) __attribute__((warn_unused_result));
void raft_bootstrap(struct raft *core, const struct raft_config *config);
void raft_track_catch_up(struct raft *core, struct raft_peer *peer);
void raft_promote(struct raft *core);

/* snapshot.c */
void raft_on_snapshot(struct raft *core, const struct raft_event *event);
void raft_need_snapshot(struct raft *core, struct raft_peer *peer);
void raft_list_snapshots(struct raft *core);

/* follower.c */
void raft_on_append(struct raft *core, struct raft_peer *peer, const struct raft_message *message);
void raft_follower_persisted(struct raft *core);
void raft_flush_follower(struct raft *core);

/* read.c */
int raft_reads_reserve(struct raft *core) __attribute__((warn_unused_result));
void raft_reads_begin_step(struct raft *core);
void raft_on_read(struct raft *core, uint64_t read_id);
void raft_reads_advance(struct raft *core);
void raft_reads_fail(struct raft *core);

/* lease.c; raft_settle_promise is in raft.h */
void raft_promise_recover(struct raft *core);
bool raft_promise_holds(const struct raft *core);
void raft_promise_renew(struct raft *core);
uint64_t raft_promise_told_us(const struct raft *core);
void raft_lease_begin_term(struct raft *core);
void raft_begin_round(struct raft *core);
uint64_t raft_lease_deadline(const struct raft *core);
void raft_lease_on_reply(struct raft *core, struct raft_peer *peer, const struct raft_message *message);
void raft_lease_give_up(struct raft *core);
uint64_t raft_lease_until(const struct raft *core);

/* transfer.c */
int raft_transfer_check(const struct raft *core, uint64_t target) __attribute__((warn_unused_result));
void raft_transfer_start(struct raft *core, uint64_t target);
void raft_transfer_abort(struct raft *core);
void raft_hand_over_at_once(struct raft *core);
void raft_flush_transfer(struct raft *core);
void raft_on_timeout_now(struct raft *core, const struct raft_message *message);
void raft_on_peer_down(struct raft *core, uint64_t id);
void raft_on_disk_stalled(struct raft *core);

#endif
