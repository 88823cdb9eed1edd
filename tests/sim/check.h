/*
 * What the checks know of a run: every entry that ever existed, which platters hold it, what is committed, who led.
 *
 *   check_entries.c  the entries of all logs, as one tree; logs as paths in it
 *   check_config.c   configurations: who counts, in which directory, for what
 *   levels.c         feature levels: what programs of different versions are handed
 *   check.c          invariants after every turn of a member
 *   check_commit.c   the commit rule, leader completeness, what was applied
 *   check_state.c    states: of the store after each entry, and as a snapshot brings it
 *   check_forget.c   what can be forgotten in a long run
 *   check_bounds.c   queues, memory, disk
 *   durable.c        what each member's platter really holds: the log
 *   durable_files.c  … its files: which snapshots are good, which segments are there
 *   check_lease.c    promises are kept, leases end before them, and nobody leads while an earlier leader's lasts
 *   check_reads.c    reads: a majority followed since they came, and nothing that was committed by then is missing
 *   check_newest.c   what a member may forget with its newest record
 *   check_progress.c what a member owes to those who ask it, and to the cluster when its disk hangs
 *   check_duties.c   what it owes to a member that is in trouble
 *   check_returns.c  what a leader makes of directories that its configuration does not name
 *   check_offers.c   snapshots that cannot be read where they are offered, or where they were received
 *   check_places.c   connections to all that a configuration names
 *   check_proof.c    an idle log has a record behind its newest entries
 *   check_frame.c    nothing promised before it is durable
 *   sessions.c       no command applied twice; answers compared with model.c, a second store
 *
 * None of this asks the code under test what it believes when it can see for itself: entries come from the log's bytes and
 * from frames, durability from the simulated disk.
 */
#ifndef RAFT_KV_SIM_CHECK_H
#define RAFT_KV_SIM_CHECK_H

#include "model.h"
#include "sim.h"

#include "daemon/assert.h"
#include "daemon/raft/config_codec.h"
#include "daemon/storage/format.h"

/*
 * An entry is its index and term: there is only one of each, and only one log leads to it (log matching). So a log is
 * known by its last entry, and two logs that share an entry share everything before it.
 */
struct sim_entry {
	uint64_t index, term, time_ms;
	uint64_t hash;	   /* of type and data */
	uint64_t bytes;	   /* of this log up to here, as the core counts them */
	uint64_t commands; /* in this log up to here */
	uint32_t before;   /* number of the entry before; 0: the log's beginning */
	uint32_t sibling;  /* another entry with this index; 0: none */
	uint32_t config;   /* number of the configuration in force in a log that ends here; 0: none */
};

/*
 * A log is always all of it, from index 1, whatever a member has compacted away: up to base it is what is committed, then
 * come the entries by number.
 */
struct sim_log {
	uint32_t *entries; /* base + 1 … last */
	uint64_t capacity;
	uint64_t base, last;
};

/* A configuration that some log holds. Bit k stands for member k, whose id is k + 1. */
struct sim_config {
	struct raft_config config;
	uint32_t members, voters;
	uint64_t index;	 /* of the entry that holds it */
	uint64_t term;	 /* … and its term */
	uint32_t before; /* number of the configuration that it follows */
};

#define SIM_SNAPSHOTS_MAX 8u

struct sim_snapshot {
	uint64_t index, term, size;
	bool refused; /* its file is as it was written, and no member can load what is in it */
};

struct sim_segment {
	uint64_t sequence, base;
	uint64_t lowest; /* index that it says anything about; UINT64_MAX: none */
	bool needed;	 /* the log began anew behind all of those that are not */
};

/* A member's platter, decoded: what is synced, and nothing else. */
struct sim_shadow {
	struct sim_log log;
	uint64_t term, vote;
	struct format_identity identity;
	uint64_t sequence;	 /* of the newest segment; 0: there is none */
	uint64_t newest;	 /* in it, where the newest record begins; 0: there is none … */
	uint32_t newest_entries; /* … and how many entries it holds, … */
	bool newest_resets;	 /* … whether the log begins anew with it, … */
	uint64_t newest_us;	 /* … and when it was written; 0: before the member's start */
	uint64_t offset;	 /* … and where the next one will */
	uint64_t flush, checksum;
	struct sim_segment *segments; /* ascending */
	uint64_t n_segments, segments_capacity;
	struct sim_snapshot snapshots[SIM_SNAPSHOTS_MAX]; /* complete ones; ascending */
	unsigned n_snapshots;
	/* What is written in the log does not lead to the newest snapshot: every start begins behind that, and so does log. */
	bool rests_on_snapshot;
	struct sim_log written; /* then: the log as it is written */
	bool shrunk;		/* records that were synced are gone: no member may come back from this */
};

