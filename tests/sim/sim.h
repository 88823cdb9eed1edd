/*
 * The deterministic simulator: a whole cluster in one thread, on virtual time, over a simulated disk and network, from one
 * seed. It links the very objects of raft, storage, replicator and kv that raftd runs.
 *
 *   plan.h      what decides about a run: parameters and faults, drawn from the seed or read from a replay file
 *   sim.h       the world: time, randomness, the queue of events
 *   run.c       one run: start, events, faults, calm
 *   trace.c     events as text
 *   faults.c    faults: how they are run and end, and what those do that strike a member
 *   faults_network.c, faults_disk.c, faults_loss.c (what may cost data), faults_members.c: what the others do
 *   faults.h    what faults leave in the world, and what is counted of them
 *   disk.c      a member's disk: jobs that take time, stall, fail, land elsewhere; its parts: disk_internal.h
 *   platter.c   the files under it: a page cache, and what a killed process or a power cut leaves
 *   clock.c     members' clocks, which drift and leap
 *   faults_aimed.c  one rare situation each
 *   faults_former.c  directories that are put away and come back, and what one of them has said
 *   faults_idle.c  a log that begins anew and stays as it is
 *   faults_places.c  members that move, or get no connections
 *   faults_leader.c  faults in several steps, around the leader; fault_steps.h: what these files share
 *   stale.c     answers of earlier terms, which arrive at the worst moment
 *   trial.c     a last fault that stays while the rest must go on
 *   network.c   frames between members: lost, doubled, late, garbled, held back, cut off, dropped by full queues
 *   cluster.c   members: start, crash, pause, wake-ups
 *   machine.h   a member's state machine; machine_snapshots.c: its snapshots
 *   check.h     invariants after every turn, durability, sessions: which file checks what
 *   promises.c  what members must not forget of the promises that leases rest on
 *   client.c    clients with sessions that retry, pipeline, duplicate and vanish; client_request.c: their requests
 *   rogue.c     a client that keeps to no rule
 *   protocol.c  frames between clients and members
 *   operator.c  operators: they look, dump, back up; operator_watch.c: health and beats; operator_metrics.c: what monitors ask; operator_files.c: they check directories and load backups; operator_change.c:
 *               they change the membership; pages.c: what members answer them
 *   copies.c    copies of a member's directory that come to harm; copy_disk.h: where they lie
 *   forge.c     whole frames between members that nobody may take
 *   codec.c     bodies of requests and replies that nobody may take
 *   jobs.c      runs in processes of their own, verdicts
 *   shrink.c    the smallest plan that still fails
 *   main.c      options
 */
#ifndef RAFT_KV_SIM_H
#define RAFT_KV_SIM_H

#include "daemon/replicator/replica.h"
#include "kv/command.h"
#include "kv/pins.h"
#include "kv/store.h"
#include "durable.h"
#include "plan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xxhash.h>

#define SIM_KEYS_MAX 1000u
#define SIM_KEY_SIZE 8u
#define SIM_VALUE_MAX 8192u
#define SIM_COMMAND_MAX 8448u	/* a value with key and header */
#define SIM_PROPOSAL_MAX 32768u /* commands of one proposal */
#define SIM_SECTOR 512u
#define SIM_CLUSTER 77u

struct sim;

/* A number generator: splitmix64. At most one draw in a full expression: C leaves the order of two open, compilers differ. */
struct sim_random {
	uint64_t state;
};
uint64_t sim_random_u64(struct sim_random *random);
uint64_t sim_random_below(struct sim_random *random, uint64_t bound);
bool sim_random_chance(struct sim_random *random, uint64_t per_million);

enum sim_event_type {
	SIM_FRAME,  /* a frame arrives at member */
	SIM_LINK,   /* the connection of member to peer `number` opened (flag) or closed */
	SIM_DISK,   /* a job of member's disk is done */
	SIM_WAKE,   /* member's deadline */
	SIM_CLIENT, /* client `member` does its next thing */
	SIM_ANSWER, /* an answer reaches client `member` */
	SIM_FAULT,  /* a fault goes on or ends; what the event's fields mean is known to faults.c alone */
};

