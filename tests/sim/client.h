/*
 * A simulated client, shared by client.c (when it does what) and client_request.c (requests: making, sending, answers).
 * Nobody else includes it.
 */
#ifndef RAFT_KV_SIM_CLIENT_H
#define RAFT_KV_SIM_CLIENT_H

#include "sim.h"

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
};

enum client_phase { PHASE_TRICKLE, PHASE_BURST, PHASE_IDLE };

struct sim_client {
	uint64_t session; /* 0: not registered */
	uint64_t next_sequence;
	uint64_t next_read, next_write; /* numbers */
	unsigned target;		/* member it talks to */
	unsigned served;		/* the last one that served it … */
	unsigned former;		/* … and the one before, which may still believe that it leads */
	uint64_t wake_us;		/* its next event; earlier plans' events are ignored */
	enum client_phase phase;
	uint64_t phase_end_us;
	uint64_t next_us;		       /* of the next new request */
	uint64_t known[SIM_KEYS];	       /* revision it saw last */
	struct request requests[REQUESTS_MAX]; /* open ones, oldest first */
	unsigned n_requests;
	struct request ghost; /* a write of the past, sent again out of the blue; number 0: none */
};

static inline bool request_reads(const struct request *request)
{
	return request->kind == REQUEST_GET;
}

/* client_request.c */
void client_begin_register(struct sim *sim, unsigned number);
void client_begin_request(struct sim *sim, unsigned number);
/* Sends the requests that are due; consecutive writes as one proposal where they fit. */
void client_send(struct sim *sim, unsigned number);
void client_send_ghost(struct sim *sim, unsigned number);
/* Registers so many sessions that the oldest ones expire. */
void client_flood(struct sim *sim, unsigned number);
/* Gives up: what is open is of unknown fate, and whoever takes the place knows nothing of it. */
void client_vanish(struct sim *sim, unsigned number);
/* Gives up one write, whose place in the session something must fill. */
void client_abandon(struct sim *sim, struct request *request);

#endif