/* A directory that was lost. What it had promised before may still arrive. */
struct sim_former {
	unsigned member;
	uint64_t incarnation, term, vote;
	uint32_t last; /* entry */
};

/* The same of one that was put away. */
struct sim_put_away {
	struct sim_shadow shadow; /* sequence 0: there is none */
	uint64_t sent_term, sent_vote_term, sent_vote;
};

/* What the checks keep of a member. */
struct sim_watch {
	struct sim_log log; /* of the core, in memory */
	struct sim_shadow shadow;
	struct sim_put_away away;
	struct raft_status before;
	uint64_t sent_term; /* highest that anybody was told, in any life */
	uint64_t sent_vote_term, sent_vote;
	uint64_t turns;		   /* of all lives */
	uint64_t applied;	   /* by its store */
	uint64_t applied_commands; /* … that many, those in the snapshot that it began with included */
	uint64_t restored;	   /* the snapshot that its store became in this turn; 0: none */
	uint32_t config;	   /* in force in its log, by number */
	unsigned forgotten;	   /* newest records that rotted and looked like torn ones, of this directory */
	uint64_t
		log_found; /* bytes of log since the newest snapshot when this life began, or when that became another one; 0: there are
			     * less by now */
	uint64_t log_snapshot,
		log_limit; /* the newest one when that was looked at last, and what the log was allowed to be */
	struct {
		uint64_t snapshot, term, turn;
	} log_long; /* it took a write although its log had outgrown its share: the newest snapshot, its term, and the turn then */
	struct {
		uint64_t index, offset, since_us;
		unsigned times;
	} asked; /* for this piece of a snapshot, since then, so often */
	struct {
		uint64_t unread; /* its disk refuses to read this snapshot, in this life; 0: none … */
		uint64_t since_us;
		unsigned offers;  /* … and it has offered it so often since */
		uint64_t refused; /* it says that this one, which it has received, cannot be installed, … */
		unsigned times;	  /* … so often, and has not asked for it since */
	} offered;
	bool retired;	/* long out of the cluster: nobody looks at it any more */
	bool cut_short; /* its disk failed it in the middle of a turn: this life ends */
};

/* What became of an index. */
struct sim_committed {
	uint32_t entry; /* 0: nobody has committed it */
	bool applied;
	uint64_t term;	       /* of the leader that committed it first */
	uint64_t applied_term; /* of the entry that was applied first … */
	uint64_t applied_hash; /* … and its hash */
	uint64_t state_hash;   /* of the store after it */
	struct model_effect effect;
};

struct sim_term {
	unsigned leader;      /* number + 1; 0: nobody led */
	uint32_t first_entry; /* its no-op, when known */
};

/*
 * A long run would fill any memory, so what no log leads back to any more is forgotten: entries before the index `floor`, all
 * of which are committed, and what became of them (check_forget.c).
 */
struct sim_checks {
	struct sim_entry *entries; /* [0] is the beginning of every log; then from number forgotten + 1 on */
	uint32_t n_entries;	   /* numbers given, 0 included */
	uint32_t forgotten;
	uint64_t entries_capacity;
	uint64_t floor;
	uint64_t floor_state; /* hash of the store after it */
	uint64_t forget_next; /* when so much is committed */
	uint32_t *by_index;   /* from floor on: newest entry of each index; the others by sibling */
	uint64_t by_index_capacity;
	struct sim_config *configs; /* [0]: none is known */
	uint32_t n_configs;
	uint64_t configs_capacity;
	unsigned level_highest; /* of any configuration that ever was in a log */
	struct sim_former *former;
	size_t n_former;
	uint64_t former_capacity;
	struct sim_committed *committed; /* by index, from floor on */
	uint64_t committed_capacity;
	uint64_t committed_last;
	struct sim_term *terms;
	uint64_t terms_capacity;
	uint64_t terms_last; /* highest that anybody led */
	struct sim_watch members[SIM_MEMBERS_MAX];
	struct model *model;
	uint64_t modelled;	    /* index that the model has applied last */
	struct raft_entry *scratch; /* WIRE_ENTRIES_MAX */
};

static inline bool sim_entry_known(const struct sim_checks *checks, uint32_t number)
{
	return number > checks->forgotten && number < checks->n_entries;
}

static inline const struct sim_entry *sim_entry(const struct sim_checks *checks, uint32_t number)
{
	raft_assert(number == 0 || sim_entry_known(checks, number));
	return &checks->entries[number == 0 ? 0 : number - checks->forgotten];
}