struct sim_event {
	uint64_t time_us;
	uint64_t order; /* ties are broken by the order of creation */
	enum sim_event_type type;
	unsigned member;
	unsigned life; /* of the member when the event was made; a later life ignores it */
	uint64_t number;
	bool flag;
	uint8_t *data; /* owned */
	size_t len;
};

/* The newest configuration in a member's log, as of its last turn: what a member that is down would start with, too. */
struct sim_view {
	uint64_t index;				/* of its entry; 0: none … */
	uint64_t term;				/* … and its term; 0: the member's log begins behind it */
	uint32_t members, voters;		/* bit k: member number k */
	unsigned level;				/* feature level */
	uint64_t incarnations[SIM_MEMBERS_MAX]; /* 0: not heard, or no member */
};

#define SIM_HELD_READS 16u

/* What a member would be with the directory that was put away. */
struct sim_elsewhere {
	uint64_t incarnation; /* 0: none was */
	struct sim_view view;
	uint64_t promised_us;
};

struct sim_member {
	uint64_t id;
	bool up;
	bool paused;
	uint64_t stopped_us; /* paused in the middle of a turn: what its clock had shown; 0: between two */
	uint64_t held_reads[SIM_HELD_READS]; /* tickets; they came while it was paused, and wait in its socket */
	unsigned n_held_reads;
	bool absent; /* a spare that nobody has started yet */
	bool lost;   /* its disk is damaged so that it refuses to start: down until it gets an empty one, or for ever */
	bool removed;	      /* it was told so and stopped; it may be started again, only to be told once more */
	uint64_t incarnation; /* of its data directory as far as it is known; 0: wiped, or never started */
	struct sim_view view;
	struct sim_elsewhere elsewhere;
	unsigned life;
	struct disk *disk_files; /* survives lives: the simulated platter */
	struct replica *replica;
	struct kv_store *store;
	struct transport *transport;
	void *machine;	     /* owned; what the state machine's functions get */
	struct kv_pins pins; /* states that operators read page by page */
	uint64_t wake_us;    /* of its own clock */
	struct sim_clock clock;
	uint64_t
		promised_us; /* the longest that its directory may have promised not to vote, and that may last: promises.c */
	uint64_t promised_before_us, started_us; /* by its clock; the same before its last start */
	uint64_t snapshot_log_bytes; /* a snapshot is due after so much log, as far as it was told in this life */
	uint64_t promising_us;	     /* the longest that it promises in this life */
	uint64_t
		promises_over_us; /* its operator waits until then, for the file about them is damaged; 0: nobody waits */
	struct sim_disk_faults disk_faults;
	struct sim_doom doom;
	bool follows_anew; /* its configuration is another one since it was looked at last */
	bool wrong_state;  /* its memory is damaged: the hash of its state differs from the others', in this life … */
	uint64_t wrong_since; /* … and is looked for from this index on: when the calm began, or of a snapshot */
	bool spoilt;	      /* in this life it wrote what is no state into a snapshot */
	bool dying;	      /* in this turn: what it still does has no effect */
	bool goes_on;	      /* this turn was a whole one: it has seen to everything */
	bool expendable;      /* something on its platter is or may become damaged, in this incarnation */
	uint64_t slow_until_us, slow_us, busy_until_us;
	unsigned level;			    /* the newest feature level that its program knows; it only rises */
	unsigned places_first, places_last; /* it is reached at all of these: two while it moves */
	uint64_t no_connections_until_us;   /* it has no descriptors left for new ones */
	uint64_t went_on_us;		    /* it started, or its pause ended, then */
	uint64_t unconnected_us;	    /* of its clock: it was refused one then; 0: none lately */
	unsigned older_level; /* an older program is tried instead, which its platter must refuse; 0: none is */
};

#define SIM_FAILURE_MAX 400u

