/* See rolling.h. */
#include "rolling.h"

#include "daemon/assert.h"

#include <stddef.h>

const struct rolling_member *rolling_find_leader(const struct rolling_view *view)
{
	const struct rolling_member *leader = NULL;
	uint64_t term = 0;
	for (unsigned k = 0; k < view->n; k++)
		if (view->members[k].answered && view->members[k].term > term)
			term = view->members[k].term;
	for (unsigned k = 0; k < view->n; k++)
		if (view->members[k].answered && view->members[k].leads && view->members[k].term == term)
			leader = &view->members[k];
	return leader;
}

const struct rolling_member *rolling_find_member(const struct rolling_view *view, uint64_t id)
{
	for (unsigned k = 0; k < view->n; k++)
		if (view->members[k].id == id)
			return &view->members[k];
	return NULL;
}

bool rolling_is_well(const struct rolling_view *view, uint64_t id, uint64_t target)
{
	const struct rolling_member *leader = rolling_find_leader(view);
	const struct rolling_member *member = rolling_find_member(view, id);
	if (leader == NULL || member == NULL || !member->answered)
		return false;
	return (member == leader || member->leader == leader->id) && member->term == leader->term &&
	       member->applied >= target;
}

void rolling_judge(const struct rolling_view *view, uint64_t id, uint64_t target, struct rolling_verdict *ret_verdict)
{
	struct rolling_verdict verdict = {.led = rolling_find_leader(view) != NULL};
	unsigned voters = 0;
	unsigned others = 0;
	for (unsigned k = 0; k < view->n; k++) {
		const struct rolling_member *member = &view->members[k];
		voters += member->voter ? 1 : 0;
		if (!member->voter || member->id == id)
			continue;
		others++;
		verdict.silent += member->answered ? 0 : 1;
		verdict.well += rolling_is_well(view, member->id, target) ? 1 : 0;
	}
	unsigned majority = voters / 2 + 1;
	verdict.needed = majority < others ? majority : others;
	raft_assert(verdict.well + verdict.silent <= others);
	verdict.can_be_spared = verdict.led && verdict.well >= verdict.needed;
	*ret_verdict = verdict;
}

unsigned rolling_choose(const struct rolling_view *view, const uint64_t *ids, unsigned n)
{
	const struct rolling_member *leader = rolling_find_leader(view);
	raft_assert(n > 0);
	for (unsigned k = 0; k < n; k++)
		if (leader == NULL || ids[k] != leader->id)
			return k;
	return 0;
}
