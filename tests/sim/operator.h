/*
 * Operators: operator.c asks and looks at the answers, pages.c answers for a member, operator_watch.c looks again and again,
 * operator_files.c has what operators do with files. Nobody else includes it.
 */
#ifndef RAFT_KV_SIM_OPERATOR_H
#define RAFT_KV_SIM_OPERATOR_H

#include "codec.h"
#include "protocol.h"

#include "kv/admin.h"

#define SIM_PAGE_BYTES 4096u /* of a page, unless one item is larger */
#define SIM_DISTORTIONS 4u   /* of each body */

struct sim_question {
	unsigned member;
	uint8_t type;
	const uint8_t *body;
	uint32_t size;
	enum sim_codec codec; /* of the body */
};

/* The answer lies in the frame, which is the caller's. False: there is none, the member or a frame got lost. */
bool sim_operator_ask(struct sim *sim, const struct sim_question *question, struct sim_random *random,
		      struct kv_frame *frame, struct kv_answer_body *ret_answer);

/* operator_watch.c: what a status says of the member's health and program; its beats. */
struct sim_watching;
struct sim_watching *sim_watching_new(void);
void sim_watching_free(struct sim_watching *watching);
void sim_watch_health(struct sim *sim, unsigned member, const struct kv_member_status *status);
void sim_watch_beats(struct sim *sim, struct sim_watching *watching, unsigned member, struct sim_random *random);

/* Adds the member's answer to the frame. */
void sim_pages_answer(struct sim *sim, unsigned member, const struct kv_frame_item *item, struct kv_frame *reply);

/* The entry at this revision wrote this value. */
void sim_operator_check_value(struct sim *sim, unsigned member, uint64_t revision, const uint8_t *value, uint32_t size);
/* A state that was read from a member: it must be the one of the index. Bytes of a whole snapshot's stream. */
void sim_operator_restore(struct sim *sim, struct sim_random *random, unsigned member, uint64_t applied,
			  const uint8_t *bytes, size_t size);

/* Looks at what monitors are told, and at the log from before its beginning: operator_metrics.c. */
void sim_operator_measure(struct sim *sim, unsigned member, struct sim_random *random);

#endif