/* How a run went. It may lie in memory shared with the process that judges: it is always up to date. */
struct sim_result {
	uint64_t now_us;
	bool done;
	char failure[SIM_FAILURE_MAX]; /* from sim_fail(); empty: none, or the process died of something else */
	struct sim_counts counts;
	uint64_t history; /* the hash of everything that happened */
};

#define SIM_BEGIN_US 1000000u /* the virtual time at which a run begins */

struct sim {
	struct sim_plan plan;
	struct sim_result *result;
	/* Separate, so that leaving out one fault disturbs the rest little. Faults use only their own numbers. */
	struct sim_random random_network, random_disk, random_client, random_member;
	uint64_t now_us;
	uint64_t next_order;
	struct sim_event *heap;
	size_t heap_len, heap_capacity;
	struct sim_member members[SIM_MEMBERS_MAX];
	struct sim_network *network; /* network.c */
	struct sim_client *clients;  /* plan.clients of them */
	struct sim_fates *fates;     /* of writes that were given up: client_fate.c */
	struct sim_view committed;   /* the newest configuration that a member knows to be committed */
	uint32_t ever;		     /* bit k: member number k was in a committed configuration */
	bool founded;		     /* every founder was a voter once */
	uint64_t wrong_until_us;     /* until then somebody may act on what a wrong state has said */
	uint64_t diverged_us;	     /* when a member last stopped because states differ */
	bool calm;		     /* no more faults */
	bool silent;		     /* nor new requests */
	bool even;		     /* nothing takes longer than the least: delays, syncs */
	bool trace;

	struct sim_checks *checks;     /* what must hold, across the whole run: check.h */
	struct sim_progress *progress; /* check_progress.c */
	struct sim_duties *duties;     /* check_duties.c */
	struct sim_returns *returns;   /* check_returns.c */
	struct sim_reads *reads;       /* check_reads.c */
	struct sim_leases *leases;     /* check_lease.c; NULL: nobody reads by lease */
	struct sim_held *held;	       /* check_snapshots.c */
	struct sim_stale *stale;       /* stale.c */
	struct sim_operator *operator; /* operator.c */
	struct sim_rogue *rogue;       /* rogue.c */
	struct sim_trial *trial;       /* trial.c; NULL: none, or over */
	uint64_t answered_writes;
	uint64_t acknowledged; /* highest index that any client has seen the effect of */
	uint64_t next_value;

	XXH3_state_t *history;
	struct sim_history *requests; /* what clients asked and were told: history.h */
	struct sim_counts counts;
};

/* World: world.c */
void sim_schedule(struct sim *sim, uint64_t delay_us, struct sim_event event);
uint64_t sim_next_us(const struct sim *sim); /* of the next event; UINT64_MAX: none */
void sim_next(struct sim *sim, struct sim_event *ret_event);
void sim_trace_event(struct sim *sim,
		     const struct sim_event *event); /* trace.c: into the history, readable on demand */
void sim_note(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3))); /* into the history */
void sim_fail(const struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));

/* One run: run.c. Ends the process when something does not hold. */
void sim_run(const struct sim_plan *plan, struct sim_result *result, bool trace);

/* Faults: faults.c. The first returns 1, or 0 when the state of the world left it nothing to do. */
int sim_fault_run(struct sim *sim, const struct sim_fault *fault);
void sim_fault_event(struct sim *sim, const struct sim_event *event); /* SIM_FAULT: a fault goes on or ends */
void sim_faults_calm(struct sim *sim); /* ends every lasting fault; members that may restart do */

void sim_fault_restart(struct sim *sim, unsigned member, uint64_t delay_us); /* unless it starts before */
void sim_fault_drop_away(struct sim *sim, unsigned member);		     /* what was put away never comes back */

void sim_fault_sent(struct sim *sim, unsigned from, const uint8_t *frame,
		    size_t len); /* by a member with rot_offered or refuse_offered */

