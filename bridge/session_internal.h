/*
 * What session.c (requests in, deadlines, turns), session_send.c (frames out) and session_reply.c (answers in) share.
 * Nobody else includes this.
 */
#ifndef RAFT_KV_BRIDGE_SESSION_INTERNAL_H
#define RAFT_KV_BRIDGE_SESSION_INTERNAL_H

#include "bridge/reads.h"
#include "bridge/session.h"
#include "bridge/status.h"
#include "bridge/window.h"

#define HOLD_MS_MIN 5u /* after a rejection that says "try again" */
#define HOLD_MS_MAX 50u
#define RESEND_MS_MIN 1000u /* without any progress, answers must have been lost */
#define RESEND_MS_MAX 8000u

struct session {
	struct session_options options;
	struct members *members;
	uint64_t generation_seen; /* of members: what is in flight was sent to that leader */

	uint64_t id;	      /* of the session in the store, 0: none */
	uint64_t incarnation; /* of the session in this process: ids from an earlier one do not count */
	uint64_t nonce;
	uint64_t registered_ms; /* when KV_REGISTER was sent and is unanswered, 0: it is not */
	bool lost;		/* the store does not know the session; nothing is sent until the last answer is in */

	struct window window;
	uint64_t write_progress_ms;
	uint64_t write_hold_until_ms;
	uint64_t write_pace_ms;
	uint64_t write_resend_ms;
	uint64_t send_again_ms; /* a frame could not be handed over; 0: none */

	struct read_table table;
	struct read_queue reads;
	struct read_queue stale;
	struct status status;
	struct session_counters counters;
};

/* Hands the answer to the request's client, if there still is one. False: it had no room for the value. */
bool session_answer(struct session *session, struct request *request, const uint8_t *data, uint32_t size);
void session_answer_problem(struct session *session, struct request *request, enum line_error error, const char *text);
/* The problem that a request ends with whose last rejection was `cause` (enum kv_answer, 0: never rejected). */
void session_answer_failure(struct session *session, struct request *request, uint8_t cause);
/* The session is through with a request that has been answered: frees it unless its connection still holds it. */
void session_end(struct session *session, struct request *request);
/* Takes a read out of its queue, but keeps it alive until session_end. */
void session_begin_end_of_read(struct session *session, struct read_queue *queue, struct request *request);
/* Its command becomes one that does nothing. */
void session_void(struct session *session, struct request *request);
/* All writes are to be sent again, after a while. */
void session_hold_writes(struct session *session, uint64_t now_ms);
void session_restart_writes(struct session *session, uint64_t now_ms);

void session_send(struct session *session, uint64_t now_ms);

#endif
