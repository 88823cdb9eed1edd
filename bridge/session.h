/*
 * Everything between the clients' requests and the members: the one session in which all writes go, the reads that
 * wait, deadlines, and what is sent again when a leader changes.
 *
 * What this must not know: connections of clients and the line protocol's bytes; the event loop. It is called with the
 * time, and once at the end of every loop turn to send what has piled up.
 */
#ifndef RAFT_KV_BRIDGE_SESSION_H
#define RAFT_KV_BRIDGE_SESSION_H

#include "bridge/members.h"
#include "bridge/request.h"

struct session;

struct session_options {
	struct pool *pool;
	uint64_t timeout_ms; /* from a request's arrival to its answer */
	uint64_t nonce;	     /* random */
	/* request->answer, ->number and ->problem are set; data is the value or text and is valid during the call. False: no
	 * room for this value now; session_submit asks for it again. Not called for a request without a client. */
	bool (*answered)(void *arg, struct request *request, const uint8_t *data, uint32_t size);
	void *arg;
};

int session_new(const struct session_options *options, struct session **ret_session)
	__attribute__((warn_unused_result));
/* With the requests in it. NULL is fine; returns NULL. */
struct session *session_free(struct session *session);
/* Before anything else; members are told the session's callbacks when they are made, hence not an option. */
void session_set_members(struct session *session, struct members *members);

/* True when a request may be submitted; full otherwise: its connection waits. */
bool session_has_room(const struct session *session);
/* Takes the request, of any kind but REQUEST_LOCAL. 0, or -ENOMEM: nothing happened. */
int session_submit(struct session *session, struct request *request, uint64_t now_ms)
	__attribute__((warn_unused_result));
/* The request's connection is gone and no longer holds it: a write goes on, a read ends. */
void session_leave(struct session *session, struct request *request);

/* For members_events. */
void session_reply(struct session *session, unsigned member, const struct kv_frame_item *item, uint64_t now_ms);
void session_member_lost(struct session *session, unsigned member);

/* Deadlines, retries, and everything that can be sent is. At the end of a loop turn. */
void session_turn(struct session *session, uint64_t now_ms);
/* When session_turn must be called next, at the latest. */
uint64_t session_due_ms(struct session *session, uint64_t now_ms);
/* Requests without an answer, writes whose fate is open included. */
bool session_is_idle(const struct session *session);

struct session_counters {
	uint64_t writes, reads, stale_reads; /* submitted */
	uint64_t frames;		     /* sent */
	uint64_t restarts;		     /* of the window */
	uint64_t unknown, failed;	     /* answered so */
	uint64_t sessions;		     /* registered */
};
const struct session_counters *session_get_counters(const struct session *session);

/* What waits, and how much may. */
struct session_queues {
	uint64_t writes_waiting, writes_waiting_max; /* without a number */
	uint64_t writes_sent, writes_sent_max;	     /* numbered: sent, and not known to be applied */
	uint64_t reads, reads_max;
	uint64_t waiting_bytes, waiting_bytes_max; /* of the writes' commands */
	uint64_t sent_bytes, sent_bytes_max;
};
struct session_queues session_get_queues(const struct session *session);

#endif