/* Disk: disk.c, disk_damage.c. The platter outlives its openings; the disk handed to a replica is a view of it. */
struct disk *sim_platter_new(struct sim *sim, unsigned member);
void sim_platter_free(struct disk *platter);
struct disk *sim_platter_open(struct disk *platter);
void sim_platter_tidy_up(struct disk *platter); /* an operator deletes what the member has set aside */
void sim_platter_crash(struct disk *platter, enum sim_crash how);
bool sim_platter_rot(struct disk *platter, struct sim_random *random); /* false: nothing there that may rot */
bool sim_platter_rot_snapshot(struct disk *platter, uint64_t index);   /* what it says of the state; false: it cannot */
/* The newest record of its log, while the member is down; false: the cluster would not bear it. */
bool sim_platter_rot_newest(struct disk *platter, struct sim_random *random);
void sim_platter_wipe(struct disk *platter);
/* The directory and the one that was put away change places, in the files and in what the checks know; either may be none. */
void sim_platter_exchange(struct disk *platter);
void sim_platter_drop_away(struct disk *platter);
bool sim_platter_rot_promise(struct disk *platter,
			     struct sim_random *random); /* its file; false: there is none to hit */
bool sim_platter_promise_rotten(const struct disk *platter);
void sim_platter_drop_promise(struct disk *platter); /* the file is removed */
void sim_platter_calm(struct disk *platter);	     /* what a stall holds up ends soon */
bool sim_platter_damaged(const struct disk *platter);
void sim_platter_spoil(struct disk *platter); /* what is written into a snapshot is not the member's state */
bool sim_platter_writes_log(
	const struct disk *platter); /* it has not told its member of all that was asked for its log */
bool sim_platter_set_aside(const struct disk *platter);	 /* its member has healed, since the opening */
bool sim_platter_failed(const struct disk *platter);	 /* for good, since the opening */
bool sim_platter_excused(const struct disk *platter);	 /* the member may stop: the disk failed it */
void sim_disk_event(struct disk *platter, uint64_t job); /* a job is done */
/* What a power cut would leave at least, undamaged. Bytes and names live until the next call, or the next change of the disk. */
void sim_platter_each(struct disk *platter,
		      void (*visit)(void *arg, const char *name, const uint8_t *bytes, uint64_t size), void *arg);

/* Network: network.c. A set of links: one bit for each pair of sender and receiver. */
#define SIM_LINK_BIT(from, to) ((uint64_t)1 << ((from)*SIM_MEMBERS_MAX + (to)))
void sim_network_new(struct sim *sim);
void sim_network_free(struct sim *sim);
void sim_network_event(struct sim *sim, const struct sim_event *event);	  /* SIM_FRAME, SIM_LINK; takes the data */
void sim_network_cut(struct sim *sim, uint64_t links, bool cut);	  /* or heal what was cut before */
void sim_network_slow(struct sim *sim, uint64_t links, uint64_t more_us); /* frames take so much longer */
void sim_network_put(struct sim *sim, unsigned from, unsigned to, const uint8_t *data, size_t len, uint64_t delay_us);
/* At once, and in a turn of its own behind what has arrived before. False: it is not looked at in this turn. */
bool sim_network_deliver(struct sim *sim, unsigned from, unsigned to, const uint8_t *data, size_t len);
void sim_network_heal(struct sim *sim);				     /* all links */
void sim_network_replay(struct sim *sim, struct sim_random *random); /* frames of long ago */
void sim_network_member_starts(struct sim *sim, unsigned member);
void sim_network_member_ends(struct sim *sim, unsigned member);
void sim_network_peer_event(struct sim *sim, unsigned member, unsigned peer, bool up, uint64_t delay_us);
struct transport *sim_transport_new(struct sim *sim, unsigned member);
#define SIM_ENDPOINT_SIZE 24u
/* Where it is to be reached, the newest of these. */
void sim_endpoint_name(const struct sim *sim, unsigned member, char ret_name[SIM_ENDPOINT_SIZE]);
bool sim_endpoint_is_of(const struct sim *sim, unsigned member, const char *name); /* or was */
/* Is the member connected to the other one, there or where that has moved to since? */
bool sim_network_knows(const struct sim *sim, unsigned number, unsigned other, const char *endpoint);

