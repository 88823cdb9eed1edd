/*
 * One question to the cluster and its answer, or a clear reason why there is none. Finds the leader, follows it when it
 * changes, asks again until the deadline. What this must not know: what the commands of raftctl print.
 */
#ifndef RAFTCTL_CALL_H
#define RAFTCTL_CALL_H

#include "raftctl_link.h"

struct ctl_question {
	uint8_t type; /* enum kv_request_type */
	const uint8_t *body;
	uint32_t size;
	bool write; /* asking again may do something twice, unless a session stops it: unclear ends are told apart */
};

struct ctl_call {
	struct ctl_links *links;
	uint64_t deadline_us;
	unsigned link;	   /* the one that answered; meaningful after a call returned CTL_OK */
	bool leader_known; /* it was the leader */
	bool repeated;	   /* an earlier copy of the question may have been taken as well; meaningful likewise */
};

/* Asks whoever leads. On CTL_OK *ret_answer (valid until the next call) is a final one: KV_ANSWER_OK, _NOT_FOUND or
 * _BAD_REQUEST. Otherwise says on stderr what is wrong and returns CTL_UNREACHABLE, CTL_FAILED or CTL_TIMEOUT. */
int ctl_call_leader(struct ctl_call *call, const struct ctl_question *question, struct kv_answer_body *ret_answer)
	__attribute__((warn_unused_result));

/* Asks the first link that comes up (the only one, when opened for one member); the same otherwise. */
int ctl_call_any(struct ctl_call *call, const struct ctl_question *question, struct kv_answer_body *ret_answer)
	__attribute__((warn_unused_result));

/* Waits until a member other than `not_id` (0: any) says that it leads. CTL_OK and its id and term, or as above. */
int ctl_call_find_leader(struct ctl_call *call, uint64_t not_id, uint64_t *ret_id, uint64_t *ret_term)
	__attribute__((warn_unused_result));

const char *ctl_answer_name(uint8_t answer);

#endif
