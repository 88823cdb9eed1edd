/* See compare.h. */
#include "compare.h"

#include "daemon/assert.h"

void compare_add(struct compare *compare, unsigned member, uint64_t index, uint64_t hash)
{
	raft_assert(member < RAFT_MEMBERS_MAX);
	struct compare_member *to = &compare->members[member];
	for (unsigned k = 0; k < COMPARE_SAMPLES; k++)
		if (index == 0 || (to->samples[k].index == index && to->samples[k].hash == hash))
			return;
	to->samples[to->count++ % COMPARE_SAMPLES] = (struct compare_sample){index, hash};
}

enum compare_verdict compare_two(const struct compare *compare, unsigned a, unsigned b, uint64_t *ret_index)
{
	const struct compare_member *x = &compare->members[a];
	const struct compare_member *y = &compare->members[b];
	enum compare_verdict verdict = COMPARE_UNKNOWN;
	for (unsigned i = 0; i < COMPARE_SAMPLES; i++) {
		for (unsigned k = 0; k < COMPARE_SAMPLES; k++) {
			if (x->samples[i].index == 0 || x->samples[i].index != y->samples[k].index)
				continue;
			*ret_index = x->samples[i].index;
			if (x->samples[i].hash != y->samples[k].hash)
				return COMPARE_DIFFERENT;
			verdict = COMPARE_SAME;
		}
	}
	return verdict;
}

enum compare_verdict compare_all(const struct compare *compare, const unsigned *members, unsigned n)
{
	bool reached[RAFT_MEMBERS_MAX] = {true}; /* found to be the same as the first, directly or not */
	unsigned n_reached = n > 0 ? 1 : 0;
	uint64_t index;
	for (unsigned round = 0; round < n; round++) {
		for (unsigned a = 0; a < n; a++) {
			for (unsigned b = 0; b < n; b++) {
				if (a == b)
					continue;
				enum compare_verdict verdict = compare_two(compare, members[a], members[b], &index);
				if (verdict == COMPARE_DIFFERENT)
					return COMPARE_DIFFERENT;
				if (verdict == COMPARE_SAME && reached[a] && !reached[b]) {
					reached[b] = true;
					n_reached++;
				}
			}
		}
	}
	return n_reached == n ? COMPARE_SAME : COMPARE_UNKNOWN;
}