/* Clocks: clock.c */
uint64_t sim_clock_us(const struct sim *sim, unsigned member);	    /* monotonic */
uint64_t sim_clock_wall_ms(const struct sim *sim, unsigned member); /* may be set back */
uint64_t sim_clock_until(const struct sim *sim, unsigned member, uint64_t local_us);
void sim_clock_set(struct sim *sim, unsigned member, int64_t drift_ppm, uint64_t leap_us);
void sim_clock_reset(struct sim *sim, unsigned member);

/* Members: cluster.c. Founders have numbers below plan.members; the spares, which may be added later, follow. */
unsigned sim_members(const struct sim *sim); /* founders and spares */
void sim_members_new(struct sim *sim);	     /* disks of all; the founders start */
void sim_members_free(struct sim *sim);
/* In the newest committed configuration, and not lost: it must be there and equal to the others in the calm. */
bool sim_member_belongs(const struct sim *sim, unsigned member);
/* With an empty directory it knows only those of its file, and an old one names the founders: one of the others can say that the
 * cluster is there. False: it would found another one. */
bool sim_member_is_warned(const struct sim *sim, unsigned member);
/* So long members that apply a few entries at a time need for what is committed. */
uint64_t sim_members_apply_us(const struct sim *sim);
void sim_member_start(struct sim *sim, unsigned member);
void sim_member_crash(struct sim *sim, unsigned member, enum sim_crash how);
void sim_member_turn(struct sim *sim, unsigned member); /* replica_process, then invariants */
void sim_member_transfer(struct sim *sim, unsigned member, uint64_t target);
int sim_member_change(struct sim *sim, unsigned member, const struct replicator_change *change);
int sim_member_bootstrap(struct sim *sim, unsigned member);
void sim_member_snapshot(struct sim *sim, unsigned member);
void sim_member_pause(struct sim *sim, unsigned member, bool within_turn);
void sim_member_resume(struct sim *sim, unsigned member);
unsigned sim_members_wrong(const struct sim *sim);  /* one to be found out by now; SIM_MEMBERS_MAX: none */
void sim_members_check_calm(const struct sim *sim); /* nobody has a wrong state and goes on */
bool sim_member_listens(const struct sim *sim, unsigned member);
bool sim_member_loads(const struct sim *sim, unsigned member); /* a snapshot that others sent, or its own */
bool sim_member_operation(struct sim *sim, unsigned member);   /* false: it is dead before this operation */
struct replica_options sim_member_options(const struct sim *sim, unsigned member); /* what it is started with; dear */
struct raft_options sim_raft_options(const struct sim *sim, unsigned member);
struct storage_options sim_storage_options(const struct sim *sim, unsigned member);

/* Feature levels of programs: levels.c */
#define SIM_LEVEL_MAX 3u
unsigned sim_level_at_first(const struct sim_plan *plan, unsigned member);
unsigned sim_level_of_program(const struct sim *sim, unsigned member);
#define SIM_VERSION_SIZE 24u
void sim_level_version(const struct sim *sim, unsigned member, char ret_version[SIM_VERSION_SIZE]); /* of its program */
void sim_level_started(struct sim *sim, unsigned member);
void sim_levels_calm(struct sim *sim);
bool sim_level_refused(struct sim *sim,
		       unsigned member); /* it stops, or does not start: the right program is installed */
void sim_level_noted(struct sim *sim, const struct raft_config *before, const struct raft_config *config,
		     uint64_t index); /* a configuration came into being; before: NULL if it is the first */
void sim_level_sent(struct sim *sim, unsigned from, unsigned to, uint32_t entry);
void sim_level_seen(struct sim *sim, unsigned member, const struct raft_config *config, uint64_t index);
void sim_level_check_calm(struct sim *sim);

