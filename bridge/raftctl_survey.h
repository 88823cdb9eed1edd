/*
 * Every member's own account of itself, side by side: what `raftctl status` and `raftctl health` show. What this must not
 * know: what is printed.
 */
#ifndef RAFTCTL_SURVEY_H
#define RAFTCTL_SURVEY_H

#include "raftctl.h"
#include "raftctl_link.h"

struct survey {
	const struct config *config;
	struct ctl_links links;
	uint64_t asked_id[RAFT_MEMBERS_MAX];
	bool reachable[RAFT_MEMBERS_MAX];
	struct kv_member_status members[RAFT_MEMBERS_MAX];
};

/* Asks all members, or only the one that --id names. Prints why it could not. 0 or negative errno; after either survey_close
 * is due. */
int survey_take(const struct ctl *ctl, struct survey *ret_survey) __attribute__((warn_unused_result));
void survey_close(struct survey *survey);

unsigned survey_reachable(const struct survey *survey);
uint64_t survey_term(const struct survey *survey); /* the highest that anybody knows */
/* Who says that it leads, in that term: one that does so in an older term has been replaced and does not know it yet. NULL:
 * nobody. */
const struct kv_member_status *survey_leader(const struct survey *survey);
const char *survey_role_name(uint64_t role);

#endif
