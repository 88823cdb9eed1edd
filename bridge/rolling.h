/*
 * The judgement behind raftctl restart --rolling: which member's turn it is, whether the cluster can spare it now, whether it
 * is back. Pure: decides from what the members said of themselves. What this must not know: how they were asked, how a
 * member is restarted.
 *
 * A member can be spared when a majority of the voters goes on without it: they answer, follow the leader in its term, and
 * have applied what was committed when the question came up. The one whose turn it is does not count: restarting a member that
 * hangs is no loss. A cluster of one or two voters cannot keep a majority without one of them: there all the others must
 * be well, and clients wait until it is back.
 */
#ifndef RAFTCTL_ROLLING_H
#define RAFTCTL_ROLLING_H

#include "daemon/entry.h"

#include <stdbool.h>
#include <stdint.h>

struct rolling_member {
	uint64_t id;
	bool voter;
	bool answered;	 /* the rest is meaningful only then */
	bool leads;	 /* by its own account */
	uint64_t leader; /* 0: none known */
	uint64_t term;
	uint64_t commit;
	uint64_t applied;
};

struct rolling_view {
	unsigned n;
	struct rolling_member members[RAFT_MEMBERS_MAX];
};

struct rolling_verdict {
	bool led;	 /* somebody leads */
	unsigned well;	 /* voters besides the one in question that are well */
	unsigned needed; /* of them */
	unsigned silent; /* voters that did not answer, without the one in question */
	bool can_be_spared;
};

/* Who leads, in the highest term that anybody knows. NULL: nobody. */
const struct rolling_member *rolling_find_leader(const struct rolling_view *view);
/* NULL: the cluster has no such member. */
const struct rolling_member *rolling_find_member(const struct rolling_view *view, uint64_t id);

/* It follows the leader, or is it, and has applied `target`. */
bool rolling_is_well(const struct rolling_view *view, uint64_t id, uint64_t target);
/* Whether `id` can be spared. `target`: the leader's commit index at an earlier look. */
void rolling_judge(const struct rolling_view *view, uint64_t id, uint64_t target, struct rolling_verdict *ret_verdict);

/* Whose turn it is among `ids`: the leader last, so that the leadership moves once at most; else the first. n > 0. */
unsigned rolling_choose(const struct rolling_view *view, const uint64_t *ids, unsigned n);

#endif