/* Promises of earlier lives: promises.c */
void sim_promises_choose(struct sim *sim, unsigned member, struct raft_options *options);
void sim_promises_started(struct sim *sim, unsigned member);
void sim_promises_end(struct sim *sim, unsigned member); /* unless it cannot stop cleanly */
bool sim_promises_refused(struct sim *sim, unsigned member, int why);
void sim_promises_await(struct sim *sim, unsigned member);

/* A request of a client to a member; its answer, if any, comes as SIM_ANSWER with the same ticket. The k-th command of a
 * proposal has ticket first_ticket + k. */
struct sim_answer {
	uint64_t ticket;
	int result;	 /* 0, or an enum replicator_result */
	unsigned leader; /* of a result: who leads, number + 1; 0: the member does not know */
	uint8_t status;
	uint64_t revision; /* a read: of the key; 0: there is none */
	uint64_t value;	   /* a read: the first bytes of the value */
	uint64_t place;	   /* a read: index of the last entry applied before */
};
void sim_member_write(struct sim *sim, unsigned member, uint64_t first_ticket,
		      const struct replicator_command *commands, uint32_t n);
void sim_member_read(struct sim *sim, unsigned member, uint64_t ticket);

/* The same from a client, in a frame that may be damaged on its way: protocol.c. Whoever does not listen is not asked. */
void sim_protocol_write(struct sim *sim, unsigned member, uint64_t first_ticket,
			const struct replicator_command *commands, uint32_t n);
void sim_protocol_get(struct sim *sim, unsigned member, uint64_t ticket);
/* A member's answer. value: of a read that found something; NULL otherwise. */
void sim_protocol_answer(struct sim *sim, const struct sim_answer *answer, const struct kv_value *value);
void sim_protocol_answered(struct sim *sim, const struct sim_event *event); /* SIM_ANSWER */

/* A ticket says who waits: client, key of a read, and a number that the client chose. Never 0. */
static inline uint64_t sim_ticket_write(unsigned client, uint64_t number)
{
	return ((uint64_t)client + 1) << 56 | number;
}

static inline uint64_t sim_ticket_read(unsigned client, uint64_t number, unsigned key)
{
	return sim_ticket_write(client, number) | ((uint64_t)key + 1) << 40;
}

static inline unsigned sim_ticket_client(uint64_t ticket)
{
	return (unsigned)(ticket >> 56) - 1;
}

static inline bool sim_ticket_reads(uint64_t ticket)
{
	return (ticket >> 40 & 0xffff) != 0;
}

static inline unsigned sim_ticket_key(uint64_t ticket)
{
	return (unsigned)(ticket >> 40 & 0xffff) - 1;
}

static inline uint64_t sim_ticket_number(uint64_t ticket)
{
	return ticket & 0xffffffffffu;
}

/* Somebody's who waits for no answer. Whoever gets it knows of no such request. */
static inline uint64_t sim_ticket_nobody(void)
{
	return sim_ticket_write(0, (uint64_t)1 << 39);
}
#define SIM_ROGUE_KEYS_MAX 8300u /* of its own: rogue.c */

/* Clients: client.c, client_request.c */
void sim_clients_begin(struct sim *sim);
void sim_clients_end(struct sim *sim);
void sim_client_event(struct sim *sim, unsigned client); /* SIM_CLIENT */
void sim_client_answer(struct sim *sim, unsigned client, const struct sim_answer *answer);
void sim_client_replan(struct sim *sim, unsigned client); /* its requests have changed */
void sim_clients_calm(struct sim *sim);			  /* whoever is idle goes on */
void sim_clients_silence(struct sim *sim);		  /* they ask nothing new; what is under way goes on */
bool sim_clients_wait(const struct sim *sim);		  /* for an answer */
void sim_clients_check_calm(struct sim *sim);		  /* everything was answered */
/* The entry at index was applied for the first time: client_fate.c. */
struct model_effect;
void sim_clients_modelled(struct sim *sim, uint64_t index, enum kv_operation operation,
			  const struct model_effect *effect);
