/*
 * One request of a client on its way through the bridge, and the numbers that requests to members carry.
 *
 * A request is in up to two places: in its connection's queue until it is answered there, and in the session
 * until its fate is known. Whoever takes it out of the second one frees it.
 */
#ifndef RAFT_KV_BRIDGE_REQUEST_H
#define RAFT_KV_BRIDGE_REQUEST_H

#include "bridge/line.h"
#include "bridge/pool.h"
#include "bridge/window.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct client;

enum request_kind {
	REQUEST_WRITE,	/* put, delete, cas: through the session's window */
	REQUEST_READ,	/* get: from the leader */
	REQUEST_STALE,	/* get -s: from any member */
	REQUEST_STATUS, /* from every member */
	REQUEST_LOCAL,	/* answered by the bridge: help, ping, quit, errors */
};

enum answer_kind {
	ANSWER_NONE,
	ANSWER_OK,	 /* number: revision */
	ANSWER_MISMATCH, /* number: revision */
	ANSWER_NOT_FOUND,
	ANSWER_VALUE, /* number: revision; the value is handed over with the answer */
	ANSWER_PROBLEM,
	ANSWER_TEXT, /* complete lines, handed over with the answer */
};

struct request {
	struct request *next;  /* in the connection's queue */
	struct client *client; /* NULL: its connection is gone, or needs no answer any more */
	struct request *older; /* among the reads that wait */
	struct request *newer;
	struct window_write write;
	uint64_t id;	      /* reads: of the last copy sent */
	uint64_t deadline_ms; /* reads */
	uint64_t expected;    /* cas */
	uint64_t number;      /* of the answer */
	struct line_problem problem;
	uint8_t *value; /* of an answer that waits for its turn; from the pool */
	size_t value_capacity;
	uint32_t value_size; /* while answer is ANSWER_NONE: of the value to be written, in bytes[] behind the key */
	uint32_t capacity;   /* of this object, for the pool */
	uint16_t key_size;
	uint16_t slot;	   /* reads: in the session's table */
	uint8_t kind;	   /* enum request_kind */
	uint8_t operation; /* enum kv_operation */
	uint8_t answer;	   /* enum answer_kind */
	uint8_t member;	   /* stale reads: where it was sent */
	uint8_t cause;	   /* reads: the last rejection, enum kv_answer */
	bool in_session;
	bool in_flight; /* reads: sent and unanswered */
	bool parked;	/* reads: its connection had no room for the answer; it will ask again */
	uint8_t bytes[];
};

static inline struct request *request_of_write(struct window_write *write)
{
	return (struct request *)(void *)((uint8_t *)write - offsetof(struct request, write));
}

/* A request as a line asks for it, with copies of key and value; in no queue yet. NULL: no memory. */
struct request *request_new(struct pool *pool, const struct line_request *line);

/* Frees the request if neither its connection nor the session holds it. */
static inline void request_release(struct pool *pool, struct request *request)
{
	if (request->in_session || request->client != NULL)
		return;
	pool_put(pool, request->value, request->value_capacity);
	pool_put(pool, request, request->capacity);
}

/* Ids of requests to members: three bits say what it is. */
enum request_id_type {
	ID_PROBE = 0,	 /* the questions of members.c; the rest: which */
	ID_REGISTER = 1, /* the rest: generation of the session */
	ID_WRITE = 2,	 /* generation of the session (5 bits), epoch (12), sequence (44) */
	ID_READ = 3,	 /* counter (45 bits), slot (16) */
	ID_STATUS = 4,	 /* number of the round */
};
#define ID_TYPE_SHIFT 61u
#define ID_REST_MASK ((UINT64_C(1) << ID_TYPE_SHIFT) - 1)

static inline uint64_t request_id(enum request_id_type type, uint64_t rest)
{
	return (uint64_t)type << ID_TYPE_SHIFT | (rest & ID_REST_MASK);
}
static inline unsigned request_id_type(uint64_t id)
{
	return (unsigned)(id >> ID_TYPE_SHIFT);
}

#endif
