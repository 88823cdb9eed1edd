/*
 * `status`: asks every member, waits for a moment, and makes one line of each. All that ask meanwhile share the answer.
 *
 * What this must not know: connections of clients; it hands the text to the session.
 */
#ifndef RAFT_KV_BRIDGE_STATUS_H
#define RAFT_KV_BRIDGE_STATUS_H

#include "bridge/members.h"
#include "bridge/request.h"

#define STATUS_WAIT_MS 500u
#define STATUS_TEXT_MAX (RAFT_MEMBERS_MAX * 512u)

struct status {
	struct request *waiting; /* linked by newer */
	uint64_t round;
	uint64_t deadline_ms;
	bool running;
	bool answered[RAFT_MEMBERS_MAX];
	struct kv_member_status members[RAFT_MEMBERS_MAX];
};

/* Joins the round that is under way, or begins one. */
void status_add(struct status *status, struct members *members, struct request *request, uint64_t now_ms);
void status_take(struct status *status, unsigned member, uint64_t round, const struct kv_answer_body *answer);
/* True when every connected member has answered or the time is over: write the text, then take the requests. */
bool status_is_complete(const struct status *status, const struct members *members, uint64_t now_ms);
size_t status_write(const struct status *status, const struct members *members, char text[STATUS_TEXT_MAX]);
/* The next request to be answered, NULL at the end of the round. */
struct request *status_next(struct status *status);
uint64_t status_due_ms(const struct status *status);

#endif