uint64_t sim_clients_floor(const struct sim *sim); /* no open request has its place at or before this index */
void sim_key_name(unsigned key, uint8_t name[SIM_KEY_SIZE]);
/* Proposes so many commands that no store understands, each of the size: they fill logs and change nothing. */
void sim_client_burst(struct sim *sim, unsigned member, unsigned commands, uint32_t size);

/* Answers of earlier terms: stale.c. Sees every frame that a member sends. */
void sim_stale_new(struct sim *sim);
void sim_stale_free(struct sim *sim);
void sim_stale_sent(struct sim *sim, unsigned from, unsigned to, const uint8_t *data, size_t len);
void sim_stale_said_hello(struct sim *sim, unsigned from, unsigned to, const uint8_t *data,
			  size_t len); /* whole frames */
/* A hello from a program that knew less than the level arrives now; false: this directory never sent one. */
bool sim_stale_hello(struct sim *sim, unsigned from, unsigned to, uint64_t incarnation, unsigned level);
/* It once said hello from an empty directory; and that hello arrives after the delay. */
bool sim_stale_was_blank(const struct sim *sim, unsigned from, unsigned to);
void sim_stale_blank_hello(struct sim *sim, unsigned from, unsigned to, uint64_t delay_us);
/* A hello, or an answer to an append, of any directory. */
struct wire_message;
void sim_stale_said(struct sim *sim, unsigned from, unsigned to, const struct wire_message *message,
		    const uint8_t *data, size_t len);
/* This directory said hello, and answered an append of the term. */
bool sim_stale_answered(const struct sim *sim, unsigned from, unsigned to, uint64_t incarnation, uint64_t term);
/* The directory before it did; and both arrive again after the delay. */
bool sim_stale_former_answered(const struct sim *sim, unsigned from, unsigned to, uint64_t incarnation, uint64_t term);
void sim_stale_former(struct sim *sim, unsigned from, unsigned to, uint64_t delay_us);
/* The newest answer of the directory that it has, if any, arrives again. */
void sim_stale_answer(struct sim *sim, unsigned from, unsigned to, uint64_t delay_us);

/* Operators: operator.c, operator_watch.c, operator_files.c, operator_change.c. Those that return a number return 1, or 0 when there was nothing to do. */
void sim_operator_new(struct sim *sim);
void sim_operator_free(struct sim *sim);
int sim_operator_look(struct sim *sim, unsigned member, uint64_t seed); /* at what it says of itself */
int sim_operator_begin(struct sim *sim, unsigned member,
		       uint64_t seed); /* a dump or a backup, unless one is under way */
int sim_operator_reload(struct sim *sim, unsigned member, uint64_t seed); /* another limit for its log */
int sim_operator_check(struct sim *sim, unsigned member);		  /* its directory, between stop and start */
int sim_operator_copy(struct sim *sim, unsigned member,
		      uint64_t seed); /* its directory, and harms the copy: copies.c */
void sim_operator_step(struct sim *sim, uint64_t errand);
int sim_operator_mistake(struct sim *sim, unsigned member, uint64_t seed); /* asks for a change that makes no sense */
int sim_operator_bootstrap(struct sim *sim, unsigned member);
void sim_operator_transfer(struct sim *sim, unsigned member, uint64_t target, uint64_t seed);
struct kv_change;
/* What the member says to it: 0, or an enum replicator_result. */
int sim_operator_change(struct sim *sim, unsigned member, const struct kv_change *change, uint64_t seed);

/* A frame that no correct member sends: forge.c. */
int sim_forge(struct sim *sim, unsigned from, unsigned to, uint64_t seed);

/* Trials: trial.c. In a share of the runs one fault stays for a while after all others have ended. */
#define SIM_TRIAL_STEPS 4u
uint64_t sim_trial_begin(struct sim *sim); /* how long each step lasts; 0: there is no trial */
void sim_trial_step(struct sim *sim, unsigned step);
void sim_trial_tend(struct sim *sim);		       /* several times before each step */
uint64_t sim_trial_patience_us(const struct sim *sim); /* how long to wait for a leader at the end of a step */
void sim_trial_anew(struct sim *sim);		       /* what happened until now does not count */
void sim_trial_end(struct sim *sim);

