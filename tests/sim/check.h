/*
 * What the checks know of a run: every entry that ever existed, which platters hold it, what is committed, who led.
 *
 *   check_entries.c  the entries of all logs, as one tree
 *   check.c          invariants after every turn of a member
 *   check_commit.c   the commit rule, leader completeness, what was applied
 *   check_bounds.c   queues and memory
 *   durable.c        what each member's platter really holds
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
	uint32_t platters; /* bit k: the platter of member k holds it */
};

/* Numbers of entries, by index. */
struct sim_log {
	uint32_t *entries;
	uint64_t capacity;
	uint64_t last;
};

/* A member's platter, decoded: what is synced, and nothing else. */
struct sim_shadow {
	struct sim_log log;
	uint64_t term, vote;
	struct format_identity identity;
	uint64_t sequence; /* of the newest segment; 0: there is none */
	uint64_t offset;   /* in it, where the next record will begin */
	uint64_t flush, checksum;
	bool shrunk; /* records that were synced are gone: no member may come back from this */
};

/* What the checks keep of a member. */
struct sim_watch {
	struct sim_log log; /* of the core, in memory */
	struct sim_shadow shadow;
	struct raft_status before;
	uint64_t sent_term; /* highest that anybody was told, in any life */
	uint64_t sent_vote_term, sent_vote;
	uint64_t turns;		   /* of all lives */
	uint64_t applied;	   /* in this life */
	uint64_t applied_commands; /* in this life */
	bool cut_short;		   /* its disk failed it in the middle of a turn: this life ends */
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

struct sim_checks {
	struct sim_entry *entries; /* [0] is the beginning of every log */
	uint32_t n_entries, entries_capacity;
	uint32_t *by_index; /* newest entry of each index; the others by sibling */
	uint64_t by_index_capacity;
	struct sim_committed *committed; /* by index */
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

/* check_entries.c */
uint32_t sim_entry_find(const struct sim_checks *checks, uint64_t index, uint64_t term);
/* The entry's number; it becomes known if it is not. Fails when it contradicts what is known of it. where: who has it. */
uint32_t sim_entry_note(struct sim *sim, uint32_t before, const struct raft_entry *entry, const char *where);
/* The number of the entry at index in the log that leads to `entry`. */
uint32_t sim_entry_ancestor(const struct sim_checks *checks, uint32_t entry, uint64_t index);
uint32_t sim_log_at(const struct sim_log *log, uint64_t index); /* 0 beyond the ends */
void sim_log_push(struct sim_log *log, uint32_t entry);
void sim_log_copy(struct sim_log *log, const struct sim_log *from);
/* Makes room for elements 0 … index of zero-initialised elements. */
void *sim_check_grow(void *array, uint64_t *capacity, uint64_t index, size_t element_size);

/* check.c */
unsigned sim_check_quorum(const struct sim *sim);
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
/* Fails when the members that may still vote could elect a leader without the committed entry. */
void sim_check_survives(struct sim *sim, uint64_t index);

/* check_bounds.c */
void sim_check_bounds(struct sim *sim, unsigned number, const struct raft_status *status);
void sim_check_store(struct sim *sim, unsigned number);

#endif