/* What became of an index from the floor to committed_last. */
static inline const struct sim_committed *sim_committed(const struct sim_checks *checks, uint64_t index)
{
	raft_assert(index >= checks->floor && index - checks->floor < checks->committed_capacity);
	return &checks->committed[index - checks->floor];
}

/* check_forget.c */
void sim_check_forget(struct sim *sim); /* now and then: what can be forgotten */
/* Of what the log on this member's platter leads to: it was damaged for good, and nobody waited for it. */
bool sim_check_is_forgotten(const struct sim *sim, unsigned number);

/* check_entries.c */
uint32_t sim_entry_find(const struct sim_checks *checks, uint64_t index, uint64_t term);
/* The entry's number; it becomes known if it is not. Fails when it contradicts what is known of it. where: who has it. */
uint32_t sim_entry_note(struct sim *sim, uint32_t before, const struct raft_entry *entry, const char *where);
/* The number of the entry at index in the log that leads to `entry`. */
uint32_t sim_entry_ancestor(const struct sim_checks *checks, uint32_t entry, uint64_t index);
uint32_t sim_log_at(const struct sim_checks *checks, const struct sim_log *log, uint64_t index); /* 0 beyond the ends */
static inline uint32_t sim_log_last(const struct sim_checks *checks, const struct sim_log *log)
{
	return sim_log_at(checks, log, log->last);
}
void sim_log_push(struct sim_log *log, uint32_t entry);
void sim_log_cut(struct sim_log *log, uint64_t keep);
void sim_log_begin(struct sim_log *log, uint64_t index); /* all that is committed up to there */
void sim_log_lead_to(const struct sim_checks *checks, struct sim_log *log,
		     uint32_t entry); /* the log that ends there */
void sim_log_shorten(const struct sim_checks *checks, struct sim_log *log, uint64_t index); /* same log, less memory */
void sim_log_copy(struct sim_log *log, const struct sim_log *from);
/* Up to where the log is what is committed. */
uint64_t sim_log_committed(const struct sim_checks *checks, const struct sim_log *log);
/* Makes room for elements 0 … index of zero-initialised elements. */
void *sim_check_grow(void *array, uint64_t *capacity, uint64_t index, size_t element_size);

/* check_config.c */
/* The configuration's number; it must be one, and may follow the one before. where: who has it. */
uint32_t sim_config_note(struct sim *sim, uint32_t before, uint64_t index, const struct raft_entry *entry,
			 const char *where);
const struct sim_config *sim_config_of(const struct sim_checks *checks,
				       uint32_t entry); /* in force in a log ending there */
bool sim_config_committed(const struct sim_checks *checks, uint32_t number);
bool sim_config_holds(const struct sim *sim, const struct sim_config *config, uint32_t entry); /* a majority does */
/* … of a configuration that the member's log holds behind what was followed of it. */
bool sim_config_ahead_holds(const struct sim *sim, unsigned number, uint32_t entry);
bool sim_config_elects(const struct sim *sim, const struct sim_config *config, uint64_t term, unsigned candidate);
/* The directory that this member has is one of the configuration, voter or not. */
bool sim_config_names(const struct sim *sim, const struct sim_config *config, unsigned number);
bool sim_config_names_voter(const struct sim *sim, const struct sim_config *config, unsigned number);
/* Only one change at a time: at most one in the log is not committed. */
void sim_check_config(struct sim *sim, unsigned number);
/* Fails when the members that may still vote could elect a leader without the committed entry. */
void sim_check_survives(struct sim *sim, uint64_t index);
/* All that belong to the cluster in the end. Fails when one of them has not been promoted. */
bool sim_check_belongs(struct sim *sim, unsigned number);

/* check_state.c */
uint64_t sim_check_state_at(const struct sim_checks *checks, uint64_t index);
void sim_check_loaded(struct sim *sim, unsigned number, uint64_t index); /* from a snapshot: its store is as of index */

/* check.c */
struct sim_term *sim_check_term(struct sim *sim, uint64_t term);
/* Member `number` says that it leads the term. */
void sim_check_leads(struct sim *sim, unsigned number, uint64_t term);

/* check_commit.c */
void sim_check_elected(struct sim *sim, unsigned number, uint64_t term);
void sim_check_commit(struct sim *sim, unsigned number, const struct raft_status *before,
		      const struct raft_status *status);
/* In the middle of a turn, which the member may not survive: it tells others, or applies, what it has just committed. */
void sim_check_commit_now(struct sim *sim, unsigned number, uint64_t index);
/* What the member has applied is committed, and nothing was left out. */
void sim_check_applied_turn(struct sim *sim, unsigned number);
struct sim_committed *sim_check_committed(struct sim *sim, uint64_t index);
uint32_t sim_check_committed_at(const struct sim_checks *checks, uint64_t index); /* 0: nobody has committed it */