/* Invariants: check.h says what is where; durable.h has what disk.c and network.c tell. */
void sim_checks_new(struct sim *sim); /* before the first member starts */
void sim_checks_free(struct sim *sim);
void sim_check_started(struct sim *sim, unsigned member);	   /* it has recovered and done nothing else */
void sim_check_turn(struct sim *sim, unsigned member);		   /* after every turn of a member */
void sim_check_stopped(struct sim *sim, unsigned member, int why); /* it must stop: check_stopped.c */
bool sim_check_left_out(const struct sim *sim,
			unsigned member); /* by a committed configuration, none older than its own */
void sim_check_applied(struct sim *sim, unsigned member, uint64_t index, const struct raft_entry *entry);
void sim_check_restored(struct sim *sim, unsigned member, uint64_t index); /* its store was replaced by a snapshot's */
void sim_sessions_applied(struct sim *sim, unsigned member, uint64_t index, const uint8_t *data, size_t size,
			  struct kv_reply reply);
/* A client was told that its write took effect at the revision. */
void sim_sessions_acknowledged(struct sim *sim, uint64_t session, uint64_t sequence, uint64_t revision);
bool sim_sessions_full(const struct sim *sim); /* a session may have expired */
void sim_check_calm(struct sim *sim);	       /* all members equal */

/* Progress, promises to those who ask, duties towards messages: check_progress.c */
void sim_progress_new(struct sim *sim);
void sim_progress_free(struct sim *sim);
void sim_progress_started(struct sim *sim, unsigned member);
void sim_progress_turn(struct sim *sim, unsigned member, const struct raft_status *before,
		       const struct raft_status *after);
/* forged: nobody sent this. */
void sim_progress_heard(struct sim *sim, unsigned member, const uint8_t *frame, size_t len, bool forged);
void sim_progress_refused(struct sim *sim, unsigned member);  /* it calls what it has just heard impossible */
void sim_check_write_taken(struct sim *sim, unsigned member); /* check_bounds.c: the log may still grow */
void sim_progress_asked(struct sim *sim, unsigned member, uint64_t first_ticket, uint32_t n); /* the member took them */
void sim_progress_answered(struct sim *sim, unsigned member, uint64_t ticket);

/* Reads are as strong as they say: check_reads.c */
void sim_reads_new(struct sim *sim);
void sim_reads_free(struct sim *sim);
void sim_reads_started(struct sim *sim, unsigned member);
void sim_reads_asked(struct sim *sim, unsigned member, uint64_t ticket);		     /* the member took it */
void sim_reads_followed(struct sim *sim, unsigned follower, unsigned leader, uint64_t term); /* answers an append */
void sim_reads_turn(struct sim *sim, unsigned member);
void sim_reads_answered(struct sim *sim, unsigned member, uint64_t ticket);
void sim_reads_dropped(struct sim *sim, unsigned member, uint64_t ticket);

/* Leases and promises: check_lease.c. Of runs without leases it knows nothing. */
void sim_leases_new(struct sim *sim);
void sim_leases_free(struct sim *sim);
void sim_leases_started(struct sim *sim, unsigned member);
void sim_leases_turn(struct sim *sim, unsigned member);

/* Snapshots do not change while the store goes on: check_snapshots.c */
void sim_snapshots_new(struct sim *sim);
void sim_snapshots_free(struct sim *sim);
void sim_snapshots_applied(struct sim *sim, unsigned member); /* after each entry */
void sim_check_proved(struct sim *sim, unsigned number);      /* check_proof.c: at times, and before a member ends */
void sim_places_turn(struct sim *sim, unsigned number); /* of a member that follows_anew, or was refused a connection */
void sim_offers_refused(struct sim *sim, unsigned number, uint64_t index); /* it cannot install what it has received */
void sim_snapshots_release(struct sim *sim, unsigned member);		   /* the member's life ends */

#endif
