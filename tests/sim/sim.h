/*
 * The deterministic simulator: a whole cluster in one thread, on virtual time, over a simulated disk and network, from one
 * seed. It links the very objects of raft, storage, replicator and kv that raftd runs.
 *
 *   sim.h       the world: time, randomness, the queue of events, the faults drawn from the seed
 *   disk.c      a member's simulated disk: what is not synced is lost at a crash, in any subset of sectors
 *   network.c   frames between members: lost, doubled, reordered, delayed, partitioned
 *   cluster.c   members: start, crash, pause, wake-ups
 *   check.c     invariants after every step, and what clients may have seen
 *   client.c    clients with sessions that retry
 *   main.c      options, the fault schedule, the verdict
 */
#ifndef RAFT_KV_SIM_H
#define RAFT_KV_SIM_H

#include "daemon/replicator/replica.h"
#include "kv/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xxhash.h>

#define SIM_MEMBERS_MAX 7u
#define SIM_CLIENTS_MAX 8u
#define SIM_KEYS 5u
#define SIM_SECTOR 512u

struct sim;

/* One number generator for the whole world: splitmix64. */
struct sim_random {
	uint64_t state;
};
uint64_t sim_random_u64(struct sim_random *random);
uint64_t sim_random_below(struct sim_random *random, uint64_t bound);
bool sim_random_chance(struct sim_random *random, uint32_t per_million);

/* What the seed decides about a run. */
struct sim_plan {
	unsigned n_members;
	unsigned n_clients;
	uint64_t delay_min_us, delay_max_us;			     /* of a frame */
	uint32_t loss, duplication;				     /* per million */
	uint64_t sync_min_us, sync_max_us;			     /* of a disk write */
	uint32_t stall;						     /* a sync takes seconds: per million */
	uint64_t crash_every_us, partition_every_us, pause_every_us; /* mean time between faults; 0: never */
	uint64_t span_us;					     /* of the time with faults */
	uint64_t heartbeat_us, election_min_us, election_max_us;
};

enum sim_event_type {
	SIM_FRAME,   /* a frame arrives at member */
	SIM_LINK,    /* the connection of member to peer `number` opened (flag) or closed */
	SIM_DISK,    /* a job of member's disk is done */
	SIM_WAKE,    /* member's deadline */
	SIM_CLIENT,  /* client `member` does its next thing */
	SIM_ANSWER,  /* an answer reaches client `member` */
	SIM_FAULT,   /* the schedule of faults: `number` says which */
	SIM_RESTART, /* member starts again */
	SIM_RESUME,  /* member's pause ends */
	SIM_HEAL,    /* partition `number` ends */
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

struct sim_member {
	uint64_t id;
	bool up;
	bool paused;
	unsigned life;
	struct disk *disk_files; /* survives lives: the simulated platter */
	struct replica *replica;
	struct kv_store *store;
	struct transport *transport;
	void *machine; /* owned; what the state machine's functions get */
	uint64_t wake_us;
	struct raft_status before;
};

/* A request as its client sees it. */
struct sim_client {
	unsigned id;
	uint64_t session;  /* 0: not registered */
	uint64_t sequence; /* of the request under way */
	unsigned target;   /* member it talks to */
	uint64_t attempt;  /* tells answers of earlier attempts apart */
	bool busy;
	bool is_read;
	unsigned key;
	uint64_t value; /* unique; what the write writes */
	uint64_t invoked_us;
	uint64_t floor; /* revision that a read must reach: known before it was invoked */
	uint64_t done;	/* requests answered */
};

struct sim_committed {
	uint64_t term;
	uint64_t known_term; /* of the first member that applied it: it was committed in this term or before */
	uint64_t hash;	     /* of type and data */
	uint64_t state_hash; /* of the store after it; 0: not known */
};

struct sim {
	struct sim_plan plan;
	struct sim_random random;
	uint64_t now_us;
	uint64_t next_order;
	struct sim_event *heap;
	size_t heap_len, heap_capacity;
	struct sim_member members[SIM_MEMBERS_MAX];
	bool cut[SIM_MEMBERS_MAX][SIM_MEMBERS_MAX]; /* frames from row to column are lost */
	struct sim_client clients[SIM_CLIENTS_MAX];
	bool calm; /* no more faults */
	bool trace;

	/* What must hold, across the whole run. */
	struct sim_committed *committed; /* by index */
	uint64_t committed_capacity;
	uint64_t committed_last;
	uint64_t leader_of_term_capacity;
	uint64_t *leader_of_term;
	uint64_t acknowledged[SIM_KEYS]; /* highest revision of each key that any client has seen */
	uint64_t next_value;

	XXH3_state_t *history;
	uint64_t n_events, n_crashes, n_partitions, n_pauses, n_answers, n_elections;
};

/* World: world.c */
void sim_schedule(struct sim *sim, uint64_t delay_us, struct sim_event event);
bool sim_next(struct sim *sim, struct sim_event *ret_event);
void sim_note(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3))); /* into the history */
void sim_fail(const struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));

/* Disk: disk.c. The platter outlives its openings; the disk handed to a replica is a view of it. */
struct disk *sim_platter_new(struct sim *sim, unsigned member);
void sim_platter_free(struct disk *platter);
struct disk *sim_platter_open(struct disk *platter);
void sim_platter_crash(struct disk *platter);		 /* what was not synced is lost in any subset of sectors */
void sim_disk_event(struct disk *platter, uint64_t job); /* a job is done */

/* Network: network.c */
struct transport *sim_transport_new(struct sim *sim, unsigned member);
void sim_transport_deliver(struct transport *transport, struct sim_event *event); /* takes event->data */

/* Members: cluster.c */
void sim_member_start(struct sim *sim, unsigned member);
void sim_member_crash(struct sim *sim, unsigned member);
void sim_member_turn(struct sim *sim, unsigned member); /* replica_process, then invariants */
struct replica_options sim_member_options(const struct sim *sim, unsigned member);

/* A request of a client to a member; the answer comes as SIM_ANSWER, or never. */
struct sim_answer {
	uint64_t attempt;
	int result; /* 0, or an enum replicator_result */
	uint8_t status;
	uint64_t revision;
	uint64_t value;
};
void sim_member_write(struct sim *sim, unsigned member, unsigned client, const uint8_t *command, uint32_t size);
void sim_member_read(struct sim *sim, unsigned member, unsigned client, unsigned key);

/* Clients: client.c */
void sim_client_next(struct sim *sim, unsigned client);
void sim_client_answer(struct sim *sim, unsigned client, const struct sim_answer *answer);
void sim_key_name(unsigned key, uint8_t name[8]);

/* Invariants: check.c */
void sim_check_member(struct sim *sim, unsigned member);
void sim_check_applied(struct sim *sim, unsigned member, uint64_t index, const struct raft_entry *entry);
void sim_check_calm(struct sim *sim); /* all members equal */

#endif
