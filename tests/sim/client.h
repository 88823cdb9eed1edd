/*
 * A simulated client, shared by client.c (when it does what), client_request.c (requests: making, sending, answers) and
 * client_fate.c (what becomes of those that were given up).
 * Nobody else includes it.
 */
#ifndef RAFT_KV_SIM_CLIENT_H
#define RAFT_KV_SIM_CLIENT_H

#include "sim.h"

#include "kv/command.h"

#define REQUESTS_MAX 16u

enum request_kind {
	REQUEST_REGISTER,
	REQUEST_GET,
	REQUEST_PUT,
	REQUEST_DELETE,
	REQUEST_CAS,
	REQUEST_NOTHING,
};

struct request {
	enum request_kind kind;
	unsigned key;
	uint64_t number;   /* of this client, in its tickets; reads and writes are numbered apart */
	uint64_t sequence; /* in the session; writes only */
	uint64_t session;
	uint64_t value; /* unique; the first bytes of what is written */
	uint32_t value_size;
	uint64_t expected; /* of a cas */
	uint64_t history;  /* its operation there */
	uint64_t floor;	   /* highest index that anybody had seen when it began */
	uint64_t begun_us;
	uint64_t retry_us; /* sent then, again and again */
	unsigned attempts;
	unsigned sent;	       /* how often, duplicates included */
	uint64_t place;	       /* of a write: the last index at which it may have been appended; 0: nowhere */
	bool carried_out;      /* of a write: applied, whether the client knows it or not … */
	struct kv_reply reply; /* … with this answer */
};

enum client_phase { PHASE_TRICKLE, PHASE_BURST, PHASE_IDLE };

struct sim_client {
	uint64_t session; /* 0: not registered */
	uint64_t next_sequence;
	uint64_t next_read, next_write; /* numbers */
	unsigned target;		/* member it talks to … */
	bool stays;			/* … and goes on to: it has answered, or was named as the leader */
	unsigned home;			/* member that it reads from while it is sticky */
	bool sticky;
	uint64_t flood_left; /* proposals */
	unsigned served;     /* the last one that served it … */
	unsigned former;     /* … and the one before, which may still believe that it leads */
	uint64_t wake_us;    /* its next event; earlier plans' events are ignored */
	enum client_phase phase;
	uint64_t phase_end_us;
	uint64_t next_us;		       /* of the next new request */
	uint64_t known[SIM_KEYS_MAX];	       /* revision it saw last */
	struct request requests[REQUESTS_MAX]; /* open ones, oldest first */
	unsigned n_requests;
	struct request ghost; /* a write of the past, sent again out of the blue; number 0: none */
};

static inline bool request_reads(const struct request *request)
{
	return request->kind == REQUEST_GET;
}

/* In the end, when nobody asks for anything new, who still waits asks seldom, and most members may be gone for good. To find one that
 * leads by chance could take any time: it goes through all of them, as the bridge asks all who leads. */
static inline bool client_takes_turns(const struct sim *sim)
{
	return sim->calm && sim->silent;
}

/* client_request.c */
void client_begin_register(struct sim *sim, unsigned number);
void client_begin_request(struct sim *sim, unsigned number);
/* Sends the requests that are due; consecutive writes as one proposal where they fit. */
void client_send(struct sim *sim, unsigned number);
void client_send_ghost(struct sim *sim, unsigned number);
/* Registers sessions until the oldest ones expire, some at each call. */
void client_flood(struct sim *sim, unsigned number);
/* Gives up: what is open is of unknown fate, and whoever takes the place knows nothing of it. */
void client_vanish(struct sim *sim, unsigned number);
/* A sticky client gives up a read soon and asks again: what it asks later must see what is known later. */
void client_forget_reads(struct sim *sim, unsigned number);
/* Gives up one write, whose place in the session something must fill. */
void client_abandon(struct sim *sim, struct request *request);

/* client_fate.c */
void client_fates_new(struct sim *sim);
void client_fates_free(struct sim *sim);
enum kv_operation client_operation(const struct request *request);
void client_leave(struct sim *sim, const struct request *request); /* nobody waits for its answer any more */
void client_sent_again(struct sim *sim, const struct request *ghost, uint64_t place);

#endif