/* durable_files.c */
bool sim_snapshot_parse_name(const char *name, uint64_t *ret_index);
const struct sim_snapshot *sim_snapshot_find(const struct sim_shadow *shadow, uint64_t index); /* NULL: none */
uint64_t sim_snapshot_newest(const struct sim_shadow *shadow);				       /* 0: none */
uint64_t sim_snapshot_newest_good(const struct sim_shadow *shadow); /* that can be loaded; 0: none */
void sim_snapshot_add(struct sim *sim, unsigned member, struct sim_shadow *shadow, uint64_t index, const uint8_t *bytes,
		      uint64_t size);
/* Bytes of the file leave for another member: in the beginning those that were written, or none. */
void sim_snapshot_sent(struct sim *sim, unsigned from, uint64_t index, uint64_t offset, const uint8_t *bytes,
		       uint64_t size);
void sim_snapshot_remove(struct sim *sim, unsigned member, struct sim_shadow *shadow, uint64_t index);
/* Behind this entry the log is whole even if all segments before are gone: what the others cut from them, any of them, is said again
 * or gone. */
uint64_t sim_segments_begin(const struct sim_shadow *shadow);
void sim_segment_add(struct sim_shadow *shadow, uint64_t sequence, uint64_t base);
void sim_segment_remove(struct sim *sim, unsigned member, struct sim_shadow *shadow, uint64_t sequence);

/* check_frame.c: the leader of the term does not have this entry, or nobody can tell */
bool sim_leader_lacks(const struct sim *sim, uint64_t term, uint64_t index, uint32_t entry);

/* check_lease.c */
#define SIM_ROUNDING_US 10u /* between the world's time and the members' */
struct wire_message;
void sim_leases_sent(struct sim *sim, unsigned from, unsigned to, const struct wire_message *message);
/* Until when so many voters follow the leader of the term, or are bound not to elect another one, that nobody else can have
 * been elected; 0: nothing is known. */
uint64_t sim_leases_horizon(const struct sim *sim, unsigned leader, uint64_t term, const struct sim_config *config);

/* check_progress.c */
void sim_progress_said(struct sim *sim, unsigned number, const struct wire_message *message);
/* The member has no reason to drop what the message says. */
bool sim_progress_believes(const struct sim *sim, unsigned number, const struct wire_message *message);

/* check_duties.c */
void sim_duties_new(struct sim *sim);
void sim_duties_free(struct sim *sim);
void sim_duties_started(struct sim *sim, unsigned number);
void sim_duties_heard(struct sim *sim, unsigned number, const struct wire_message *message);
void sim_duties_said(struct sim *sim, unsigned from, unsigned to, const struct wire_message *message);
void sim_duties_turn(struct sim *sim, unsigned number, const struct raft_status *status);

/* check_returns.c */
void sim_returns_new(struct sim *sim);
void sim_returns_free(struct sim *sim);
void sim_returns_started(struct sim *sim, unsigned number);
void sim_returns_heard(struct sim *sim, unsigned number, const struct wire_message *message);
void sim_returns_said(struct sim *sim, unsigned from, unsigned to,
		      const struct wire_message *message); /* an append, a hello */
uint64_t sim_returns_round(const struct sim *sim, unsigned number,
			   uint64_t term); /* the highest that it has sent in it */
void sim_returns_turn(struct sim *sim, unsigned number, const struct raft_status *status);
/* The leader of the term has made this configuration, which follows that one. */
void sim_returns_config(struct sim *sim, const struct sim_config *before, const struct sim_config *config);

/* check_offers.c */
void sim_offers_started(struct sim *sim, unsigned number);
/* While the member is up its disk has refused to read its snapshot of that index. */
void sim_offers_unread(struct sim *sim, unsigned number, uint64_t index);
/* A snapshot of that index is on its platter, a new one. */
void sim_offers_written(struct sim *sim, unsigned number, uint64_t index);
void sim_offers_said(struct sim *sim, unsigned number, const struct wire_message *message);

/* check_bounds.c */
void sim_check_bounds_started(struct sim *sim, unsigned number);
void sim_check_bounds(struct sim *sim, unsigned number, const struct raft_status *status);
void sim_check_asks(struct sim *sim, unsigned from, const struct wire_message *message);
void sim_check_store(struct sim *sim, unsigned number);
void sim_check_disk(struct sim *sim, unsigned number); /* after the calm */

#endif
